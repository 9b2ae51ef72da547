"""Which file stands on which node of an institution: path, mode, owner, content, and what a change of it asks for.

Pure: a model and secrets in, files out. Ansible lays them (roles/base), Pulumi compares their digests.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from consortium import gateway_view, head_view
from consortium.host_files import host_files
from consortium.kuscia.host_view import launcher_view
from consortium.kuscia.keys import api_token
from consortium.kuscia.node_config import NodeSecrets, kuscia_yaml
from consortium.node_addresses import gateway_name, head_name, machine
from consortium.node_file import Action, Host, NodeFile
from consortium.node_paths import (
    CONFIG_DIR,
    COORDINATOR_CONFIG,
    DATA_DIR,
    GATEWAY_CERTIFICATE,
    GATEWAY_DIR,
    JOBS_DIR,
    KUSCIA_CA,
    KUSCIA_CERTIFICATE,
    KUSCIA_CONFIG,
    KUSCIA_KEY,
    KUSCIA_TOKEN,
    REGISTRY_PASSWORD,
    SECRETS_DIR,
    STATE_DIR,
)
from consortium.render import render
from consortium.spec import Model

__all__ = [
    "JOBS_DIR",
    "STATE_DIR",
    "Host",
    "NodeFile",
    "Secrets",
    "data_path",
    "dataset_paths",
    "files_for",
    "hosts_of",
]


@dataclass(frozen=True)
class Secrets:
    """What only this institution knows, and the public certificate that goes with its gateway's key. No CA key."""

    gateway_certificate: str
    """PEM chain; public."""
    gateway_key: str = field(repr=False)
    """PEM."""
    signing_key: str = field(repr=False)
    """PEM, PKCS8, ed25519."""
    operator_token: str = field(repr=False)
    gateway_token: str = field(repr=False)
    ssh_key: str = field(default="", repr=False)
    """PEM; of `placement: ssh` only. It goes to no node."""
    kuscia: NodeSecrets | None = field(default=None, repr=False)
    """Of `mode: kuscia` only."""


def hosts_of(model: Model) -> tuple[Host, ...]:
    """Every node of the institution that we configure: the head, its workers, the gateway; of Kuscia's the head."""
    if model.kuscia:
        return (Host(head_name(model.party), "head", 0),)
    workers = (Host(f"{model.party}-worker-{k + 1}", "worker", k) for k in range(model.settings.workers))
    return (
        Host(head_name(model.party), "head", 0),
        *workers,
        Host(gateway_name(model.party), "gateway", 0),
    )


def files_for(model: Model, secrets: Secrets, host: Host) -> tuple[NodeFile, ...]:
    """Every file of one node, in a fixed order."""
    node = {"head": _head, "worker": _worker, "gateway": _gateway}[host.role](model, secrets, host)
    return (*node, *host_files(model, host))


def dataset_paths(model: Model) -> dict[str, str]:
    """Dataset → where head and workers read it: on hosts where it lies, in containers where it is mounted."""
    if model.settings.placement == "ssh":
        return {name: dataset.path for name, dataset in model.settings.datasets.items()}
    return {name: str(data_path(name, path)) for name, path in model.dataset_paths().items()}


def data_path(name: str, path: Path) -> PurePosixPath:
    """Where a dataset is seen on head and workers; the file's suffix is kept, as readers go by it."""
    return DATA_DIR / f"{name}{path.suffix}"


def _head(model: Model, secrets: Secrets, host: Host) -> tuple[NodeFile, ...]:
    return (
        *(() if model.kuscia else (_ray(model, host),)),
        _launcher("coordinator", config_path=str(COORDINATOR_CONFIG)),
        _health(head_view.health_checks(model)),
        NodeFile(
            str(COORDINATOR_CONFIG),
            _render(COORDINATOR_CONFIG, config=head_view.coordinator_config(model, dataset_paths(model))),
            mode="0640",
            group="coordinator",
            service="coordinator",
            on_change="reload",
        ),
        *(() if model.kuscia else (NodeFile(str(GATEWAY_CERTIFICATE), secrets.gateway_certificate),)),
        *(
            NodeFile(
                str(SECRETS_DIR / name),
                content,
                mode="0400",
                owner="coordinator",
                group="coordinator",
                service="coordinator",
                on_change="restart",
                secret=True,
            )
            for name, content in (
                ("signing.key", secrets.signing_key),
                ("operator.token", secrets.operator_token),
                *(_for_kuscia(secrets.kuscia) if model.kuscia else [("gateway.token", secrets.gateway_token)]),
            )
        ),
        *_of_kuscia(secrets.kuscia),
        *_kuscia_node(model, secrets.kuscia),
    )


