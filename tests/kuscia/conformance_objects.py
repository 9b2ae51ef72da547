"""Requests of KusciaAPI to objects in an API server, and back: what pkg/kusciaapi/service of Kuscia does by kind.

Fields of a proto file are filled when they are read (`EmitUnpopulated`), as Kuscia's answers are.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from consortium.kuscia import keys

Json = dict[str, Any]
GROUP = "kuscia.secretflow/v1alpha1"
VALIDATE = 11100
_OAEP = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)


class Failed(Exception):
    """What the server answers with in place of success."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


def need(body: Json, *names: str) -> None:
    for name in names:
        if not body.get(name):
            raise Failed(VALIDATE, f"{name} can not be empty")


def made(kind: str, name: str, spec: Json, namespace: str = "", labels: Json | None = None) -> Json:
    metadata: Json = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {
        "apiVersion": GROUP, "kind": kind, "metadata": metadata | ({"labels": labels} if labels else {}), "spec": spec
    }  # fmt: skip


Need = tuple[tuple[str, str, str], int]
"""((kind, namespace, name), code where it is not there)."""


@dataclass(frozen=True)
class Service:
    """One kind: how a request becomes an object, how an object is answered, and Kuscia's codes for what goes wrong."""

    kind: str
    path: str
    create_failed: int
    query_failed: int
    missing: int
    exists: int
    name: Callable[[Json], tuple[str, str]]
    """(namespace, name) of a request."""
    make: Callable[[Json, keys.Domain], Json]
    tell: Callable[[Json, keys.Domain], Json]
    updates: bool = True
    nested: bool = False
    exists_silently: bool = False
    """A create of what is there is an update (domaindata_service.go)."""
    exists_badly: bool = False
    """A create of what is there fails with the code of any failure (domaindata_grant.go, domaindata_source.go)."""
    deleted_silently: bool = False
    """A delete of what is not there succeeds (domaindata_source.go)."""
    delete_failed: int = 0
    """Where a delete of what is not there has no code of its own (appimage_service.go)."""
    needs: Callable[[Json], list[Need]] = lambda _: []
    """What must be there first."""


def _domain(body: Json, _: keys.Domain) -> Json:
    if body["domain_id"] == "master":
        raise Failed(VALIDATE, "domain id can not be 'master', please choose another name")
    role, cert = body.get("role", ""), body.get("cert", "").strip("\n")
    if role not in ("", "partner"):
        raise Failed(VALIDATE, "role is invalid, must be empty or partner")
    if cert:
        cert = _certificate(cert)
    auth = body.get("auth_center") or {"authentication_type": "Token", "token_gen_method": "RSA-GEN"}
    spec: Json = {"cert": cert, "role": role, "master": body.get("master_domain_id", "")}
    spec["authCenter"] = {
        "authenticationType": auth["authentication_type"], "tokenGenMethod": auth["token_gen_method"]
    }  # fmt: skip
    if role:
        spec["interConnProtocols"] = ["kuscia"]
    return made("Domain", body["domain_id"], {key: value for key, value in spec.items() if value})


def _certificate(text: str) -> str:
    """As it is stored: base64 over PEM. A bare PEM is taken too."""
    pem = text.encode() if text.startswith("-----") else base64.b64decode(text, validate=False)
    try:
        x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        raise Failed(VALIDATE, f"verify cert: {error}") from None
    return base64.b64encode(pem).decode()


def _told_domain(found: Json, _: keys.Domain) -> Json:
    spec = found["spec"]
    auth = spec.get("authCenter")
    return {
        "domain_id": found["metadata"]["name"], "role": spec.get("role", ""), "cert": spec.get("cert", ""),
        "node_statuses": [], "deploy_token_statuses": [], "annotations": {},
        "master_domain_id": spec.get("master", ""),
        "auth_center": auth and {
            "authentication_type": auth["authenticationType"], "token_gen_method": auth["tokenGenMethod"]
        },
    }  # fmt: skip


