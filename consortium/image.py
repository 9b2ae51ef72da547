"""Bakes the node image: the install parts of the roles, run once per content digest in a build container.

Two stages, each an image of its own: `runtime` (Debian packages, SecretFlow, Ray, Envoy: large, changes rarely) and
`node` (the coordinator on top), so that an edit of the coordinator does not install SecretFlow again.
What the download tools need (certificate bundle, mirrors, cache, pins) is mounted below /dev of the build container,
which is never part of an image.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress

import docker
import docker.errors
import requests

from consortium import debian, manifest
from consortium.base_image import DEBOOTSTRAP, ensure_base
from consortium.folders import cache_folder, locked
from consortium.image_build import MIRROR_FIXES, Progress, built
from consortium.image_downloads import BakeFailed, Downloads
from consortium.image_stages import STAGES, Stage, stage_digests
from consortium.lockfile import LOCK, Base, NotAsLocked, Origin, Pins, origin, uv_version
from consortium.spec import Model

__all__ = ["BakeFailed", "Downloads", "bake", "content_digest", "image_name", "node_image", "prune"]


def content_digest(base: str | None = None) -> str:
    """SHA-256 (hex) over everything a node image is made of, the lock file's pins included.

    Needs no engine: `preview` can tell the image's name. `base` is for where there is no lock file.
    """
    return stage_digests(origin(base).seed())[-1]


def image_name(base: str | None = None) -> str:
    """The image that `bake` makes, or has made, from the present content."""
    return targets(origin(base))[-1][1]


def node_image(model: Model) -> str:
    """The image of an institution's nodes: the one its settings name, else the one of the present content."""
    return model.settings.image or image_name()


def targets(begin: Origin) -> list[tuple[Stage, str]]:
    """Every stage with the name of its image."""
    return [(s, f"{s.repository}:{d[:12]}") for s, d in zip(STAGES, stage_digests(begin.seed()), strict=True)]


def bake(
    engine: str,
    base: str | None = None,
    *,
    downloads: Downloads | None = None,
    on_progress: Progress = lambda line: None,
) -> str:
    """Make the node image on the engine (`unix://…`) unless it is there, and return its name.

    Idempotent, and safe to interrupt: an image appears at the end of its stage or not at all. Raises BakeFailed;
    NotAsLocked where a lock file is there and cannot be obeyed.
    """
    return bake_from(engine, origin(base), downloads=downloads, on_progress=on_progress)


def bake_from(
    engine: str,
    begin: Origin,
    *,
    downloads: Downloads | None = None,
    on_progress: Progress = lambda line: None,
) -> str:
    """As `bake`, from a base and pins given."""
    downloads = downloads or Downloads.from_environment(os.environ)
    client = connect(engine)
    stages = targets(begin)
    name = stages[-1][1]
    if _exists(client, name):
        return name
    if not engine.startswith("unix://"):
        raise BakeFailed(
            "an image can only be baked on an engine of this machine",
            where="settings.engine",
            value=engine,
            allowed="unix://…",
            fix=f"bake it here, then `docker save {name} | docker --host {engine} load`",
        )
    with locked(cache_folder() / "bake.lock", lambda: on_progress("waiting for another bake of this user")):
        parent = ""
        for stage, target in stages:
            if not _exists(client, target):
                parent = parent or locked_base(client, begin, downloads, on_progress)
                _bake_stage(client, engine, stage, parent, target, downloads, begin.pins, on_progress)
                if (stage, target) not in targets(begin):
                    client.images.remove(target, force=True)
                    raise BakeFailed("its sources changed while the image was baked", value=target, fix="bake again")
            parent = target
    return name


