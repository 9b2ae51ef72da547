"""`consortium migrate --to kuscia|ray`: the same consortium in the other mode."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

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
from consortium.cli._coordinator import ApiOption, coordinator
from consortium.errors import EXIT_FAILED, Problem, Problems, Refused, TimedOut, Unreachable, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from consortium.client import Coordinator
    from consortium.migration.decide import Seen
    from consortium.migration.documents import Change
    from consortium.workspace import Workspace

_WAITING = ("proposed", "approved")


class MigrationRefused(Problems):
    """It may not begin; nothing was changed."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(migrate)


def migrate(
    to: Annotated[Literal["kuscia", "ray"], typer.Option("--to", help="The mode to go to.")],
    run: Annotated[
        bool, typer.Option("--run", help="Go. Without it the plan is shown, and nothing is changed.")
    ] = False,
    prepare: Annotated[
        bool,
        typer.Option(
            "--prepare", help="Only make the key of the Kuscia node, and write its certificate into the party file."
        ),
    ] = False,
    settings: Annotated[
        Path | None,
        typer.Option(
            "--settings", exists=True, dir_okay=False, help="YAML with what comes under `kuscia` in the settings."
        ),
    ] = None,
    wait_s: Annotated[float, typer.Option("--wait", min=0, help="Seconds to wait for attempts that run.")] = 3600.0,
    party: PartyOption = None,
    yes: YesOption = False,
    api: ApiOption = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what changes and what stays when this institution goes to the other mode; with --run, go.

    Data sources, policy, approvals, records and the audit log stay. Every member runs it, in any order, when the
    party files with the certificates have been exchanged; jobs between two modes do not start. What does not come up is
    put back by itself. Exit code 1 if it may not begin.

    Example: `consortium migrate --to kuscia --prepare`

    Example: `consortium migrate --to kuscia --settings kuscia.yaml`

    Example: `consortium migrate --to kuscia --settings kuscia.yaml --run`
    """
    from consortium.migration.decide import kept, refused, steps
    from consortium.migration.run import Migration

    place = open_workspace(workspace)
    name = place.party(party)
    if prepare:
        _prepare(place, name, to, as_json)
        return
    own = coordinator(workspace, name, api)
    seen, change = _look(place, name, to, settings, own)
    problems = refused(seen)
    data = {
        "party": name,
        "from": seen.now,
        "to": to,
        "steps": steps(seen),
        "kept": kept(seen),
        "refused": [problem.as_dict() for problem in problems],
        "migrated": False,
    }
    if not run:
        emit(data, as_json, lambda: _show(seen, problems))
        if problems:
            raise typer.Exit(EXIT_FAILED)
        return
    if problems:
        raise MigrationRefused("the migration may not begin; nothing was changed", problems)
    if not seen.nothing_to_do:
        confirm(f"{name} goes from mode: {seen.now} to mode: {to}. Go on?", yes)
        Migration(place, own, seen, change, progress, wait_s).run()
    data["migrated"] = not seen.nothing_to_do
    told = f"{name} is in mode: {to}, and healthy" if data["migrated"] else f"nothing to do: the mode is {to} already"
    emit(data, as_json, lambda: say(told))


def _prepare(place: Workspace, party: str, to: str, as_json: bool) -> None:
    from consortium.documents import load_consortium, load_party
    from consortium.keyring import Keyring
    from consortium.kuscia import keyring
    from consortium.partyfile import write_party

    if to != "kuscia":
        raise UsageError("nothing is to be prepared for Ray: all keys are there", where="--prepare", value=f"--to {to}")
    ring = Keyring(place, party, load_consortium(place.root).name)
    old = load_party(place.root, party)
    public = old.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    public["kuscia"] = {"certificate": keyring.make(ring, old)}
    changed = write_party(place.party_file(party), public, old)
    told = "made the node's key; send the party file to every member" if changed else "nothing to do: all was there"
    emit({"party": party, "changed": changed, "party_file": str(place.party_file(party))}, as_json, lambda: say(told))


def _look(
    place: Workspace, name: str, to: Literal["kuscia", "ray"], settings: Path | None, own: Coordinator
) -> tuple[Seen, Change]:
    from consortium.documents import load_model
    from consortium.migration import documents
    from consortium.migration.decide import Seen
    from consortium.queue_hold import active

    model = load_model(place.root, name)
    change = documents.planned(place, name, to, settings)
    wrong = [] if model.consortium.mode == to else documents.problems(place, name, change)
    try:
        status, jobs = own.get("/status"), own.get("/jobs", limit=1000)["jobs"]
    except (Unreachable, TimedOut, Refused):
        status, jobs = None, []
    seen = Seen(
        party=name,
        now=model.consortium.mode,
        to=to,
        documents=tuple(wrong),
        answers=status is not None,
        active=active(status) if status else {},
        waiting=tuple(job["job_id"] for job in jobs if job["phase"] in _WAITING),
        datasets=tuple(model.settings.datasets),
        rules=len(model.settings.policy.rules),
        workers=model.settings.workers,
    )
    return seen, change


def _show(seen: Seen, problems: Sequence[Problem]) -> None:
    from consortium.migration.decide import kept, steps

    if seen.nothing_to_do:
        say(f"nothing to do: the mode is {seen.to} already")
        return
    say(f"{seen.party}: from mode: {seen.now} to mode: {seen.to}")
    for number, step in enumerate(steps(seen), 1):
        say(f"  {number}. {step}")
    say("stays as it is:")
    for what in kept(seen):
        say(f"  {what}")
    for problem in problems:
        say(visible(f"✗ {problem}"))
    if not problems:
        say("may begin: the same with --run")
