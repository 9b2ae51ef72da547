"""Which file stands on which node of an institution: path, mode, owner, content, and what a change of it asks for.

Pure: a model and secrets in, files out. Ansible lays them (roles/base), Pulumi compares their digests.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from consortium import gateway_view, head_view
from consortium.node_paths import (
    CONFIG_DIR,
    COORDINATOR_CONFIG,
    DATA_DIR,
    GATEWAY_CERTIFICATE,
    GATEWAY_DIR,
    JOBS_DIR,
    SECRETS_DIR,
    STATE_DIR,
)
from consortium.render import render
from consortium.spec import Model

__all__ = ["JOBS_DIR", "STATE_DIR", "Host", "NodeFile", "Secrets", "data_path", "files_for", "hosts_of"]

Role = Literal["head", "worker", "gateway"]
Action = Literal["restart", "reload", "nothing"]


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


@dataclass(frozen=True)
class Host:
    """One node: `name` is its host name, `index` counts the nodes of one role from 0."""

    name: str
    role: Role
    index: int


@dataclass(frozen=True)
class NodeFile:
    """One file on a node.

    `on_change`: what `service` needs when the file changes. `nothing`: whoever reads it notices by itself, as Envoy
    does, or reads it at each use.
    """

    path: str
    content: str = field(repr=False)
    mode: str = "0644"
    owner: str = "root"
    group: str = "root"
    service: str | None = None
    on_change: Action = "nothing"
    secret: bool = False

    def __post_init__(self) -> None:
        if (self.service is None) != (self.on_change == "nothing"):
            raise ValueError(f"{self.path}: {self.on_change} of {self.service}: an action and its service go together")

    @property
    def digest(self) -> str:
        """SHA-256 over everything the node would notice."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    def as_variables(self) -> dict[str, Any]:
        """The entry of `base_files` (roles/base)."""
        return {key: value for key, value in asdict(self).items() if value is not None}


def hosts_of(model: Model) -> tuple[Host, ...]:
    """Every node of the institution: the head, its workers, the gateway."""
    workers = (Host(f"{model.party}-worker-{k + 1}", "worker", k) for k in range(model.settings.workers))
    return (
        Host(head_view.head_name(model.party), "head", 0),
        *workers,
        Host(gateway_view.gateway_name(model.party), "gateway", 0),
    )


def files_for(model: Model, secrets: Secrets, host: Host) -> tuple[NodeFile, ...]:
    """Every file of one node, in a fixed order."""
    return {"head": _head, "worker": _worker, "gateway": _gateway}[host.role](model, secrets, host)


def data_path(name: str, path: Path) -> PurePosixPath:
    """Where a dataset is seen on head and workers; the file's suffix is kept, as readers go by it."""
    return DATA_DIR / f"{name}{path.suffix}"


def _head(model: Model, secrets: Secrets, host: Host) -> tuple[NodeFile, ...]:
    paths = {name: str(data_path(name, path)) for name, path in model.dataset_paths().items()}
    return (
        _launcher("ray", ray=head_view.ray_view(model, host.role)),
        _launcher("coordinator", config_path=str(COORDINATOR_CONFIG)),
        _health(head_view.health_checks(model)),
        NodeFile(
            str(COORDINATOR_CONFIG),
            _render(COORDINATOR_CONFIG, config=head_view.coordinator_config(model, paths)),
            mode="0640",
            group="coordinator",
            service="coordinator",
            on_change="reload",
        ),
        NodeFile(str(GATEWAY_CERTIFICATE), secrets.gateway_certificate),
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
                ("gateway.token", secrets.gateway_token),
            )
        ),
    )


def _worker(model: Model, _secrets: Secrets, host: Host) -> tuple[NodeFile, ...]:
    return (_launcher("ray", ray=head_view.ray_view(model, host.role)), _health([]))


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
