"""One institution's Kuscia node as Kubernetes objects. Secrets stand in an object of their own (`secret_object`).

What upstream's sample lacks is here: probes, a volume that outlives the pod, the key in a Secret, network policies.
"""

from __future__ import annotations

import hashlib
from typing import Any

from consortium.errors import UsageError
from consortium.kuscia.names import node_name
from consortium.kuscia.node_config import API_GRPC_PORT, API_PORT, PATH, PUBLIC_PORT
from consortium.kuscia.settings import KusciaSettings
from consortium.spec import Model

Object = dict[str, Any]

HOME = "/home/kuscia"
# The volume holds what the node writes; the rest of the image's var stays the image's.
KEPT = ("certs", "k3s/server/db", "storage", "images", "logs", "stdout")
USER = 1000
"""`kuscia` in the image."""
FILE = "kuscia.yaml"
INSIDE_PORT, DNS_PORT = 80, 53
METRICS_PORT = 9091


def manifests(model: Model, settings: KusciaSettings, config: str) -> list[Object]:
    """Everything but the secret, in the order in which to apply it. Of `config`, kuscia.yaml, only a digest is used.

    Raises UsageError for settings with which no pod can be made.
    """
    _fit_for_a_pod(settings)
    return [
        *(_role(model) if settings.runk else ()),
        _claim(model, settings),
        _names(model, settings),
        *_services(model),
        *_policies(model),
        _deployment(model, settings, config),
    ]


def secret_object(model: Model, config: str) -> Object:
    """kuscia.yaml in clear."""
    metadata = _metadata(model, _name(model))
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {FILE: config}}


def _name(model: Model) -> str:
    return node_name(model.party)


def _labels(model: Model) -> dict[str, str]:
    return {"consortium.name": model.consortium.name, "consortium.party": model.party, "consortium.role": "kuscia"}


def _metadata(model: Model, name: str) -> Object:
    return {"name": name, "labels": _labels(model)}


def _claim(model: Model, settings: KusciaSettings) -> Object:
    spec = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": f"{settings.storage_gi}Gi"}},
    }
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": _metadata(model, _name(model)),
        "spec": spec,
    }


def _fit_for_a_pod(settings: KusciaSettings) -> None:
    if settings.runtime == "runc":
        raise UsageError(
            "containers in the node need a privileged pod",
            where="kuscia.runtime",
            value="runc",
            allowed="runp, runk",
            fix="runtime: runp, with an image that holds the engine",
        )
    if settings.mariadb:
        raise UsageError(
            "a database in a container of its own is for `placement: docker`",
            where="kuscia.mariadb",
            fix="a database that the cluster offers: kuscia.database",
        )
    if not settings.cluster_dns:
        raise UsageError(
            "the node answers its pod's questions for names, and must know whom to ask itself",
            where="kuscia.cluster_dns",
            fix="the cluster's name service: kubectl get service -n kube-system kube-dns",
        )


