"""The command line of ``airgap/install``."""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from airgap.installer import build, layout
from airgap.installer.errors import InstallError

EXAMPLES = """\
examples:
  python3 airgap/install                          build or reuse the CLI, say what to export
  eval "$(python3 airgap/install --print-env)"    the same, and use it in this shell
  python3 airgap/install --python .venv/bin/python    plugins run with the project's packages
  python3 airgap/install --cache /opt/airgap --force  rebuild into another folder
  python3 airgap/install --json | jq -r .pulumi   for scripts

Modules come from GOPROXY (Go's own default when it is not set). No Go is needed on linux/amd64:
a pinned toolchain is fetched from the same proxy when none that is new enough is installed.
"""


def default_cache() -> Path:
    """The folder that everything is made in unless --cache names another."""
    base = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    return Path(base) / "consortium" / "airgap"


def parser() -> argparse.ArgumentParser:
    """The options."""
    p = argparse.ArgumentParser(
        prog="airgap/install",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("--cache", type=Path, metavar="DIR", help=f"default: {default_cache()}")
    p.add_argument(
        "--python",
        default=sys.executable,
        metavar="PATH",
        help="interpreter that has pulumi, pulumi_docker, docker and grpcio (default: this one)",
    )
    p.add_argument("--force", action="store_true", help="build again although a build exists")
    shown = p.add_mutually_exclusive_group()
    shown.add_argument("--json", action="store_true", help="print the result as JSON")
    shown.add_argument("--print-env", action="store_true", help="print only lines to eval")
    return p


@contextmanager
def locked(cache: Path) -> Iterator[None]:
    """Holds the cache for one installer; a second one waits and says so."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"airgap: waiting for another install into {cache}", file=sys.stderr)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main(argv: list[str] | None = None) -> int:
    """Installs; the exit status is 0, or 1 with a message that says what to do."""
    args = parser().parse_args(argv)
    cache = (args.cache or default_cache()).expanduser().absolute()
    try:
        python = layout.interpreter(args.python)
        with locked(cache):
            release = build.ensure_release(cache, force=args.force)
            installed = layout.lay_out(cache, release, python)
    except InstallError as error:
        print(f"airgap: {error}", file=sys.stderr)
        return 1
    if args.json:
        print(json.dumps(installed.as_json(), indent=2))
        return 0
    if not args.print_env:
        print(f"Pulumi {build.VERSION} is ready in {installed.bin}. To use it in this shell:\n")
    print(f'export PATH={shlex.quote(str(installed.bin))}:"$PATH"')
    for name, value in installed.variables().items():
        print(f"export {name}={shlex.quote(value)}")
    return 0