def _route(body: Json, _: keys.Domain) -> Json:
    if body["authentication_type"] not in ("Token", "MTLS", "None"):
        raise Failed(VALIDATE, f"unsupported authentication type: {body['authentication_type']}")
    end = body.get("endpoint") or {}
    if not end.get("ports"):
        raise Failed(VALIDATE, "endpoint can not be empty when transit is not set")
    ports = [
        {
            "name": p["name"], "port": p["port"], "protocol": p["protocol"].removesuffix("S"),
            "isTLS": p.get("isTLS", False) or p["protocol"].endswith("S"), "pathPrefix": p.get("path_prefix", ""),
        }
        for p in end.get("ports", [])
    ]  # fmt: skip
    spec: Json = {
        "source": body["source"], "destination": body["destination"],
        "authenticationType": body["authentication_type"], "endpoint": {"host": end.get("host", ""), "ports": ports},
    }  # fmt: skip
    if body["authentication_type"] == "Token":
        token = body.get("token_config") or {"token_gen_method": "RSA-GEN"}
        names = {
            "destination_public_key": "destinationPublicKey", "source_public_key": "sourcePublicKey",
            "rolling_update_period": "rollingUpdatePeriod", "token_gen_method": "tokenGenMethod",
        }  # fmt: skip
        spec["tokenConfig"] = {names[key]: _number(value) for key, value in token.items() if value}
    return made("ClusterDomainRoute", f"{body['source']}-{body['destination']}", spec)


def _number(value: Any) -> Any:
    """int64 is a string in the JSON of a proto message; a number is taken too."""
    return int(value) if isinstance(value, str) and value.isdigit() else value


def _told_route(found: Json, _: keys.Domain) -> Json:
    spec = found["spec"]
    token = spec.get("tokenConfig")
    ports = [
        {
            "name": p["name"], "port": p["port"], "protocol": p["protocol"], "isTLS": p.get("isTLS", False),
            "path_prefix": p.get("pathPrefix", ""),
        }
        for p in spec.get("endpoint", {}).get("ports", [])
    ]  # fmt: skip
    ready = found.get("status", {}).get("tokenStatus", {}).get("sourceTokens")
    return {
        "name": found["metadata"]["name"], "authentication_type": spec["authenticationType"],
        "source": spec["source"], "destination": spec["destination"], "mtls_config": None, "transit": None,
        "body_encryption": None, "endpoint": {"host": spec.get("endpoint", {}).get("host", ""), "ports": ports},
        "token_config": token and {
            "destination_public_key": token.get("destinationPublicKey", ""),
            "source_public_key": token.get("sourcePublicKey", ""),
            "rolling_update_period": str(token.get("rollingUpdatePeriod", 0)),
            "token_gen_method": token.get("tokenGenMethod", ""),
        },
        "status": {"status": "Succeeded" if ready else "Failed", "reason": "" if ready else "TokenNotGenerate"},
    }  # fmt: skip


_CONTAINER = {"name": "name", "command": "command", "args": "args", "working_dir": "workingDir"}


def _app_image(body: Json, _: keys.Domain) -> Json:
    if not (body.get("image") or {}).get("name"):
        raise Failed(VALIDATE, "base image name can not be empty")
    if not body.get("deploy_templates"):
        raise Failed(VALIDATE, "deploy templates can not be empty")
    templates = []
    for template in body["deploy_templates"]:
        containers = []
        for container in template["containers"]:
            need(container, "name")
            one: Json = {key: container[name] for name, key in _CONTAINER.items() if container.get(name)}
            mounts = container.get("config_volume_mounts", [])
            one["configVolumeMounts"] = [{"mountPath": m["mount_path"], "subPath": m["sub_path"]} for m in mounts]
            one["ports"] = container.get("ports", [])
            containers.append(one)
        spec = {"containers": containers, "restartPolicy": template.get("restart_policy", "")}
        role = {"role": template["role"]} if template.get("role") else {}
        templates.append(
            {"name": template["name"], **role, "replicas": template.get("replicas", 0),
             "spec": {key: value for key, value in spec.items() if value}}
        )  # fmt: skip
    image = {key: value for key, value in body["image"].items() if value}
    spec = {"image": image, "configTemplates": body.get("config_templates", {}), "deployTemplates": templates}
    return made("AppImage", body["name"], spec)


