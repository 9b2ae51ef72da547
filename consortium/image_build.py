"""Runs one stage of a bake in a build container, and sees to it that the container is gone afterwards."""

from __future__ import annotations

import io
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import docker
import docker.errors
from docker.models.containers import Container
from docker.types import Mount

from consortium import debian
from consortium.ansible import Event, run_playbook
from consortium.errors import ConsortiumError
from consortium.image_downloads import TOOLS, BakeFailed, Downloads, environment, mounts
from consortium.image_stages import BAKE, STAGES, Stage, files
from consortium.lockfile import LOCK, NotAsLocked, Pins

Progress = Callable[[str], None]
_ANSWER = "/var/cache/apt/consortium-answer"  # stripped at the end of every bake
MIRROR_FIXES = (
    "name a mirror of that day (https://snapshot.debian.org keeps them) in the setting package_mirror.apt, "
    "or take what the mirror has now: `consortium lock --update`"
)


@contextmanager
def built(
    client: docker.DockerClient,
    engine: str,
    stage: Stage,
    parent: str,
    name: str,
    downloads: Downloads,
    pins: Pins | None,
    on_progress: Progress,
) -> Iterator[Container]:
    """A stopped container, on image `parent`, in which a stage's roles have been installed.

    With pins it has exactly their Debian packages. Raises AnsibleFailed, NotAsLocked.
    """
    started = time.monotonic()

    def timed(line: str) -> None:
        on_progress(f"{time.monotonic() - started:6.1f} s  {line}")

    with tempfile.TemporaryDirectory(prefix="consortium-bake-") as folder:
        tools = Path(folder)
        pinned = debian.preferences(pins.debian(), nothing_else=True) if pins else ""
        with build_container(client, parent, name, mounts(tools, downloads, pinned)) as container:
            if pins:
                _check_mirror(container, pins, environment(downloads))
            variables = {
                "ansible_connection": "community.docker.docker_api",
                "ansible_host": container.name,
                "bake_environment": environment(downloads),
                "bake_strip": True,
                "base_uv": f"{TOOLS}/uv",
                "coordinator_archive": str(archive(tools / "coordinator.tar", stage.sources)),
            }
            inventory = {s.name: ({"build": variables} if s == stage else {}) for s in STAGES}
            run_playbook(BAKE, inventory, env={"DOCKER_HOST": engine}, on_event=_reporter(timed))
            if pins:
                _check_packages(container, pins)
            container.stop(timeout=0)
            yield container


def resolve(
    client: docker.DockerClient,
    base: str,
    wanted: list[str],
    kept: Mapping[str, str],
    downloads: Downloads,
) -> dict[str, str]:
    """Package → version of what apt would install on `base` to have `wanted`, those of `kept` at their version."""
    with tempfile.TemporaryDirectory(prefix="consortium-lock-") as folder:
        pinned = debian.preferences(kept, nothing_else=False)
        with build_container(client, base, "lock", mounts(Path(folder), downloads, pinned)) as container:
            told = environment(downloads)
            _ask(container, "apt-get update -q", told)
            return debian.planned(
                _ask(container, "apt-get --simulate install --no-install-recommends " + " ".join(wanted), told)
            )


@contextmanager
def build_container(client: docker.DockerClient, parent: str, target: str, volumes: list[Mount]) -> Iterator[Container]:
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


def _check_mirror(container: Container, pins: Pins, told: Mapping[str, str]) -> None:
    """Ask before anything is installed: apt itself would only say that there is no candidate."""
    missing = set(pins.debian().items()) - set(_installed(container).items())
    if not missing:
        return
    _ask(container, "apt-get update -q", told)
    offer = debian.offered(_ask(container, "apt-cache madison " + " ".join(n for n, _ in sorted(missing)), told))
    if lines := debian.not_offered(dict(missing), offer):
        raise NotAsLocked(
            "the mirror has not the locked version of a Debian package",
            where=LOCK.name,
            value="\n".join(lines),
            fix=MIRROR_FIXES,
        )


def _check_packages(container: Container, pins: Pins) -> None:
    if lines := debian.differing(pins.debian(), _installed(container)):
        raise NotAsLocked(
            "the bake installed other Debian packages than the lock file names",
            where=LOCK.name,
            value="\n".join(lines),
            fix="the roles ask for other packages than when it was written: `consortium lock`",
        )


def _installed(container: Container) -> dict[str, str]:
    return debian.installed(_fetch(container, f"/{debian.DPKG_STATUS}"))


def _ask(container: Container, command: str, told: Mapping[str, str]) -> str:
    """Run a command and return its output, by way of a file: an exec's own stream can lose its beginning."""
    done = container.exec_run(["sh", "-c", f"{command} > {_ANSWER} 2>&1"], environment=dict(told))
    answer = _fetch(container, _ANSWER)
    if done.exit_code:
        raise BakeFailed(
            "a package tool failed in the build container",
            where=command[:80],
            value="\n".join(answer.splitlines()[-10:]),
            fix="mend what it names; settings: package_mirror.apt, ca_bundle",
        )
    return answer


def _fetch(container: Container, path: str) -> str:
    pieces, _ = container.get_archive(path)
    with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as tar:
        file = tar.extractfile(tar.getmembers()[0])
        if file is None:
            raise ConsortiumError("not a regular file in the build container", where=path)
        return file.read().decode("utf-8", errors="replace")


def _reporter(timed: Progress) -> Callable[[Event], None]:
    def report(event: Event) -> None:
        if event.kind == "task":
            timed(event.task)

    return report


def _remove(client: docker.DockerClient, name: str) -> None:
    with suppress(docker.errors.NotFound):
        client.containers.get(name).remove(force=True, v=True)


def archive(path: Path, sources: tuple[Path, ...]) -> Path:
    """The coordinator's source as a tar file, without caches."""
    with tarfile.open(path, "w") as tar:
        for source in sources:
            for file in files(source):
                tar.add(file, file.relative_to(source.parent).as_posix(), filter=_as_root)
    return path


def _as_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    member.mode = 0o644
    member.mtime = 0
    return member
