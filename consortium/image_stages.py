"""What each stage of the node image is made of, and the digests and names that follow from it. Needs no engine."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from consortium.ansible import ROLES
from consortium.folders import COORDINATOR

REPOSITORY = "consortium-node"
BAKE = ROLES / "bake.yml"


@dataclass(frozen=True)
class Stage:
    """One image: the roles whose install parts it holds, in the group of bake.yml with its name."""

    name: str
    roles: tuple[str, ...]
    repository: str
    sources: tuple[Path, ...] = ()


STAGES = (
    Stage("runtime", ("base", "secretflow", "ray", "gateway"), "consortium-runtime"),
    Stage("node", ("coordinator",), REPOSITORY, (COORDINATOR,)),
)
_UP_TIME = (
    "tasks/configure.yml",
    "tasks/service.yml",
    "library/node_service.py",
    *(f"tasks/{step}.yml" for step in ("leave", "drain", "stay")),
    "library/ray_drain.py",
    "files/finishing.py",
)
_IGNORED = {"__pycache__", ".mypy_cache", ".ruff_cache"}


def stage_digests(seed: str) -> list[str]:
    """SHA-256 (hex) over everything a stage is made of, for each stage; `seed` says what the first one stands on."""
    digests = [seed]
    for stage in STAGES:
        found = [(BAKE.name, BAKE.read_bytes())]
        for role in stage.roles:
            found += _role_inputs(role)
        for source in stage.sources:
            found += [(path.relative_to(source.parent).as_posix(), path.read_bytes()) for path in files(source)]
        digests.append(_digest(digests[-1], found))
    return digests[1:]


def role_digests() -> dict[str, str]:
    """SHA-256 (hex) over the install part of each role, and of the play that runs them."""
    found = {role: _digest("", _role_inputs(role)) for stage in STAGES for role in stage.roles}
    return {**found, BAKE.name: hashlib.sha256(BAKE.read_bytes()).hexdigest()}


def requirement_digests() -> dict[str, str]:
    """SHA-256 (hex) of each role's lock of Python packages."""
    locks = sorted(ROLES.glob("*/files/requirements.lock"))
    return {path.relative_to(ROLES).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in locks}


def files(folder: Path) -> list[Path]:
    """The files of a source folder, without caches, in an order that is always the same."""
    return sorted(p for p in folder.rglob("*") if p.is_file() and not _IGNORED & set(p.parts))


def _role_inputs(role: str) -> Iterator[tuple[str, bytes]]:
    """What can change the outcome of a stage; what only acts at `up` time is left out."""
    for path in files(ROLES / role):
        relative = path.relative_to(ROLES / role).as_posix()
        if relative not in _UP_TIME and not relative.startswith("meta/"):
            yield f"{role}/{relative}", path.read_bytes()


def _digest(seed: str, found: Iterable[tuple[str, bytes]]) -> str:
    digest = hashlib.sha256(seed.encode())
    for name, content in found:
        digest.update(f"{name}\0{hashlib.sha256(content).hexdigest()}\n".encode())
    return digest.hexdigest()