def _told_app_image(found: Json, _: keys.Domain) -> Json:
    spec = found["spec"]
    templates = [
        {
            "name": t["name"], "role": t.get("role", ""), "replicas": t.get("replicas", 0),
            "restart_policy": t["spec"].get("restartPolicy", ""),
            "containers": [
                {name: c.get(key, [] if name in ("command", "args") else "") for name, key in _CONTAINER.items()}
                | {
                    "config_volume_mounts": [
                        {"mount_path": m["mountPath"], "sub_path": m["subPath"]}
                        for m in c.get("configVolumeMounts", [])
                    ],
                    "ports": [{"scope": "", **p} for p in c.get("ports", [])],
                    "env": [], "env_from": [], "resources": {"limits": None, "requests": None},
                    "liveness_probe": None, "readiness_probe": None, "startup_probe": None, "image_pull_policy": "",
                }
                for c in t["spec"]["containers"]
            ],
        }
        for t in spec["deployTemplates"]
    ]  # fmt: skip
    image = {name: spec["image"].get(name, "") for name in ("name", "tag", "id", "sign")}
    return {
        "name": found["metadata"]["name"], "image": image, "config_templates": spec.get("configTemplates", {}),
        "deploy_templates": templates,
    }  # fmt: skip


def _source(body: Json, own: keys.Domain) -> Json:
    _own_only(body, own)
    if body["type"] not in ("localfs", "oss", "mysql", "odps", "postgresql", "hive", "dameng"):
        raise Failed(VALIDATE, f'domain data source type "{body["type"]}" doesn\'t support')
    if not body.get("info"):
        raise Failed(11800, "domain data source info key and info all empty")
    spec: Json = {"type": body["type"], "name": body.get("name", "")}
    if body["type"] == "localfs":
        if not (body["info"].get("localfs") or {}).get("path"):
            raise Failed(VALIDATE, "invalid datasource info")
        spec["uri"] = body["info"]["localfs"]["path"]
    public = _key(own).public_key()
    info = json.dumps(body["info"]).encode()
    spec["data"] = {"encryptedInfo": base64.b64encode(public.encrypt(info, _OAEP)).decode()}
    spec["accessDirectly"] = body.get("access_directly", False)
    return made("DomainDataSource", body["datasource_id"], spec, body["domain_id"])


def _told_source(found: Json, own: keys.Domain) -> Json:
    spec = found["spec"]
    info = json.loads(_key(own).decrypt(base64.b64decode(spec["data"]["encryptedInfo"]), _OAEP))
    return {
        "domain_id": found["metadata"]["namespace"], "datasource_id": found["metadata"]["name"],
        "name": spec.get("name", ""), "type": spec["type"], "status": "",
        "info": {"localfs": None, "oss": None, "database": None, "odps": None, **info}, "info_key": "",
        "access_directly": spec.get("accessDirectly", False),
    }  # fmt: skip


def _own_only(body: Json, own: keys.Domain) -> None:
    if body["domain_id"] != own.party:
        raise Failed(VALIDATE, f"domain {own.party} can't operate domain {body['domain_id']} data source")


def _key(own: keys.Domain) -> rsa.RSAPrivateKey:
    found = serialization.load_pem_private_key(own.key.encode(), None)
    assert isinstance(found, rsa.RSAPrivateKey)
    return found


def _data(body: Json, _: keys.Domain) -> Json:
    need(body, "type", "relative_uri")
    columns = [
        {
            "name": c["name"], "type": c["type"], "comment": c.get("comment", ""),
            "notNullable": c.get("not_nullable", False),
        }
        for c in body.get("columns", [])
    ]  # fmt: skip
    spec = {
        "relativeURI": body["relative_uri"], "name": body.get("name", ""), "type": body["type"],
        "dataSource": body.get("datasource_id", ""), "attributes": body.get("attributes", {}), "columns": columns,
        "vendor": body.get("vendor", ""), "author": body["domain_id"], "fileFormat": "",
    }  # fmt: skip
    labels = {
        "kuscia.secretflow/domaindata-type": body["type"],
        "kuscia.secretflow/domaindata-vendor": body.get("vendor", ""),
        "kuscia.secretflow/interconn-protocol-type": "kuscia",
    }
    return made("DomainData", body["domaindata_id"], {k: v for k, v in spec.items() if v}, body["domain_id"], labels)


