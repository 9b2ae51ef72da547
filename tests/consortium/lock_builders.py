"""Lock files and engines for tests of them; each argument breaks one thing."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import docker.errors

from consortium import lockfile
from consortium.lockfile import Content, Inputs, Lock, Pins
from consortium.manifest import Entry, Manifest

DIGEST = "0" * 64
BASE_PACKAGES = {"apt": "2.6", "libc6": "2.36"}


def manifest(content: str = "x", **packages: str) -> Manifest:
    """A manifest of one file with this content."""
    entry = Entry(path="f", kind="file", mode="0644", uid=0, gid=0, size=1, value=content)
    return Manifest(entries=(entry,), packages=packages)


BASE = manifest("base", **BASE_PACKAGES)


def pins(**overrides: Any) -> Pins:
    base = {"name": "debian:12", "source": "debootstrap", "content": BASE.digest(), "packages": BASE_PACKAGES}
    uv = lockfile.uv_version()
    return Pins(**{"architecture": "amd64", "base": base, "packages": {"runit": "2.1"}, "uv": uv, **overrides})


def lock(**overrides: Any) -> Lock:
    return Lock(**{"pins": pins(), "inputs": Inputs.present(), "content": Content(runtime=DIGEST), **overrides})


class FakeEngine:
    """Images by name with their attributes; `pull` has what `registry` has."""

    def __init__(self, *names: str, registry: tuple[str, ...] = (), digests: tuple[str, ...] = ()) -> None:
        self.names, self.registry, self.digests = set(names), registry, digests
        self.images = self
        self.pulled: list[str] = []

    def version(self) -> dict[str, str]:
        return {"Arch": "amd64"}

    def get(self, name: str) -> object:
        if name not in self.names:
            raise docker.errors.ImageNotFound(name)
        return SimpleNamespace(attrs={"RepoDigests": list(self.digests)})

    def pull(self, name: str) -> None:
        self.pulled.append(name)
        if name not in self.registry:
            raise docker.errors.APIError("no registry")
        self.names.add(name)


Progress = Callable[[str], None]


def silent(_line: str) -> None:
    """A progress that nobody reads."""