def _kuscia_node(model: Model, known: NodeSecrets | None) -> tuple[NodeFile, ...]:
    """The node itself where it stands on the head's host; in a container of an engine Pulumi lays its file."""
    if not (model.kuscia and known and model.settings.ssh):
        return ()
    config = NodeFile(
        str(KUSCIA_CONFIG),
        kuscia_yaml(model.kuscia, known),
        mode="0400",
        service="kuscia",
        on_change="restart",
        secret=True,
    )
    launcher = _launcher("kuscia", kuscia=launcher_view(model))
    if not known.registry_password:
        return (launcher, config)
    return (launcher, config, NodeFile(str(REGISTRY_PASSWORD), known.registry_password, mode="0400", secret=True))


def _for_kuscia(known: NodeSecrets | None) -> list[tuple[str, str]]:
    """With what the coordinator speaks to its Kuscia node."""
    if known is None or known.client is None:
        return []
    return [(KUSCIA_KEY.name, known.client.key), (KUSCIA_TOKEN.name, api_token(known.domain))]


def _of_kuscia(known: NodeSecrets | None) -> list[NodeFile]:
    """The public halves: who the coordinator is, and the CA of the node."""
    if known is None or known.client is None:
        return []
    found = ((KUSCIA_CERTIFICATE, known.client.certificate), (KUSCIA_CA, known.domain.certificate))
    return [NodeFile(str(path), text, service="coordinator", on_change="restart") for path, text in found]


def _worker(model: Model, _secrets: Secrets, host: Host) -> tuple[NodeFile, ...]:
    return (_ray(model, host), _health([]))


def _ray(model: Model, host: Host) -> NodeFile:
    address = machine(model, host).inside_address if model.settings.ssh else ""
    return _launcher("ray", ray=head_view.ray_view(model, host, address))


def _gateway(model: Model, secrets: Secrets, _host: Host) -> tuple[NodeFile, ...]:
    view = gateway_view.gateway_view(model)
    common = {"gateway": view, "timeouts": model.timeouts.model_dump(mode="json")}
    sds = GATEWAY_DIR / "sds"
    certificate = {"certificate": secrets.gateway_certificate, "key": secrets.gateway_key}
    return (
        _launcher("gateway", **common),
        _health(gateway_view.health_checks(view)),
        _gateway_file(sds / "own.yaml", certificate, secret=True),
        _gateway_file(sds / "token.yaml", {"token": secrets.gateway_token}, secret=True),
        *(
            _gateway_file(PurePosixPath(peer["secret_path"]), {"peer": peer}, template=sds / "peer.yaml")
            for peer in view["peers"]
        ),
        # Clusters before the listeners that lead to them, and the bootstrap, which restarts Envoy, last.
        _gateway_file(GATEWAY_DIR / "cds.yaml", common),
        _gateway_file(
            GATEWAY_DIR / "lds.yaml",
            {**common, "own_coordinator": gateway_view.own_coordinator(secrets.gateway_token)},
        ),
        _gateway_file(GATEWAY_DIR / "bootstrap.yaml", common, service="gateway"),
    )


def _gateway_file(
    path: PurePosixPath,
    variables: dict[str, Any],
    *,
    template: PurePosixPath | None = None,
    service: str | None = None,
    secret: bool = False,
) -> NodeFile:
    """Envoy reads it and cannot change it."""
    content = _render(template or path, **variables)
    action: Action = "restart" if service else "nothing"
    return NodeFile(str(path), content, "0440", "root", "gateway", service, action, secret)


def _launcher(service: str, **variables: Any) -> NodeFile:
    path = CONFIG_DIR / "services" / service
    return NodeFile(str(path), _render(path, **variables), mode="0755", service=service, on_change="restart")


def _health(checks: list[dict[str, str]]) -> NodeFile:
    path = CONFIG_DIR / "health.json"
    return NodeFile(str(path), _render(path, checks=checks))


def _render(target: PurePosixPath, **variables: Any) -> str:
    """A template's path below templates/ is its target's path on the node."""
    return render(f"{str(target).lstrip('/')}.j2", variables)
