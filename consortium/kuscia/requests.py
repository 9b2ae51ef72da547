"""Kuscia's objects (objects.py) as requests of KusciaAPI, and whether what the node has is what was asked for. Pure.

InteropConfig is left out: KusciaAPI has no call for it, and Kuscia makes one itself for each route to a partner
(pkg/controllers/clusterdomainroute/interconn.go).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

Json = dict[str, Any]


def requests(objects: Iterable[Json]) -> dict[str, Json]:
    """`Kind name` → {kind, body}, in the order in which one needs the other."""
    found = {}
    for one in objects:
        if translate := _BODIES.get(one["kind"]):
            metadata = one["metadata"]
            name = f"{metadata['namespace']}/{metadata['name']}" if "namespace" in metadata else metadata["name"]
            found[f"{one['kind']} {name}"] = {"kind": one["kind"], "body": translate(metadata, one["spec"])}
    return found


def differences(kind: str, body: Json, found: Json) -> list[str]:
    """The fields in which the node's answer to a query differs from what was asked for."""
    shown = found.get("data", found) if kind == "DomainDataGrant" else found
    # A grant's answer has no domain: it was asked for by that.
    left_out = {"domain_id"} if kind == "DomainDataGrant" else set()
    return [where for key, value in body.items() if key not in left_out for where in _lost(value, shown.get(key), key)]


def _lost(wanted: object, found: object, where: str) -> Iterator[str]:
    """The node may say more than was asked for; a 64-bit number comes back as text, an empty list as nothing."""
    if isinstance(wanted, Mapping) and isinstance(found, Mapping):
        for key, value in wanted.items():
            yield from _lost(value, found.get(key), f"{where}.{key}")
    elif isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        for index, (one, other) in enumerate(zip(wanted, found, strict=True)):
            yield from _lost(one, other, f"{where}[{index}]")
    elif (wanted or found) and str(wanted) != str(found):
        yield where


def _domain(metadata: Json, spec: Json) -> Json:
    auth = spec["authCenter"]
    return {
        "domain_id": metadata["name"],
        "role": spec["role"],
        "cert": spec["cert"],
        "master_domain_id": spec["master"],
        "auth_center": {
            "authentication_type": auth["authenticationType"],
            "token_gen_method": auth["tokenGenMethod"],
        },
    }


def _route(_: Json, spec: Json) -> Json:
    end, token = spec["endpoint"], spec["tokenConfig"]
    ports = [
        {"name": p["name"], "port": p["port"], "protocol": p["protocol"], "isTLS": p["isTLS"]} for p in end["ports"]
    ]
    return {
        "source": spec["source"],
        "destination": spec["destination"],
        "authentication_type": spec["authenticationType"],
        "endpoint": {"host": end["host"], "ports": ports},
        "token_config": {
            "token_gen_method": token["tokenGenMethod"],
            "rolling_update_period": token["rollingUpdatePeriod"],
        },
    }


def _app_image(metadata: Json, spec: Json) -> Json:
    return {
        "name": metadata["name"],
        "image": spec["image"],
        "config_templates": spec["configTemplates"],
        "deploy_templates": [
            {
                "name": template["name"],
                "replicas": template["replicas"],
                "restart_policy": template["spec"]["restartPolicy"],
                "containers": [_container(container) for container in template["spec"]["containers"]],
            }
            for template in spec["deployTemplates"]
        ],
    }


def _container(container: Json) -> Json:
    mounts = [{"mount_path": m["mountPath"], "sub_path": m["subPath"]} for m in container["configVolumeMounts"]]
    return {
        "name": container["name"],
        "command": container["command"],
        "args": container["args"],
        "working_dir": container["workingDir"],
        "config_volume_mounts": mounts,
        "ports": container["ports"],
    }


def _source(metadata: Json, spec: Json) -> Json:
    return {
        "domain_id": metadata["namespace"],
        "datasource_id": metadata["name"],
        "name": spec["name"],
        "type": spec["type"],
        "info": json.loads(spec["data"]["encryptInfo"]),  # Kuscia encrypts it with the party's key
    }


def _data(metadata: Json, spec: Json) -> Json:
    return {
        "domain_id": metadata["namespace"],
        "domaindata_id": metadata["name"],
        "name": spec["name"],
        "type": spec["type"],
        "relative_uri": spec["relativeURI"],
        "datasource_id": spec["dataSource"],
        "attributes": spec["attributes"],
        "columns": spec["columns"],
        "vendor": spec["vendor"],
    }


def _grant(metadata: Json, spec: Json) -> Json:
    return {
        "domain_id": metadata["namespace"],
        "domaindatagrant_id": metadata["name"],
        "domaindata_id": spec["domainDataID"],
        "grant_domain": spec["grantDomain"],
    }


_BODIES: Mapping[str, Callable[[Json, Json], Json]] = {
    "Domain": _domain,
    "ClusterDomainRoute": _route,
    "AppImage": _app_image,
    "DomainDataSource": _source,
    "DomainData": _data,
    "DomainDataGrant": _grant,
}
