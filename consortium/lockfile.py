"""The lock file, `consortium.lock`: what every bake of the node image must be made from, and what came out.

Its `pins` are what a bake obeys, so they are part of the image's name. Its `inputs` and `content` are what the last
`consortium lock` found: they tell whether the lock still fits these roles, and whether a build is equal to that one.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from consortium import files
from consortium.ansible import ROLES
from consortium.base_image import DEFAULT_BASE
from consortium.errors import ConsortiumError, DocumentErrors
from consortium.image_stages import requirement_digests, role_digests
from consortium.validation import validate
from consortium.yamlfile import read_yaml

LOCK = ROLES.parent / "consortium.lock"
HEADER = "# Written by `consortium lock`; what it means: docs/reproducible.md. Do not edit.\n"

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Architecture = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]{1,20}$")]
# Both are written into a file that apt reads: one line, nothing that begins another.
Package = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9+.-]{1,100}$")]
Version = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9.+~:-]{1,100}$")]
Packages = Annotated[dict[Package, Version], Field(max_length=2000)]
ImageName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/:@-]{0,255}$")]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,120}$")]
Digests = Annotated[dict[Name, Sha256], Field(max_length=100)]


class NotAsLocked(ConsortiumError):
    """What is here, or what a bake can have, is not what the lock file names."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Base(_Part):
    """The image that a bake begins with. `source`: how to have it; `content`: digest of its manifest."""

    name: ImageName
    source: ImageName  # debootstrap | engine (it was there, no registry knows it) | name@sha256:…
    content: Sha256
    packages: Packages


class Pins(_Part):
    """What a bake obeys. `packages`: Debian packages that the roles bring beside those of the base."""

    architecture: Architecture
    base: Base
    packages: Packages
    uv: Version

    def debian(self) -> dict[str, str]:
        """Every Debian package of a node with its version."""
        return {**self.base.packages, **self.packages}


class Inputs(_Part):
    """Digests of the repository's own files that a bake reads."""

    roles: Digests
    requirements: Digests

    @classmethod
    def present(cls) -> Inputs:
        """What lies in the repository now."""
        return cls(roles=role_digests(), requirements=requirement_digests())


class Content(_Part):
    """Digests of the manifests that came out."""

    runtime: Sha256


class Lock(_Part):
    """The whole file."""

    format: Literal[1] = 1
    pins: Pins
    inputs: Inputs
    content: Content


@dataclass(frozen=True)
class Origin:
    """What a bake begins with: the name of a base image, and pins where a lock file is there."""

    base: str
    pins: Pins | None = None

    def seed(self) -> str:
        """What of it goes into the image's digest."""
        if self.pins is None:
            return self.base
        canonical = json.dumps(self.pins.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()


def load(path: Path | None = None) -> Lock | None:
    """The lock file, None when there is none. Raises DocumentErrors for one that says anything unknown."""
    path = path or LOCK
    if not path.exists():
        return None
    file = read_yaml(path, path.name)
    lock = None if file.problems else validate(Lock, file.data, file)
    if lock is None:
        raise DocumentErrors(file.problems)
    return lock


def save(lock: Lock, path: Path | None = None) -> bool:
    """Write the lock file, whole or not at all. Returns False if it said the same before."""
    text = yaml.safe_dump(lock.model_dump(mode="json"), sort_keys=True, default_flow_style=False, width=120)
    return files.write(path or LOCK, HEADER + text)


def origin(base: str | None = None) -> Origin:
    """What the next bake begins with: the lock file's base and pins, else `base` or the default without pins.

    Raises NotAsLocked when `base` is another one than the lock file's.
    """
    lock = load()
    if lock is None:
        return Origin(base or DEFAULT_BASE)
    locked = lock.pins.base.name
    if base not in (None, locked):
        raise NotAsLocked(
            "the lock file is for another base image",
            where=LOCK.name,
            value=str(base),
            allowed=locked,
            fix=f"`consortium lock --update --base {base}`, or leave --base out",
        )
    return Origin(locked, lock.pins)


def uv_version() -> str:
    """The version of uv that bakes here."""
    return importlib.metadata.version("uv")


def stale(lock: Lock) -> list[str]:
    """One line for each file or tool here that is not what the lock was written with. Needs no engine."""
    mine: dict[str, Any] = lock.inputs.model_dump()
    now: dict[str, Any] = Inputs.present().model_dump()
    pairs = {(kind, name) for kind in mine for name in {*mine[kind], *now[kind]}}
    found = [
        f"{kind}.{name}: locked {_short(mine[kind].get(name))}, found {_short(now[kind].get(name))}"
        for kind, name in sorted(pairs)
        if mine[kind].get(name) != now[kind].get(name)
    ]
    if lock.pins.uv != uv_version():
        found.append(f"uv: locked {lock.pins.uv}, found {uv_version()}")
    return found


def _short(digest: str | None) -> str:
    return digest[:12] if digest else "none"
