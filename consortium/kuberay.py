"""One institution as Kubernetes objects, its Ray run by KubeRay: the same image, files and names as on an engine.

Head (Ray and, beside it in the pod, the coordinator), workers and gateway start the launchers that `consortium up` lays
elsewhere. Pure: a model and secrets in, objects out. Secrets stand in objects of their own (`secret_objects`), which
only the containers that need them mount.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any

from consortium import ports
from consortium.node_addresses import gateway_name, head_name
from consortium.node_file import Host, NodeFile
from consortium.node_paths import ACCESS_DIR, CONFIG_DIR, DATA_DIR, JOBS_DIR, STATE_DIR
from consortium.nodefiles import Secrets, files_for
from consortium.settings import Resources
from consortium.spec import Model

Object = dict[str, Any]

RAY, COORDINATOR, GATEWAY = 2001, 2002, 2003
"""Users of the image (roles/base)."""
PATH = "/opt/secretflow/bin:/usr/local/bin:/usr/bin:/bin"
COORDINATOR_LIMITS = Resources(memory_mb=1024, cpus=1)
STATE_GI, JOBS_GI, ACCESS_GI = 10, 50, 1
"""Sizes of the claims, for a storage class that can enlarge them."""


def objects(model: Model, secrets: Secrets, image: str) -> list[Object]:
    """Everything but secrets, in the order in which to apply it. `image` is a reference by digest."""
    hosts = {"head": Host(head_name(model.party), "head", 0), "gateway": Host(gateway_name(model.party), "gateway", 0)}
    hosts |= {"worker": Host(f"{model.party}-worker", "worker", 0)} if model.settings.workers else {}
    files = {role: files_for(model, secrets, host) for role, host in hosts.items()}
    return [
        *(_config_map(model, role, found) for role, found in files.items()),
        *(
            _claim(model, "state", STATE_GI, "ReadWriteOnce"),
            _claim(model, "jobs", JOBS_GI),
            _claim(model, "access", ACCESS_GI),
        ),
        *_services(model),
        *_network_policies(model),
        _ray_cluster(model, files, image),
        _gateway(model, files["gateway"], image),
    ]


def secret_objects(model: Model, secrets: Secrets) -> list[Object]:
    """The secrets of head and gateway, in clear."""
    hosts = (Host(head_name(model.party), "head", 0), Host(gateway_name(model.party), "gateway", 0))
    return [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": _metadata(model, _secret_name(model, host.role)),
            "stringData": {_key(file): file.content for file in files_for(model, secrets, host) if file.secret},
        }
        for host in hosts
    ]


def _metadata(model: Model, name: str, **more: Any) -> Object:
    return {"name": name, "labels": _labels(model), **more}


def _labels(model: Model, role: str = "") -> dict[str, str]:
    found = {"consortium.name": model.consortium.name, "consortium.party": model.party}
    return found | ({"consortium.role": role} if role else {})


def _secret_name(model: Model, role: str) -> str:
    return f"{model.party}-{role}-secrets"


def _relative(file: NodeFile) -> str:
    return str(PurePosixPath(file.path).relative_to(CONFIG_DIR))


def _key(file: NodeFile) -> str:
    """A key of a ConfigMap holds no slash."""
    return _relative(file).replace("/", ".")


def _config_map(model: Model, role: str, files: Iterable[NodeFile]) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _metadata(model, f"{model.party}-{role}"),
        "data": {_key(file): file.content for file in files if not file.secret},
    }


def _claim(model: Model, name: str, size_gi: int, mode: str = "ReadWriteMany") -> Object:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": _metadata(model, f"{model.party}-{name}"),
        "spec": {"accessModes": [mode], "resources": {"requests": {"storage": f"{size_gi}Gi"}}},
    }


def _services(model: Model) -> list[Object]:
    """Head and gateway by the names that every file uses, and the one public port."""
    inside = [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": _metadata(model, name),
            # A worker and the coordinator look for the head before it is ready.
            "spec": {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": _labels(model, role)},
        }
        for name, role in ((head_name(model.party), "head"), (gateway_name(model.party), "gateway"))
    ]
    public = {"name": "public", "port": model.own.gateway.port, "targetPort": ports.GATEWAY_PUBLIC_PORT}
    spec = {"type": "LoadBalancer", "selector": _labels(model, "gateway"), "ports": [public]}
    metadata = _metadata(model, f"{model.party}-public")
    return [*inside, {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}]


def _network_policies(model: Model) -> list[Object]:
    """Nodes reach one another and the name service, and nothing else; only the gateway speaks to the outside."""
    own = {"podSelector": {"matchLabels": _labels(model)}}
    names = {"ports": [{"protocol": kind, "port": 53} for kind in ("UDP", "TCP")]}
    rules = {
        "inside": (_labels(model), {"ingress": [{"from": [own]}], "egress": [{"to": [own]}, names]}),
        "gateway": (
            _labels(model, "gateway"),
            {"ingress": [{"ports": [{"protocol": "TCP", "port": ports.GATEWAY_PUBLIC_PORT}]}], "egress": [{}]},
        ),
    }
    return [
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": _metadata(model, f"{model.party}-{name}"),
            "spec": {"podSelector": {"matchLabels": labels}, "policyTypes": ["Ingress", "Egress"], **rule},
        }
        for name, (labels, rule) in rules.items()
    ]


def _ray_cluster(model: Model, files: Mapping[str, Iterable[NodeFile]], image: str) -> Object:
    resources = model.settings.resources
    head = [
        _container("ray", image, RAY, resources.head, ports.RAY_GCS_PORT, mounts=_ray_mounts()),
        _container(
            "coordinator",
            image,
            COORDINATOR,
            COORDINATOR_LIMITS,
            ports.COORDINATOR_OPERATOR_PORT,
            mounts=[
                *_mounts(jobs=JOBS_DIR, state=STATE_DIR),
                *_mounts(read_only=True, access=ACCESS_DIR, data=DATA_DIR, secrets=CONFIG_DIR),
            ],
        ),
    ]
    claims = ("jobs", "state", "access", "data")
    spec: Object = {
        "rayVersion": model.consortium.versions.ray,
        "headGroupSpec": {
            "rayStartParams": {},
            "template": _template(model, "head", files["head"], head, claims, resources.head.shm_mb),
        },
    }
    if model.settings.workers:
        worker = [
            _container(
                "ray", image, RAY, resources.worker, ports.RAY_FIXED_PORTS["node-manager-port"], mounts=_ray_mounts()
            )
        ]
        spec["workerGroupSpecs"] = [
            {
                "groupName": "workers",
                "replicas": model.settings.workers,
                "minReplicas": model.settings.workers,
                "maxReplicas": model.settings.workers,
                "rayStartParams": {},
                "template": _template(
                    model, "worker", files["worker"], worker, ("jobs", "data"), resources.worker.shm_mb
                ),
            }
        ]
    # The launcher knows every option of `ray start`; the operator's own command would miss them.
    metadata = _metadata(model, f"{model.party}-ray", annotations={"ray.io/overwrite-container-cmd": "true"})
    return {"apiVersion": "ray.io/v1", "kind": "RayCluster", "metadata": metadata, "spec": spec}


def _gateway(model: Model, files: Iterable[NodeFile], image: str) -> Object:
    container = _container(
        "gateway",
        image,
        GATEWAY,
        model.settings.resources.gateway,
        ports.GATEWAY_PUBLIC_PORT,
        mounts=[*_mounts(access=ACCESS_DIR), *_mounts(read_only=True, secrets=CONFIG_DIR)],
    )
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(model, gateway_name(model.party)),
        "spec": {
            "replicas": 1,
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": _labels(model, "gateway")},
            "template": _template(model, "gateway", files, [container], ("access",)),
        },
    }


def _container(name: str, image: str, user: int, limits: Resources, port: int, *, mounts: list[Object]) -> Object:
    probe = {"tcpSocket": {"port": port}, "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 3}
    amount = {"cpu": f"{limits.cpus:g}", "memory": f"{limits.memory_mb}Mi"}
    return {
        "name": name,
        "image": image,
        "command": [f"{CONFIG_DIR}/services/{name}"],
        "env": [{"name": "PATH", "value": PATH}],
        "ports": [{"name": "probed", "containerPort": port}] if name != "ray" else [],
        "resources": {"limits": amount, "requests": amount},
        "startupProbe": {**probe, "failureThreshold": 30},
        "livenessProbe": probe,
        "readinessProbe": probe,
        "securityContext": {
            "runAsUser": user,
            "runAsGroup": user,
            "runAsNonRoot": True,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": mounts,
    }


def _ray_mounts() -> list[Object]:
    shm = {"name": "shm", "mountPath": "/dev/shm"}  # noqa: S108 Ray's object store
    return [shm, *_mounts(jobs=JOBS_DIR), *_mounts(read_only=True, data=DATA_DIR, config=CONFIG_DIR)]


def _mounts(*, read_only: bool = False, **paths: PurePosixPath) -> list[Object]:
    more = {"readOnly": True} if read_only else {}
    return [{"name": name, "mountPath": str(path), **more} for name, path in paths.items()]


def _template(
    model: Model, role: str, files: Iterable[NodeFile], containers: list[Object], claims: Iterable[str], shm_mb: int = 0
) -> Object:
    """`config` is the node's files without its secrets, `secrets` with them: each container mounts one of the two."""
    found = list(files)
    public = {"configMap": {"name": f"{model.party}-{role}", "items": _items(f for f in found if not f.secret)}}
    secret = {"secret": {"name": _secret_name(model, role), "items": _items(f for f in found if f.secret)}}
    volumes: list[Object] = [
        {"name": "config", "projected": {"sources": [public]}},
        {"name": "secrets", "projected": {"sources": [public, secret]}},
        *({"name": claim, "persistentVolumeClaim": {"claimName": f"{model.party}-{claim}"}} for claim in claims),
    ]
    if shm_mb:
        volumes.append({"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": f"{shm_mb}Mi"}})
    used = {mount["name"] for container in containers for mount in container["volumeMounts"]}
    # A pod takes up a changed ConfigMap late or never: changed files make it anew.
    digest = hashlib.sha256("".join(file.digest for file in found).encode()).hexdigest()
    return {
        "metadata": {"labels": _labels(model, role), "annotations": {"consortium.files": digest}},
        "spec": {
            "automountServiceAccountToken": False,
            "securityContext": {"fsGroup": RAY, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": containers,
            "volumes": [volume for volume in volumes if volume["name"] in used],
        },
    }


def _items(files: Iterable[NodeFile]) -> list[Object]:
    """Readable by the pod's group, which its containers' users are in; launchers can be run."""
    modes = {True: 0o440, False: 0o555}
    return [{"key": _key(file), "path": _relative(file), "mode": modes[file.secret]} for file in files]
