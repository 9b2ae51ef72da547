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

from consortium.errors import ConsortiumError

DEFAULT_BASE = "debian:12-slim"
SUITE = "bookworm"
INCLUDE = ("ca-certificates", "python3")
DEFAULT_MIRROR = "http://deb.debian.org/debian"


class NoBaseImage(ConsortiumError):
    """No image to bake on could be found, pulled or made."""


def ensure_base(
    client: docker.DockerClient, base: str, apt_mirror: str | None, on_progress: Callable[[str], None]
) -> str:
    """Return the name of an image of Debian 12 on this engine: `base` itself, or one made with debootstrap.

    A name other than the default is never replaced silently. Raises NoBaseImage.
    """
    own = f"consortium-base:{SUITE}-{hashlib.sha256(' '.join(INCLUDE).encode()).hexdigest()[:8]}"
    for name in (base, own) if base == DEFAULT_BASE else (base,):
        with suppress(docker.errors.ImageNotFound):
            client.images.get(name)
            return name
    on_progress(f"pulling {base}")
    try:
        client.images.pull(base)
    except (docker.errors.APIError, requests.RequestException) as error:
        if base != DEFAULT_BASE:
            raise NoBaseImage(
                "the base image cannot be pulled",
                value=f"{base}: {error}",
                fix=f"load it into the engine, or leave the setting out to use {DEFAULT_BASE} or debootstrap",
            ) from error
        on_progress(f"cannot pull {base} ({_short(error)}); making one with debootstrap")
    else:
        return base
    _debootstrap(client, own, apt_mirror or DEFAULT_MIRROR, on_progress)
    return own


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
        excluded = ("./var/cache/apt/archives/*.deb", "./var/lib/apt/lists/*", "./dev/*", "./proc/*", "./sys/*")
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
        fix=f"run `sudo -v` first, or load {DEFAULT_BASE} into the engine",
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