def _told_data(found: Json, _: keys.Domain) -> Json:
    spec = found["spec"]
    columns = [
        {
            "name": c["name"], "type": c["type"], "comment": c.get("comment", ""),
            "not_nullable": c.get("notNullable", False),
        }
        for c in spec.get("columns", [])
    ]  # fmt: skip
    return {
        "domaindata_id": found["metadata"]["name"], "domain_id": found["metadata"]["namespace"],
        "name": spec["name"], "type": spec["type"], "relative_uri": spec["relativeURI"],
        "datasource_id": spec.get("dataSource", ""), "attributes": spec.get("attributes", {}), "partition": None,
        "columns": columns, "vendor": spec.get("vendor", ""), "status": "Available", "author": spec["author"],
        "file_format": "UNKNOWN",
    }  # fmt: skip


def _grant(body: Json, _: keys.Domain) -> Json:
    need(body, "grant_domain", "domaindata_id")
    if body["grant_domain"] == body["domain_id"]:
        raise Failed(VALIDATE, "grantdomain can't be self")
    spec = {
        "author": body["domain_id"], "domainDataID": body["domaindata_id"], "grantDomain": body["grant_domain"],
        "signature": body.get("signature", ""), "description": body.get("description", {}),
    }  # fmt: skip
    labels = {"kuscia.secretflow/domaindatagrant-domain": body["grant_domain"]}
    found = {key: value for key, value in spec.items() if value}
    return made("DomainDataGrant", body["domaindatagrant_id"], found, body["domain_id"], labels)


def _told_grant(found: Json, _: keys.Domain) -> Json:
    spec = found["spec"]
    data = {
        "domaindatagrant_id": found["metadata"]["name"], "author": spec["author"],
        "domaindata_id": spec["domainDataID"], "grant_domain": spec["grantDomain"], "limit": None, "description": {},
        "signature": "", "domain_id": "",
    }  # fmt: skip
    return {"data": data, "status": {"phase": "", "message": "", "records": []}}


def _domains_first(body: Json) -> list[Need]:
    return [(("Domain", "", body[end]), 11305) for end in ("source", "destination")]


def _source_first(body: Json) -> list[Need]:
    source = body.get("datasource_id")
    return [(("DomainDataSource", body["domain_id"], source), 11806)] if source else []


def _data_first(body: Json) -> list[Need]:
    return [(("DomainData", body["domain_id"], body["domaindata_id"]), VALIDATE)]


SERVICES = (
    Service(
        "Domain", "domain", 11300, 11301, 11305, 11306, lambda b: ("", b["domain_id"]), _domain, _told_domain
    ),
    Service(
        "ClusterDomainRoute", "route", 11400, 11401, 11404, 11405,
        lambda b: ("", f"{b['source']}-{b['destination']}"), _route, _told_route, updates=False, needs=_domains_first,
    ),
    Service(
        "AppImage", "appimage", 13100, 13101, 13105, 13106, lambda b: ("", b["name"]), _app_image, _told_app_image,
        delete_failed=13103,
    ),
    Service(
        "DomainDataSource", "domaindatasource", 11800, 11802, 11802, 11805,
        lambda b: (b["domain_id"], b["datasource_id"]), _source, _told_source, exists_badly=True,
        deleted_silently=True,
    ),
    Service(
        "DomainData", "domaindata", 11500, 11502, 11506, 11507, lambda b: (b["domain_id"], b["domaindata_id"]),
        _data, _told_data, nested=True, exists_silently=True, needs=_source_first,
    ),
    Service(
        "DomainDataGrant", "domaindatagrant", 11700, 11702, 11705, 11704,
        lambda b: (b["domain_id"], b["domaindatagrant_id"]), _grant, _told_grant, exists_badly=True, needs=_data_first,
    ),
)  # fmt: skip
