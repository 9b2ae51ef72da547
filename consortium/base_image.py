"""Finds the Debian image that nodes are baked on, or makes one where no registry of images can be reached."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import docker
import docker.errors
import requests

from consortium.ansible import ROLES
from consortium.errors import ConsortiumError

DEFAULT_BASE = "debian:12-slim"
SUITE = "bookworm"
DEBOOTSTRAP, ON_ENGINE = "debootstrap", "engine"
INCLUDE = ("ca-certificates", "python3")
DEFAULT_MIRROR = "http://deb.debian.org/debian"
SOURCES = f"deb {DEFAULT_MIRROR} {SUITE} main"
STRIP = ROLES / "base" / "files" / "strip.sh"


class NoBaseImage(ConsortiumError):
    """No image to bake on could be found, pulled or made."""


def ensure_base(
    client: docker.DockerClient,
    base: str,
    apt_mirror: str | None,
    on_progress: Callable[[str], None],
    *,
    source: str = "",
    renew: bool = False,
) -> str:
    """Return the name of an image of Debian 12 on this engine: `base` itself, or one made with debootstrap.

    A name other than the default is never replaced silently. `source`, from a lock file, is what `source_of` returned:
    then it is that one or none. `renew` makes the one of debootstrap even if it is there. Raises NoBaseImage.
    """
    own = own_name()
    free = not source and base == DEFAULT_BASE
    wanted = own if source == DEBOOTSTRAP else source if "@" in source else base
    for name in (wanted, own) if free else (wanted,):
        with suppress(docker.errors.ImageNotFound):
            client.images.get(name)
            if not (renew and name == own):
                return name
    if source != DEBOOTSTRAP and _pulled(client, wanted, free, on_progress):
        return wanted
    _debootstrap(client, own, apt_mirror or DEFAULT_MIRROR, on_progress)
    return own


def source_of(client: docker.DockerClient, name: str) -> str:
    """How another machine comes to this image: DEBOOTSTRAP, a registry's `name@sha256:…`, or ON_ENGINE (load it)."""
    if name == own_name():
        return DEBOOTSTRAP
    digests: list[str] = client.images.get(name).attrs.get("RepoDigests") or []
    return min(digests, default=ON_ENGINE)


def _pulled(client: docker.DockerClient, name: str, may_make: bool, on_progress: Callable[[str], None]) -> bool:
    on_progress(f"pulling {name}")
    try:
        client.images.pull(name)
    except (docker.errors.APIError, requests.RequestException) as error:
        if not may_make:
            raise NoBaseImage(
                "the base image cannot be pulled",
                value=f"{name}: {error}",
                fix="load it into the engine, leave --base out, or take what is here: `consortium lock --update`",
            ) from error
        on_progress(f"cannot pull {name} ({_short(error)}); making one with debootstrap")
        return False
    return True


def own_name() -> str:
    """The image that debootstrap makes, named after its recipe; what the mirror served is told by its content."""
    recipe = "\0".join([*INCLUDE, SOURCES, STRIP.read_text("utf-8")])
    return f"consortium-base:{SUITE}-{hashlib.sha256(recipe.encode()).hexdigest()[:8]}"


def _debootstrap(client: docker.DockerClient, name: str, mirror: str, on_progress: Callable[[str], None]) -> None:
    root = _as_root()
    if not shutil.which("debootstrap", path="/usr/sbin:/sbin:/usr/bin:/bin"):
        on_progress("installing debootstrap")
        _run([*root, "apt-get", "install", "-yq", "--no-install-recommends", "debootstrap"])
    on_progress(f"debootstrap {SUITE} from {mirror}")
    # /var/tmp rather than /tmp, which may be small or mounted so that no program in it may run.
    folder = Path(tempfile.mkdtemp(prefix="consortium-base-", dir="/var/tmp"))
    try:
        tree, archive = folder / "root", folder / "root.tar"
        _run([*root, "debootstrap", "--variant=minbase", f"--include={','.join(INCLUDE)}", SUITE, str(tree), mirror])
        _run([*root, "sh", str(STRIP), str(tree)])
        # Whatever mirror it came from: a bake is told its own mirror from outside.
        _run([*root, "sh", "-c", 'echo "$0" > "$1"', SOURCES, str(tree / "etc/apt/sources.list")])
        excluded = ("./dev/*", "./proc/*", "./sys/*", "./etc/hostname", "./etc/resolv.conf")
        _run([*root, "tar", "-C", str(tree), *(f"--exclude={e}" for e in excluded), "-cf", str(archive), "."])
        repository, tag = name.split(":")
        on_progress(f"importing {name}")
        client.api.import_image(str(archive), repository=repository, tag=tag)
    finally:
        _run([*root, "rm", "-rf", str(folder)])


def _as_root() -> list[str]:
    if os.geteuid() == 0:
        return []
    if shutil.which("sudo") and subprocess.run(["sudo", "-n", "true"], capture_output=True).returncode == 0:
        return ["sudo", "-n"]
    raise NoBaseImage(
        "making a base image needs root once",
        value="this user is not root and sudo asks for a password",
        fix=f"run `sudo -v` first, or load {own_name()} (without a lock file also {DEFAULT_BASE}) into the engine",
    )


def _run(command: Sequence[str]) -> None:
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PATH": path})
    if done.returncode:
        raise NoBaseImage(
            "making a base image failed",
            where=" ".join(command),
            value="\n".join((done.stdout + done.stderr).splitlines()[-10:]),
            fix="mend what it names and run the command again",
        )


def _short(error: Exception) -> str:
    return str(error).splitlines()[0][:160]
