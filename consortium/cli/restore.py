"""`consortium restore`: a backup becomes the state of this institution's coordinator."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from consortium.cli._common import (
    JsonOption,
    PartyOption,
    WorkspaceOption,
    YesOption,
    confirm,
    emit,
    open_workspace,
    progress,
    say,
    visible,
)
from consortium.cli._coordinator import coordinator
from consortium.cli._signing_keys import signing_keys
from consortium.errors import ConsortiumError


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(restore)


def restore(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="What `consortium backup` wrote.", dir_okay=False)],
    replace: Annotated[
        bool, typer.Option("--replace", help="Even where there are jobs: the state is moved aside, on the head.")
    ] = False,
    party: PartyOption = None,
    yes: YesOption = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put a backup into the head of this institution, which is up: on a new machine, or after a disk was lost.

    FILE is checked whole before anything is touched. Jobs and audit log go on where the backup ended; results of jobs
    are not in it. A second run does nothing. Tell the peers' operators first: docs/runbook.md, "Restore".

    Example: `consortium up && consortium restore alice-2026-11-24.tar`
    """
    from consortium.documents import load_model
    from consortium.restoring import Step, decide, look, put_in_place, told
    from coordinator.backup_file import check_backup
    from coordinator.group_commit import StoreError

    place = open_workspace(workspace)
    name = place.party(party)
    model = load_model(place.root, name)
    keys, consortium = signing_keys(None, None, workspace)
    try:
        label = check_backup(source, keys, consortium, name)
    except (StoreError, OSError) as error:
        raise ConsortiumError(
            "this backup cannot be used, nothing was touched",
            where=str(source),
            value=visible(str(error)),
            fix="another backup; command and backup must be of one release",
        ) from error
    own = coordinator(workspace, name, None)
    restored = None
    if decide(look(own, label), label, replace) is Step.RESTORE:
        made = datetime.fromtimestamp(label.made_at, UTC)
        confirm(f"{name} goes back to {made:%Y-%m-%d %H:%M:%S} UTC, audit record {label.audit_seq}. Go on?", yes)
        restored = put_in_place(model, own, source, datetime.now(UTC), progress)

    def human() -> None:
        if restored is None:
            say(f"nothing to do: the audit log here goes on from record {label.audit_seq} of this backup")
            return
        say(f"{name} is restored up to audit record {label.audit_seq}")
        if restored.set_aside:
            say(f"what was there lies in {restored.set_aside} on the head")
        for job in restored.open_jobs:
            say(f"was open when the backup was made: consortium job cancel {job}")

    emit(told(label, restored), as_json, human)