def locked_base(client: docker.DockerClient, begin: Origin, downloads: Downloads, on_progress: Progress) -> str:
    """The name, on the engine, of the image that a bake begins with; with pins, of one that is what they say.

    Raises NoBaseImage, NotAsLocked.
    """
    if begin.pins is None:
        return ensure_base(client, begin.base, downloads.apt_mirror, on_progress)
    here = {"architecture": client.version()["Arch"], "uv": uv_version()}
    for what, found in here.items():
        if found != (pinned := getattr(begin.pins, what)):
            raise NotAsLocked(
                "this machine differs from the lock file",
                where=f"{LOCK.name}: pins.{what}",
                value=str(found),
                allowed=pinned,
                fix="`tools/bootstrap python` installs the tools; `consortium lock --update` takes what is here",
            )
    return pinned_base(client, begin.pins.base, downloads, on_progress)


def pinned_base(client: docker.DockerClient, pinned: Base, downloads: Downloads, on_progress: Progress) -> str:
    """The name of the base image, after a look at every file of it. Raises NoBaseImage, NotAsLocked."""
    # One that debootstrap made here may be of another day; the mirror may well serve the locked one.
    for renew in (False, True) if pinned.source == DEBOOTSTRAP else (False,):
        name = ensure_base(client, pinned.name, downloads.apt_mirror, on_progress, source=pinned.source, renew=renew)
        on_progress(f"reading {name}")
        found = manifest.of_image(client, name)
        if found.digest() == pinned.content:
            return name
    lines = debian.differing(pinned.packages, found.packages)
    raise NotAsLocked(
        "the base image is not the locked one",
        where=f"{LOCK.name}: pins.base",
        value="\n".join([f"{name}, content {found.digest()}", *(lines or ["the same packages, but other files"])]),
        allowed=pinned.content,
        fix=MIRROR_FIXES,
    )


def prune(engine: str, base: str | None = None) -> list[str]:
    """Remove every image that an earlier bake made and that neither a container nor the present content needs.

    Returns their names. Raises BakeFailed where the engine does not answer.
    """
    client = connect(engine)
    kept = {target for _, target in targets(origin(base))}
    removed = []
    with locked(cache_folder() / "bake.lock"):
        used = {
            container.image.id for container in client.containers.list(all=True, ignore_removed=True) if container.image
        }
        for stage in reversed(STAGES):  # an image cannot go before those that stand on it
            for image in client.images.list(stage.repository):
                if not kept & set(image.tags) and image.id not in used:
                    # Without force: the engine keeps what another image still stands on.
                    with suppress(docker.errors.APIError):
                        for tag in image.tags:
                            client.images.remove(tag)
                            removed.append(tag)
    return removed


def connect(engine: str) -> docker.DockerClient:
    """The engine's client. Raises BakeFailed where it does not answer."""
    try:
        return docker.DockerClient(base_url=engine, timeout=600)
    except (docker.errors.DockerException, requests.RequestException) as error:
        raise BakeFailed(
            "the container engine does not answer",
            where="settings.engine",
            value=f"{engine}: {error}",
            fix="start it (`systemctl start docker`), or correct the address; this user must be in group docker",
        ) from error


def _bake_stage(
    client: docker.DockerClient,
    engine: str,
    stage: Stage,
    parent: str,
    target: str,
    downloads: Downloads,
    pins: Pins | None,
    on_progress: Progress,
) -> None:
    started = time.monotonic()
    on_progress(f"baking {target} on {parent}")
    with built(client, engine, stage, parent, target, downloads, pins, on_progress) as container:
        on_progress(f"{time.monotonic() - started:6.1f} s  saving {target}")
        repository, tag = target.split(":")
        container.commit(repository, tag, changes=_image_settings(stage))
    on_progress(f"{time.monotonic() - started:6.1f} s  {target} is ready")


def _image_settings(stage: Stage) -> list[str]:
    if stage is not STAGES[-1]:
        return ["CMD []"]
    return ['ENTRYPOINT ["/usr/local/sbin/node-init"]', "CMD []", "HEALTHCHECK NONE"]


def _exists(client: docker.DockerClient, name: str) -> bool:
    try:
        client.images.get(name)
    except docker.errors.ImageNotFound:
        return False
    return True
