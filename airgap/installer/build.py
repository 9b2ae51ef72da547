"""Builds the Pulumi CLI, pinned by the go.mod and go.sum in this folder's parent."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from airgap.installer import go
from airgap.installer.errors import InstallError

HERE = Path(__file__).resolve().parents[1]
SDK = "github.com/pulumi/pulumi/sdk/v3"
COMMAND = "github.com/pulumi/pulumi/pkg/v3/cmd/pulumi"
EXEC = "python/cmd/pulumi-language-python-exec"


ENVIRONMENT = {
    "CGO_ENABLED": "0",  # one static file that needs no C compiler
    "GOFLAGS": "-mod=readonly",  # go.sum is the pin: fail rather than resolve anew
    "GOTOOLCHAIN": "local",
    "GOWORK": "off",
}
"""What go is run with besides the environment."""


def pin(pattern: str, folder: Path = HERE) -> str:
    """One value out of the folder's go.mod, so that a version is written in one place only."""
    found = re.search(pattern, (folder / "go.mod").read_text(), re.MULTILINE)
    if not found:
        raise InstallError(f"{folder / 'go.mod'} has no line like {pattern}")
    return found.group(1)


VERSION = pin(r"pulumi/pkg/v3 (v\S+)")
FLAGS = ["-trimpath", "-ldflags", f"-s -w -X {SDK}/go/common/version.Version={VERSION}"]


def digest(folder: Path = HERE, flags: Sequence[str] = FLAGS) -> str:
    """Names the build: it changes with whatever changes the binary."""
    h = hashlib.sha256()
    for part in (
        (folder / "go.mod").read_bytes(),
        (folder / "go.sum").read_bytes(),
        "\0".join(flags).encode(),
        f"{platform.system()}-{platform.machine()}".encode(),
    ):
        h.update(hashlib.sha256(part).digest())
    return h.hexdigest()[:12]


def ensure_release(cache: Path, force: bool = False) -> Path:
    """The folder of the built CLI; builds it when it is missing or ``force`` is set."""
    release = cache / f"{VERSION}-{digest()}"
    if release.exists() and not force:
        return release
    with tempfile.TemporaryDirectory(dir=cache, prefix=".building-") as temp:
        made = Path(temp) / "release"
        (made / "bin").mkdir(parents=True)
        compile_cli(go.ensure(cache, pin(r"^go (\S+)")), Path(temp), made)
        if release.exists():
            release.replace(Path(temp) / "old")
        made.replace(release)
    return release


def compile_cli(command: str, work: Path, made: Path) -> None:
    """Runs go in ``work``; writes bin/pulumi and the SDK's program runner into ``made``."""
    for name in ("go.mod", "go.sum"):
        shutil.copy(HERE / name, work / name)
    env = {**os.environ, **ENVIRONMENT}
    args = [command, "build", "-v", *FLAGS, "-o", str(made / "bin" / "pulumi"), COMMAND]
    print(
        f"airgap: building Pulumi {VERSION} with {command} (minutes the first time)",
        file=sys.stderr,
    )
    run_with_progress(args, work, env)
    said = subprocess.run([made / "bin" / "pulumi", "version"], capture_output=True, text=True)
    if said.stdout.strip() != VERSION:
        raise InstallError(f"the built CLI says {said.stdout.strip() or said.stderr.strip()!r}")
    listed = subprocess.run(
        [command, "list", "-m", "-f", "{{.Dir}}", SDK],
        cwd=work,
        env=env,
        capture_output=True,
        text=True,
    )
    runner = Path(listed.stdout.strip()) / EXEC
    if listed.returncode or not runner.is_file():
        raise InstallError(f"no {EXEC} in module {SDK}: {listed.stderr.strip()}")
    shutil.copyfile(runner, made / "bin" / runner.name)


def run_with_progress(args: list[str], cwd: Path, env: dict[str, str], who: str = "airgap") -> None:
    """Runs ``go build -v``, showing counts: its own output is a line for each of far over 1,000 packages."""
    tty = sys.stderr.isatty()
    start = shown = time.monotonic()
    downloaded = compiled = 0
    tail: list[str] = []
    with subprocess.Popen(
        args, cwd=cwd, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stderr is not None
        for line in child.stderr:
            tail = [*tail[-19:], line.rstrip()]
            if line.startswith("go: downloading"):
                downloaded += 1
            else:
                compiled += 1
            if time.monotonic() - shown > (0.5 if tty else 15):
                shown = time.monotonic()
                text = f"  {shown - start:4.0f} s: {downloaded} modules, {compiled} packages"
                print(f"\r{text}" if tty else text, end="" if tty else "\n", file=sys.stderr)
    if tty:
        print(file=sys.stderr)
    if child.returncode:
        raise InstallError("go build failed:\n  " + "\n  ".join(tail))
    print(f"{who}: built in {time.monotonic() - start:.0f} s", file=sys.stderr)
