"""Ubuntu as a machine: made with debootstrap from Ubuntu's archive, bare but for systemd, sshd and chrony."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

import docker
import docker.errors

from tests.hosts import machine

ARCHIVE = "http://archive.ubuntu.com/ubuntu"
SCRIPTS = Path("/usr/share/debootstrap/scripts")
SUITES = {"22.04": "jammy", "24.04": "noble"}
POCKETS = ("", "-updates", "-security")


def machine_image(engine: docker.DockerClient, version: str) -> str:
    """The image of a bare machine of Ubuntu, made once on this engine. Needs root, debootstrap and the archive."""
    return machine.machine_image(engine, base_image(engine, version))


def base_image(engine: docker.DockerClient, version: str) -> str:
    """The image it is made from."""
    name = f"consortium-test-ubuntu:{version}"
    try:
        engine.images.get(name)
    except docker.errors.ImageNotFound:
        _import_base(engine, SUITES[version], name)
    return name


def _import_base(engine: docker.DockerClient, suite: str, name: str) -> None:
    folder = Path(tempfile.mkdtemp(prefix="consortium-ubuntu-", dir="/var/tmp"))
    try:
        tree, archive = folder / "root", folder / "root.tar"
        # Every Ubuntu is made by this script; an older debootstrap does not know the newer names.
        script = [] if (SCRIPTS / suite).exists() else [str(SCRIPTS / "gutsy")]
        _run("debootstrap", "--variant=minbase", "--components=main,universe", suite, str(tree), ARCHIVE, *script)
        sources = "".join(f"deb {ARCHIVE} {suite}{pocket} main universe\n" for pocket in POCKETS)
        (tree / "etc/apt/sources.list").write_text(sources)
        excluded = ("./dev/*", "./proc/*", "./sys/*", "./etc/hostname", "./etc/resolv.conf")
        _run("tar", "-C", str(tree), *(f"--exclude={e}" for e in excluded), "-cf", str(archive), ".")
        repository, tag = name.split(":")
        engine.api.import_image(str(archive), repository=repository, tag=tag)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {(done.stdout + done.stderr)[-2000:]}"
