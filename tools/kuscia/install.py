"""Kuscia's node for tests, built from a checkout of secretflow/kuscia: `install.py CHECKOUT` prints the program's path.

The checkout is read and never written: the Go files of this folder are laid over it while it is compiled. The program
lies in the user's cache folder, beside the files of Kuscia that it reads; a second run for the same source finds both.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[2])

from airgap.installer import build, go  # noqa: E402 - the path above makes these importable
from airgap.installer.cli import default_cache, locked  # noqa: E402
from airgap.installer.errors import InstallError  # noqa: E402

SOURCES = sorted(Path(__file__).resolve().parent.glob("*.go"))
PLACE = Path("cmd/consortium-node")
FLAGS = ["-trimpath", "-ldflags", "-s -w"]


def main(arguments: list[str]) -> int:
    """0 = the program is there, 1 = it could not be built, 2 = called wrongly."""
    if len(arguments) != 1:
        print("usage: install.py CHECKOUT", file=sys.stderr)
        return 2
    cache = default_cache().parent / "kuscia"
    try:
        with locked(cache):
            print(ensure(cache, Path(arguments[0]).resolve()) / "kuscia-node")
    except InstallError as error:
        print(f"kuscia: {error}", file=sys.stderr)
        return 1
    return 0


def ensure(cache: Path, source: Path) -> Path:
    """The folder of the program for this source; builds it when it is not there."""
    if not (source / "go.mod").is_file() or not (source / "pkg" / "kusciaapi").is_dir():
        raise InstallError(f"{source} is no checkout of secretflow/kuscia: it has no go.mod, or no pkg/kusciaapi")
    release = cache / digest(source)
    if release.exists():
        return release
    with tempfile.TemporaryDirectory(dir=cache, prefix=".building-") as temp:
        made = Path(temp) / "release"
        made.mkdir()
        overlay = Path(temp) / "overlay.json"
        overlay.write_text(json.dumps({"Replace": {str(source / PLACE / one.name): str(one) for one in SOURCES}}))
        command = go.ensure(cache, build.pin(r"^go (\S+)", source))
        print(f"kuscia: building a node from {source} (minutes the first time)", file=sys.stderr)
        arguments = [command, "build", "-v", *FLAGS, "-overlay", str(overlay), "-o", str(made / "kuscia-node")]
        environment = {**os.environ, **build.ENVIRONMENT}
        build.run_with_progress([*arguments, f"./{PLACE}"], source, environment, "kuscia")
        shutil.copytree(source / "etc" / "conf", made / "conf")
        made.replace(release)
    return release


def digest(source: Path) -> str:
    """Names the build: every file that is compiled, as far as git or its own content says."""
    compiled = ["*.go", "go.mod", "go.sum", "etc"]
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *compiled]
    names = subprocess.run(command, cwd=source, capture_output=True, check=False)
    if names.returncode:
        raise InstallError(f"{source} is no git checkout: {names.stderr.decode(errors='replace').strip()}")
    found = hashlib.sha256(b"".join(one.read_bytes() for one in SOURCES))
    for name in sorted(name for name in names.stdout.decode().split("\0") if name):
        path = source / name
        if path.is_file():
            found.update(f"{name}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()[:16]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
