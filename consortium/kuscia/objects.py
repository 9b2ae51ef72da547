"""Kuscia's own objects of one institution: who the peers are, routes both ways, the engine, the data and its grants.

Pure: models in, objects out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from consortium.kuscia.keys import encoded
from consortium.kuscia.settings import Engine, KusciaSettings
from consortium.spec import Dataset, Model, Party
from coordinator.components import data_id

Object = dict[str, Any]

API_VERSION = "kuscia.secretflow/v1alpha1"
PROTOCOL = "kuscia"
APP_IMAGE = "secretflow-image"
DATA_SOURCE = "default-data-source"
DATA_PATH = "/home/kuscia/var/storage/data"
TASK_CONFIG = "task-config.conf"
# Names, protocols and scopes are those that SecretFlow's adapter asks for; it fails without `inference`.
ENGINE_PORTS = (
    ("spu", "GRPC", "Cluster"),
    ("fed", "GRPC", "Cluster"),
    ("global", "GRPC", "Domain"),
    ("node-manager", "GRPC", "Local"),
    ("object-manager", "GRPC", "Local"),
    ("client-server", "GRPC", "Local"),
    ("inference", "HTTP", "Cluster"),
)
_PLACEHOLDERS = {
    "task_id": "{{.TASK_ID}}",
    "task_input_config": "{{.TASK_INPUT_CONFIG}}",
    "task_cluster_def": "{{.TASK_CLUSTER_DEFINE}}",
    "allocated_ports": "{{.ALLOCATED_PORTS}}",
}


def objects(model: Model, settings: KusciaSettings, certificates: Mapping[str, str]) -> list[Object]:
    """Everything an institution's node is told, in the order in which it must come to be.

    `certificates`: PEM of each peer's domain. KeyError if one is missing: a peer without it would be a stranger.
    """
    found = [app_image(settings.engine)]
    for name, peer in model.peers.items():
        found += [
            partner(name, certificates[name]),
            route(model.party, name, settings, peer),
            interop(host=name, member=model.party),
        ]
    found += [data_source(model.party)] if model.settings.datasets else []
    for name in model.settings.datasets:
        found.append(dataset(model.party, name, model.own.datasets[name]))
        found += [grant(model.party, name, peer) for peer in model.peers]
    return found


def partner(party: str, certificate: str) -> Object:
    """A peer's domain, known by the public key of its certificate."""
    spec = {"role": "partner", "cert": encoded(certificate), "master": party, "interConnProtocols": [PROTOCOL]}
    return _object(
        "Domain", party, {**spec, "authCenter": {"authenticationType": "Token", "tokenGenMethod": "RSA-GEN"}}
    )


def route(source: str, destination: str, settings: KusciaSettings, to: Party) -> Object:
    """The way to a peer. `to`: where it ends.

    The way in is none of ours: Kuscia makes it with the peer's domain and puts in it the right to fetch jobs from this
    node (createClusterDomainRoute in pkg/controllers/domain). One that KusciaAPI made would let the peer fetch nothing.
    """
    port = {"name": "http", "protocol": "HTTP", "isTLS": True, "port": to.gateway.port}
    spec: Object = {
        "source": source,
        "destination": destination,
        "interConnProtocol": PROTOCOL,
        "authenticationType": "Token",
        "tokenConfig": {"tokenGenMethod": "RSA-GEN", "rollingUpdatePeriod": settings.token_hours * 3600},
        "endpoint": {"host": to.gateway.host, "ports": [port]},
    }
    return _object("ClusterDomainRoute", f"{source}-{destination}", spec)


def interop(host: str, member: str) -> Object:
    """Jobs that `host` starts are fetched from it by `member`."""
    return _object("InteropConfig", f"{member}-2-{host}", {"host": host, "members": [member]})


def app_image(engine: Engine) -> Object:
    """How a task of SecretFlow is started."""
    container = {
        "name": "secretflow",
        "command": ["sh"],
        "args": ["-c", f"python -m secretflow.kuscia.entry ./kuscia/{TASK_CONFIG}"],
        "workingDir": "/work",
        "configVolumeMounts": [{"mountPath": f"/work/kuscia/{TASK_CONFIG}", "subPath": TASK_CONFIG}],
        "ports": [{"name": name, "protocol": protocol, "scope": scope} for name, protocol, scope in ENGINE_PORTS],
    }
    spec = {
        "image": {"name": engine.name, "tag": engine.tag, "id": engine.id},
        "configTemplates": {TASK_CONFIG: json.dumps(_PLACEHOLDERS, indent=2)},
        "deployTemplates": [
            {"name": "secretflow", "replicas": 1, "spec": {"restartPolicy": "Never", "containers": [container]}}
        ],
    }
    return _object("AppImage", APP_IMAGE, spec)


def data_source(party: str) -> Object:
    """The folder of the node in which datasets and results lie."""
    spec = {
        "name": DATA_SOURCE,
        "type": "localfs",
        "uri": DATA_PATH,
        "data": {"encryptInfo": json.dumps({"localfs": {"path": DATA_PATH}})},
    }
    return _object("DomainDataSource", DATA_SOURCE, spec, party, {"domaindatasource-type": "localfs"})


def dataset(party: str, name: str, public: Dataset) -> Object:
    """A table, by what the party's file says of it. A column without a type there is text.

    The types are those of SecretFlow (_str_to_pa_dtype in secretflow/component/core/dist_data/vtable.py).
    """
    spec = {
        "name": f"{name}.csv",
        "type": "table",
        "relativeURI": f"{name}.csv",
        "dataSource": DATA_SOURCE,
        "author": party,
        "vendor": "manual",
        "attributes": {"description": public.description},
        "columns": [{"name": column, "type": public.types.get(column, "str")} for column in public.columns],
    }
    labels = {
        "domaindata-type": "table",
        "domaindata-vendor": "manual",
        "interconn-protocol-type": PROTOCOL,
        "initiator": party,
    }
    return _object("DomainData", data_id(name), spec, party, labels)


def grant(party: str, name: str, to: str) -> Object:
    """A peer may name this table in a job."""
    spec = {"author": party, "domainDataID": data_id(name), "grantDomain": to}
    return _object("DomainDataGrant", f"{data_id(name)}-{to}", spec, party, {"domaindataid": data_id(name)})


def _object(kind: str, name: str, spec: Object, namespace: str = "", labels: Mapping[str, str] | None = None) -> Object:
    metadata: Object = {"name": name}
    if namespace:
        metadata["namespace"] = namespace
    if labels:
        metadata["labels"] = {f"kuscia.secretflow/{key}": value for key, value in labels.items()}
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec}


def namespaces(found: Iterable[Object]) -> set[str]:
    """The domains whose namespace must be there before the objects: Kuscia makes one for each domain."""
    return {o["metadata"]["namespace"] for o in found if "namespace" in o["metadata"]}
