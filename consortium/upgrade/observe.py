"""Looks at the own coordinator, at the peers through it, and at the engine."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import docker
import docker.errors
import requests

from consortium import engine_socket
from consortium.client import Coordinator
from consortium.errors import Refused, TimedOut, Unreachable
from consortium.image import node_image
from consortium.queue_hold import active
from consortium.release import brings
from consortium.spec import Model
from consortium.upgrade.decide import Peer, Runs, Seen


def look(model: Model, coordinator: Coordinator, *, peers: bool, begun: bool = False) -> Seen:
    """Everything a decision needs; without `peers` neither they nor the engine are asked. Raises Unreachable."""
    runs = _runs(coordinator)
    image = node_image(model)
    return Seen(
        now=datetime.now(UTC),
        party=model.party,
        agreed=model.consortium.versions.agreed(),
        files=model.digest(),
        brings=brings(),
        window=model.window,
        runs=runs,
        peers=_peers(coordinator, model) if peers and runs else {},
        placement=model.settings.placement,
        own_image=model.settings.image is not None,
        image=image,
        image_here=not peers or model.settings.placement != "docker" or _is_here(model.settings.engine, image),
        begun=begun,
    )


def running(status: Mapping[str, Any]) -> Runs:
    """`status` is the coordinator's answer. One of an earlier release may lack what is new."""
    window = status.get("maintenance")
    ends = tuple(datetime.fromisoformat(window[key]) for key in ("from", "to")) if window else None
    return Runs(
        versions={**status["versions"], "coordinator": status.get("release", "")},
        files=status["consortium_digest"],
        window=(ends[0], ends[1]) if ends else None,
        held=status.get("held", ""),
        active=active(status),
    )


def _runs(coordinator: Coordinator) -> Runs | None:
    try:
        return running(coordinator.get("/status"))
    except (Unreachable, TimedOut, Refused):  # with a new token `up` is what brings it there
        return None


def _peers(coordinator: Coordinator, model: Model) -> dict[str, Peer]:
    told = coordinator.get("/presented")["parties"]
    found = {}
    for name in model.peers:
        entry = told.get(name, {})
        said = entry.get("presented")
        why = entry.get("error") or "the own coordinator does not know it (yet): consortium up"
        found[name] = Peer(said["consortium_digest"], said.get("coordinator", "")) if said else Peer(error=why)
    return found


def _is_here(engine: str, image: str) -> bool:
    """Raises Unreachable where the engine does not answer."""
    try:
        with engine_socket.local(engine) as address:
            docker.DockerClient(base_url=address, timeout=20).images.get(image)
    except docker.errors.ImageNotFound:
        return False
    except (docker.errors.DockerException, requests.RequestException) as error:
        raise Unreachable(
            "the container engine does not answer", where=engine, value=str(error), fix="systemctl start docker"
        ) from error
    return True
