"""Bakes the node image: the install parts of the roles, run once per content digest in a build container.

Two stages, each an image of its own: `runtime` (Debian packages, SecretFlow, Ray, Envoy: large, changes rarely) and
`node` (the coordinator on top), so that an edit of the coordinator does not install SecretFlow again.
What the download tools need (certificate bundle, mirrors, cache) is mounted below /dev of the build container, which
is never part of an image.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import docker
import docker.errors
import requests
from docker.models.containers import Container
from docker.types import Mount

from consortium.ansible import ROLES, Event, run_playbook
from consortium.base_image import DEFAULT_BASE, ensure_base
from consortium.folders import COORDINATOR, cache_folder, locked
from consortium.image_downloads import TOOLS, BakeFailed, Downloads, environment, mounts
from consortium.spec import Model

__all__ = ["BakeFailed", "Downloads", "bake", "content_digest", "image_name", "node_image", "prune"]

REPOSITORY = "consortium-node"
BAKE = ROLES / "bake.yml"
Progress = Callable[[str], None]


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
_UP_TIME = ("tasks/configure.yml", "tasks/service.yml", "library/node_service.py")
_IGNORED = {"__pycache__", ".mypy_cache", ".ruff_cache"}


def content_digest(base: str = DEFAULT_BASE) -> str:
    """SHA-256 (hex) over everything a node image is made of. Needs no engine: `preview` can tell the image's name."""
    return _stage_digests(base)[-1]


def image_name(base: str = DEFAULT_BASE) -> str:
    """The image that `bake` makes, or has made, from the present content."""
    return _targets(base)[-1][1]


def node_image(model: Model) -> str:
    """The image of an institution's nodes: the one its settings name, else the one of the present content."""
    return model.settings.image or image_name()


def _stage_digests(base: str) -> list[str]:
    digests = [base]
    for stage in STAGES:
        digest = hashlib.sha256(digests[-1].encode())
        for name, content in _inputs(stage):
            digest.update(f"{name}\0{hashlib.sha256(content).hexdigest()}\n".encode())
        digests.append(digest.hexdigest())
    return digests[1:]


def _inputs(stage: Stage) -> Iterator[tuple[str, bytes]]:
    """What can change the outcome of a stage; what only acts at `up` time is left out."""
    yield BAKE.name, BAKE.read_bytes()
    for role in stage.roles:
        for path in _files(ROLES / role):
            relative = path.relative_to(ROLES / role).as_posix()
            if relative not in _UP_TIME and not relative.startswith("meta/"):
                yield f"{role}/{relative}", path.read_bytes()
    for source in stage.sources:
        for path in _files(source):
            yield path.relative_to(source.parent).as_posix(), path.read_bytes()


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file() and not _IGNORED & set(p.parts))


def bake(
    engine: str,
    base: str = DEFAULT_BASE,
    *,
    downloads: Downloads | None = None,
    on_progress: Progress = lambda line: None,
) -> str:
    """Make the node image on the engine (`unix://…`) unless it is there, and return its name.

    Idempotent, and safe to interrupt: an image appears at the end of its stage or not at all. Raises BakeFailed.
    """
    downloads = downloads or Downloads.from_environment(os.environ)
    client = _connect(engine)
    targets = _targets(base)
    name = targets[-1][1]
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
        for stage, target in targets:
            if not _exists(client, target):
                parent = parent or ensure_base(client, base, downloads.apt_mirror, on_progress)
                _bake_stage(client, engine, stage, parent, target, downloads, on_progress)
                if (stage, target) not in _targets(base):
                    client.images.remove(target, force=True)
                    raise BakeFailed("its sources changed while the image was baked", value=target, fix="bake again")
            parent = target
    return name


def prune(engine: str, base: str = DEFAULT_BASE) -> list[str]:
    """Remove every image that an earlier bake made and that neither a container nor the present content needs.

    Returns their names. Raises BakeFailed where the engine does not answer.
    """
    client = _connect(engine)
    kept = {target for _, target in _targets(base)}
    removed = []
    with locked(cache_folder() / "bake.lock"):
        used = {container.image.id for container in client.containers.list(all=True) if container.image}
        for stage in reversed(STAGES):  # an image cannot go before those that stand on it
            for image in client.images.list(stage.repository):
                if not kept & set(image.tags) and image.id not in used:
                    # Without force: the engine keeps what another image still stands on.
                    with suppress(docker.errors.APIError):
                        for tag in image.tags:
                            client.images.remove(tag)
                            removed.append(tag)
    return removed


