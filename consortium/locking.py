"""Writes the lock file, and compares builds with it and with one another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import docker
import yaml

from consortium import debian, lockfile, manifest
from consortium.ansible import ROLES
from consortium.base_image import DEBOOTSTRAP, DEFAULT_BASE, ensure_base, source_of
from consortium.folders import cache_folder, locked
from consortium.image import bake_from, connect, locked_base, pinned_base, targets
from consortium.image_build import MIRROR_FIXES, Progress, built, resolve
from consortium.image_downloads import Downloads
from consortium.lockfile import LOCK, Base, Content, Inputs, Lock, NotAsLocked, Origin, Pins


def make(engine: str, base: str | None, *, update: bool, downloads: Downloads, on_progress: Progress) -> Lock:
    """Find what a lock file must say now, and bake by it. Writes nothing.

    What the present file pins is kept and only what is new is added, unless `update` or another `base` is asked for.
    Raises BakeFailed, NoBaseImage, NotAsLocked.
    """
    client = connect(engine)
    before = lockfile.load()
    name = base or (before.pins.base.name if before else DEFAULT_BASE)
    kept = before.pins if before and before.pins.base.name == name and not update else None
    with locked(cache_folder() / "bake.lock", lambda: on_progress("waiting for another bake of this user")):
        if kept:
            found, parent = kept.base, pinned_base(client, kept.base, downloads, on_progress)
        else:
            found, parent = _new_base(client, name, update, downloads, on_progress)
        on_progress("asking the mirror for the roles' Debian packages")
        pinned = kept.debian() if kept else {}
        packages = resolve(client, parent, _wanted(), pinned, downloads)
    # Apt passes over a pin that the mirror cannot serve; here that is an error, not an update.
    if lines := debian.differing({name: pinned.get(name, version) for name, version in packages.items()}, packages):
        raise NotAsLocked(
            "the mirror has not the locked version of a Debian package",
            where=LOCK.name,
            value="\n".join(lines),
            fix=MIRROR_FIXES,
        )
    architecture = str(client.version()["Arch"])
    pins = Pins(architecture=architecture, base=found, packages=packages, uv=lockfile.uv_version())
    inputs = Inputs.present()
    runtime = _runtime(client, engine, Origin(name, pins), downloads, on_progress)
    return Lock(pins=pins, inputs=inputs, content=Content(runtime=runtime.digest()))


def check(engine: str, *, rebuild: bool, downloads: Downloads, on_progress: Progress) -> list[str]:
    """One line for each thing that is not as the lock file says: here, and in the image baked by it.

    Bakes unless the image is there. `rebuild` builds every stage a second time and names each file that differs from
    the first build. Raises NotAsLocked where there is no lock file or it cannot be obeyed.
    """
    lock = required()
    if lines := lockfile.stale(lock):
        return lines  # an image of other roles is another image: nothing to compare
    begin = Origin(lock.pins.base.name, lock.pins)
    client = connect(engine)
    found = _runtime(client, engine, begin, downloads, on_progress)
    lines = debian.differing(lock.pins.debian(), found.packages)
    if found.digest() != lock.content.runtime:
        lines.append(f"content.runtime: locked {lock.content.runtime}, found {found.digest()}")
    return lines + (_second_build(client, engine, begin, found, downloads, on_progress) if rebuild else [])


def changes(before: Lock | None, after: Lock) -> list[str]:
    """One line for each field of the lock file that changed."""
    old, new = (_flat(lock.model_dump(mode="json") if lock else {}) for lock in (before, after))
    return [
        f"{field}: {old.get(field, 'none')} → {new.get(field, 'none')}"
        for field in sorted({*old, *new})
        if old.get(field) != new.get(field)
    ]


def required() -> Lock:
    """The lock file. Raises NotAsLocked where there is none."""
    lock = lockfile.load()
    if lock is None:
        raise NotAsLocked("there is no lock file", where=str(LOCK), fix="write one: `consortium lock`")
    return lock


def _new_base(
    client: docker.DockerClient, name: str, update: bool, downloads: Downloads, on_progress: Progress
) -> tuple[Base, str]:
    parent = ensure_base(client, name, downloads.apt_mirror, on_progress)
    source = source_of(client, parent)
    if update and source == DEBOOTSTRAP:
        parent = ensure_base(client, name, downloads.apt_mirror, on_progress, source=source, renew=True)
    on_progress(f"reading {parent}")
    found = manifest.of_image(client, parent)
    return Base(name=name, source=source, content=found.digest(), packages=found.packages), parent


def _runtime(
    client: docker.DockerClient, engine: str, begin: Origin, downloads: Downloads, on_progress: Progress
) -> manifest.Manifest:
    """The manifest of the first stage, the one that holds everything which is not this repository's own."""
    bake_from(engine, begin, downloads=downloads, on_progress=on_progress)
    name = targets(begin)[0][1]
    on_progress(f"reading {name}")
    return manifest.of_image(client, name)


def _second_build(
    client: docker.DockerClient,
    engine: str,
    begin: Origin,
    runtime: manifest.Manifest,
    downloads: Downloads,
    on_progress: Progress,
) -> list[str]:
    """One line for each file of any stage that is not as in its image; `runtime` is the manifest of the first.

    A second build is read from its container and never becomes an image.
    """
    lines: list[str] = []
    first: manifest.Manifest | None = runtime
    with locked(cache_folder() / "bake.lock", lambda: on_progress("waiting for another bake of this user")):
        parent = locked_base(client, begin, downloads, on_progress)
        for stage, target in targets(begin):
            on_progress(f"building {target} again on {parent}")
            with built(
                client, engine, stage, parent, f"again-{target}", downloads, begin.pins, on_progress
            ) as container:
                on_progress("reading it")
                second = manifest.of_container(container)
            if first is None:
                on_progress(f"reading {target}")
                first = manifest.of_image(client, target)
            lines += [f"{stage.name}: {line}" for line in first.differences(second)]
            parent, first = target, None
    return lines


def _wanted() -> list[str]:
    defaults = yaml.safe_load((ROLES / "base" / "defaults" / "main.yml").read_text("utf-8"))
    return [*defaults["base_packages"], "runit"]


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for key, inner in value.items():
        found |= _flat(inner, f"{prefix}{key}.") if isinstance(inner, Mapping) else {f"{prefix}{key}": str(inner)}
    return found
