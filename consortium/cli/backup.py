"""`consortium backup`: a copy of the coordinator's state, fetched while it runs and checked where it is kept."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from consortium.cli._common import JsonOption, PartyOption, WorkspaceOption, emit, err, say, visible
from consortium.cli._coordinator import ApiOption, coordinator
from consortium.cli._signing_keys import KeyOption, PartyFileOption, signing_keys
from consortium.errors import ConsortiumError, UsageError

PROGRESS = 1 << 24
MAKING_S = 600.0


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(backup)


def backup(
    target: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write; none is ever overwritten.")],
    timeout_s: Annotated[
        float, typer.Option("--timeout", min=1, help="Seconds to wait for the coordinator to make it.")
    ] = MAKING_S,
    key: KeyOption = None,
    party_file: PartyFileOption = None,
    party: PartyOption = None,
    api: ApiOption = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fetch a backup of the coordinator's state, jobs and audit log, while it runs. FILE is whole, checked, or absent.

    It is not encrypted. Restoring needs the coordinator down, and care: docs/runbook.md, "Restore", has the commands.

    Example: `consortium backup alice-2026-11-24.tar`
    """
    keys, consortium = signing_keys(key, party_file, workspace)
    own = coordinator(workspace, party, api, timeout_s=timeout_s)
    _must_be_new(target)
    try:
        # in a folder of its own, closed to others: what a stopped command leaves is hidden and known by its name
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as folder:
            draft = Path(folder) / "backup.tar"
            made = _fetch(own.stream("/backup"), draft) | _checked(draft, target, keys, consortium, party)
            _must_be_new(target)
            draft.rename(target)
        _sync(target.parent)
    except OSError as error:
        raise ConsortiumError(
            "the backup cannot be written",
            where=str(target),
            value=str(error),
            fix="twice its size must be free there, and the folder writable",
        ) from error
    emit(made | {"file": str(target)}, as_json, lambda: _show(target, made))


def _must_be_new(target: Path) -> None:
    if target.exists() or target.is_symlink():
        raise UsageError("this file exists already", where=str(target), fix="name a new one: none is overwritten")


def _fetch(parts: Iterable[bytes], draft: Path) -> dict[str, Any]:
    from coordinator.audit_export import write_whole

    err.print("the coordinator makes the backup …")
    digest = write_whole(draft, _counted(parts))
    size = draft.stat().st_size
    err.print(f"{size:,} bytes are here, checking them …")
    return {"bytes": size, "sha256": digest}


def _counted(parts: Iterable[bytes]) -> Iterator[bytes]:
    total = 0
    for part in parts:
        total += len(part)
        if total // PROGRESS != (total - len(part)) // PROGRESS:
            err.print(f"… {total:,} bytes")
        yield part


def _checked(
    draft: Path, target: Path, keys: dict[str, str], consortium: str | None, party: str | None
) -> dict[str, Any]:
    from coordinator.backup_file import check_backup
    from coordinator.group_commit import StoreError
    from coordinator.signing import SigningError

    try:
        label = check_backup(draft, keys, consortium, party)
    except SigningError as error:
        raise UsageError("this public key cannot be used", value=str(error)) from error
    except StoreError as error:
        raise ConsortiumError(
            "what came is no good backup, it was not kept",
            where=str(target),
            value=visible(str(error)),
            fix="try again; the coordinator's release and this command's must be the same",
        ) from error
    found = label.model_dump(mode="json", include={"consortium", "party", "made_at", "audit_seq", "audit_hash"})
    return found | {"job_folders": len(label.bundles)}


def _sync(folder: Path) -> None:
    from coordinator.whole import sync_folder

    sync_folder(folder)


def _show(target: Path, made: dict[str, Any]) -> None:
    say(
        f"{target}: {made['bytes']:,} bytes, {made['party']} of {made['consortium']} up to audit record "
        f"{made['audit_seq']}, {made['job_folders']} job folders"
    )