def _connect(engine: str) -> docker.DockerClient:
    try:
        return docker.DockerClient(base_url=engine, timeout=600)
    except (docker.errors.DockerException, requests.RequestException) as error:
        raise BakeFailed(
            "the container engine does not answer",
            where="settings.engine",
            value=f"{engine}: {error}",
            fix="start it (`systemctl start docker`), or correct the address; this user must be in group docker",
        ) from error


def _targets(base: str) -> list[tuple[Stage, str]]:
    """Every stage with the name of its image."""
    return [(s, f"{s.repository}:{digest[:12]}") for s, digest in zip(STAGES, _stage_digests(base), strict=True)]


def _bake_stage(
    client: docker.DockerClient,
    engine: str,
    stage: Stage,
    parent: str,
    target: str,
    downloads: Downloads,
    on_progress: Progress,
) -> None:
    started = time.monotonic()
    on_progress(f"baking {target} on {parent}")
    with tempfile.TemporaryDirectory(prefix="consortium-bake-") as folder:
        tools = Path(folder)
        with _build_container(client, parent, target, mounts(tools, downloads)) as container:
            variables = {
                "ansible_connection": "community.docker.docker_api",
                "ansible_host": container.name,
                "bake_environment": environment(downloads),
                "bake_strip": True,
                "base_uv": f"{TOOLS}/uv",
                "coordinator_archive": str(_archive(tools / "coordinator.tar", stage.sources)),
            }
            inventory = {s.name: ({"build": variables} if s == stage else {}) for s in STAGES}
            run_playbook(BAKE, inventory, env={"DOCKER_HOST": engine}, on_event=_reporter(on_progress, started))
            on_progress(f"{time.monotonic() - started:6.1f} s  saving {target}")
            repository, tag = target.split(":")
            container.stop(timeout=0)
            container.commit(repository, tag, changes=_image_settings(stage))
    on_progress(f"{time.monotonic() - started:6.1f} s  {target} is ready")


def _reporter(on_progress: Progress, started: float) -> Callable[[Event], None]:
    def report(event: Event) -> None:
        if event.kind == "task":
            on_progress(f"{time.monotonic() - started:6.1f} s  {event.task}")

    return report


def _image_settings(stage: Stage) -> list[str]:
    if stage is not STAGES[-1]:
        return ["CMD []"]
    return ['ENTRYPOINT ["/usr/local/sbin/node-init"]', "CMD []", "HEALTHCHECK NONE"]


@contextmanager
def _build_container(
    client: docker.DockerClient, parent: str, target: str, volumes: list[Mount]
) -> Iterator[Container]:
    """A container that is gone afterwards, whatever happens; one that a killed bake left is removed first."""
    name = "bake-" + target.replace(":", "-")
    _remove(client, name)
    container = client.containers.run(
        parent,
        ["sleep", "infinity"],
        entrypoint=[],
        name=name,
        detach=True,
        labels={"consortium.bake": target},
        mounts=volumes,
        init=True,
    )
    try:
        yield container
    finally:
        _remove(client, name)


def _remove(client: docker.DockerClient, name: str) -> None:
    with suppress(docker.errors.NotFound):
        client.containers.get(name).remove(force=True, v=True)


def _exists(client: docker.DockerClient, name: str) -> bool:
    try:
        client.images.get(name)
    except docker.errors.ImageNotFound:
        return False
    return True


def _archive(path: Path, sources: tuple[Path, ...]) -> Path:
    """The coordinator's source as a tar file, without caches."""
    with tarfile.open(path, "w") as tar:
        for source in sources:
            for file in _files(source):
                tar.add(file, file.relative_to(source.parent).as_posix(), filter=_as_root)
    return path


def _as_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    member.mode = 0o644
    member.mtime = 0
    return member
