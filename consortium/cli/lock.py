"""`consortium lock`: the lock file, which makes the node image reproducible."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from consortium.cli._common import JsonOption, PartyOption, WorkspaceOption, emit, emit_differences, err, say
from consortium.cli.image import BaseOption, engine_and_downloads
from consortium.errors import UsageError

if TYPE_CHECKING:
    from consortium.image import Downloads


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(lock)


def lock(
    update: Annotated[bool, typer.Option("--update", help="Take what the mirror has now; keep no version.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Write nothing; name what differs, exit code 1.")] = False,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="With --check: build every stage a second time and compare all files.")
    ] = False,
    base: BaseOption = None,
    party: PartyOption = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write `consortium.lock`: base image, Debian packages, roles and what came out, all by version or digest.

    Bakes the image by it, which takes some minutes. Versions that are locked already stay; `--update` renews them.
    Engine and mirrors are those of `--party`; without it the engine of this machine and the usual mirrors.

    Example: `consortium lock` after an edit of a role or of a requirements file

    Example: `consortium lock --update` takes newer Debian packages

    Example: `consortium lock --check` in CI: does the lock fit the repository, is the image what it says?

    Example: `consortium lock --check --rebuild` also builds a second time; both builds must be equal
    """
    if check and (update or base):
        raise UsageError("--check writes nothing", where="--update, --base", fix="leave them out, or leave --check out")
    if rebuild and not check:
        raise UsageError("--rebuild is a part of --check", where="--rebuild", fix="consortium lock --check --rebuild")
    engine, downloads = engine_and_downloads(party, workspace)
    if check:
        _check(engine, downloads, rebuild, as_json)
    else:
        _write(engine, downloads, base, update, as_json)


def _check(engine: str, downloads: Downloads, rebuild: bool, as_json: bool) -> None:
    from consortium import locking

    lines = locking.check(engine, rebuild=rebuild, downloads=downloads, on_progress=_progress)
    emit_differences(lines, as_json, some="differ from the lock file", none="all is as the lock file says")


def _write(engine: str, downloads: Downloads, base: str | None, update: bool, as_json: bool) -> None:
    from consortium import lockfile, locking

    before = lockfile.load()
    found = locking.make(engine, base, update=update, downloads=downloads, on_progress=_progress)
    lockfile.save(found)
    lines = locking.changes(before, found)

    def human() -> None:
        for line in lines:
            say(line)
        say(f"{lockfile.LOCK}: {len(lines)} changes" if lines else f"{lockfile.LOCK}: unchanged")

    emit({"file": str(lockfile.LOCK), "changes": lines}, as_json, human)


def _progress(line: str) -> None:
    err.print(escape(line))