def _names(model: Model, settings: KusciaSettings) -> Object:
    data = {"resolv.conf": f"nameserver {settings.cluster_dns}\n"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": _metadata(model, _name(model)), "data": data}


def _services(model: Model) -> list[Object]:
    """Inside by the node's name; outside the peers' port alone."""
    inside = {"http": INSIDE_PORT, "api": API_PORT, "api-grpc": API_GRPC_PORT}
    ports = [{"name": name, "port": port, "targetPort": port} for name, port in inside.items()]
    ports += [{"name": "dns", "port": DNS_PORT, "targetPort": DNS_PORT, "protocol": "UDP"}]
    public = {"name": "public", "port": model.own.gateway.port, "targetPort": PUBLIC_PORT}
    return [
        _service(model, _name(model), "ClusterIP", ports),
        _service(model, f"{_name(model)}-public", "LoadBalancer", [public]),
    ]


def _service(model: Model, name: str, kind: str, ports: list[dict[str, Any]]) -> Object:
    spec = {"type": kind, "selector": _labels(model), "ports": ports}
    return {"apiVersion": "v1", "kind": "Service", "metadata": _metadata(model, name), "spec": spec}


def _policies(model: Model) -> list[Object]:
    """Anybody reaches the peers' port, KusciaAPI only who bears an operator's label. The way out is open: to peers.

    Nobody reaches the node's own Kubernetes on 6443: the token with which a machine joins it is a digest of the party's
    name and cannot be set.
    """
    operators = {"podSelector": {"matchLabels": {**_labels(model), "consortium.role": "operator"}}}
    rules = [
        {"ports": [{"protocol": "TCP", "port": PUBLIC_PORT}]},
        {"from": [operators], "ports": [{"protocol": "TCP", "port": port} for port in (API_PORT, API_GRPC_PORT)]},
        {
            "from": [{"podSelector": {}}],
            "ports": [
                {"protocol": "TCP", "port": INSIDE_PORT},
                {"protocol": "UDP", "port": DNS_PORT},
                {"protocol": "TCP", "port": METRICS_PORT},
            ],
        },
    ]
    spec = {
        "podSelector": {"matchLabels": _labels(model)},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": rules,
        "egress": [{}],
    }
    metadata = _metadata(model, _name(model))
    return [{"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}]


def _role(model: Model) -> list[Object]:
    """What `runtime: runk` needs to make tasks' pods in this namespace, and nothing else."""
    name = _name(model)
    everything = ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"]
    rules = [
        {"apiGroups": [""], "resources": ["pods", "pods/log", "configmaps", "secrets"], "verbs": everything},
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": everything},
    ]
    api = "rbac.authorization.k8s.io"
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": _metadata(model, name)},
        {"apiVersion": f"{api}/v1", "kind": "Role", "metadata": _metadata(model, name), "rules": rules},
        {
            "apiVersion": f"{api}/v1",
            "kind": "RoleBinding",
            "metadata": _metadata(model, name),
            "roleRef": {"apiGroup": api, "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name}],
        },
    ]


def _deployment(model: Model, settings: KusciaSettings, config: str) -> Object:
    limits = model.settings.resources.kuscia
    amount = {"cpu": f"{limits.cpus:g}", "memory": f"{limits.memory_mb}Mi"}
    # Kubernetes' probes bring no client certificate, and both doors ask for one: that the port takes connections is
    # all a probe can see from outside.
    probe = {"tcpSocket": {"port": API_PORT}, "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 3}
    door = {**probe, "tcpSocket": {"port": PUBLIC_PORT}}
    container = {
        "name": "kuscia",
        "image": settings.image,
        "command": ["tini", "--", "kuscia", "start", "-c", f"etc/conf/{FILE}"],
        "workingDir": HOME,
        "ports": [{"name": "public", "containerPort": PUBLIC_PORT}, {"name": "api", "containerPort": API_PORT}],
        "resources": {"limits": amount, "requests": amount},
        "startupProbe": {**probe, "failureThreshold": 60},
        "livenessProbe": probe,
        "readinessProbe": door,
        "securityContext": {
            "runAsUser": USER,
            "runAsGroup": USER,
            "runAsNonRoot": True,
            "allowPrivilegeEscalation": False,
            # The image's programs bear this capability in their files and do not start where it is out of bounds; what
            # lets them take ports below 1024 is the sysctl.
            "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]},
        },
        "volumeMounts": [
            {"name": "config", "mountPath": PATH, "subPath": FILE, "readOnly": True},
            *({"name": "var", "mountPath": f"{HOME}/var/{path}", "subPath": path} for path in KEPT),
            {"name": "tmp", "mountPath": f"{HOME}/var/tmp"},  # noqa: S108 a folder of the image
            {"name": "names", "mountPath": f"{HOME}/var/tmp/resolv.conf", "subPath": "resolv.conf"},  # noqa: S108
        ],
    }
    account = {"serviceAccountName": _name(model)} if settings.runk else {}
    pod = {
        **account,
        "automountServiceAccountToken": bool(settings.runk),
        "securityContext": {
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
            "sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}],
        },
        "dnsPolicy": "None",
        "dnsConfig": {"nameservers": ["127.0.0.1"]},
        "containers": [container],
        "volumes": [
            # 0440: the group is the pod's.
            {"name": "config", "secret": {"secretName": _name(model), "defaultMode": 0o440}},
            {"name": "var", "persistentVolumeClaim": {"claimName": _name(model)}},
            {"name": "tmp", "emptyDir": {}},
            {"name": "names", "configMap": {"name": _name(model)}},
        ],
    }
    # A file of a subPath is never taken up anew: a changed kuscia.yaml makes the pod anew.
    digest = {"consortium.files": hashlib.sha256(config.encode()).hexdigest()}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(model, _name(model)),
        "spec": {
            # One node has one database and one volume.
            "replicas": 1,
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": _labels(model)},
            "template": {"metadata": {"labels": _labels(model), "annotations": digest}, "spec": pod},
        },
    }
