"""`consortium upgrade propose|plan|run|back|status`: other versions, agreed by all, in a maintenance window."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml

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
from consortium.errors import EXIT_FAILED, Problems, UsageError

if TYPE_CHECKING:
    from consortium.client import Coordinator
    from consortium.spec import Model
    from consortium.upgrade.decide import Seen
    from consortium.upgrade.run import Upgrade

WAIT_S, HEALTH_S = 3600.0, 240.0


class UpgradeRefused(Problems):
    """It may not begin; nothing was changed."""


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(help="Other versions of what runs at every party.", no_args_is_help=True)
    for command in (propose, plan, run, back, status):
        group.command()(command)
    app.add_typer(group, name="upgrade")


NowOption = Annotated[
    bool, typer.Option("--now", help="Whatever the window and the peers say. Jobs with others fail or wait until then.")
]


def propose(
    begin: Annotated[str, typer.Option("--from", help="When the window begins, in UTC: 2026-12-01T22:00:00Z.")],
    end: Annotated[str, typer.Option("--to", help="When it ends.")],
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print what to write into consortium.yaml so that all go over to the release installed here. Changes nothing.

    Example: `consortium upgrade propose --from 2026-12-01T22:00:00Z --to 2026-12-01T23:00:00Z`
    """
    from pydantic import ValidationError

    from consortium.documents import load_consortium
    from consortium.release import brings
    from consortium.versions import Maintenance

    now = load_consortium(open_workspace(workspace).root).versions.agreed()
    new = {name: version for name, version in brings().items() if now.get(name) != version}
    if not new:
        emit({"maintenance": None}, as_json, lambda: say("nothing to propose: this release is what was agreed"))
        return
    try:
        window = Maintenance.model_validate({"from": begin, "to": end, "versions": new})
    except ValidationError as error:
        raise UsageError(
            "no such window", where="--from, --to", value=f"{begin}, {end}", allowed="; ".join(_said(error))
        ) from None
    data = {"maintenance": window.model_dump(mode="json", exclude_none=True)}
    emit(data, as_json, lambda: typer.echo(yaml.safe_dump(data, sort_keys=False), nl=False))


def _said(error: Any) -> list[str]:
    return [str(detail["msg"]).removeprefix("Value error, ") for detail in error.errors()]


def plan(
    now: NowOption = False,
    party: PartyOption = None,
    api: ApiOption = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what `upgrade run` would change, and everything that keeps it from beginning. Changes nothing.

    Exit code 1 if it may not begin.

    Example: `consortium upgrade plan`
    """
    from consortium.upgrade.decide import run_refused, said

    _, seen, _ = _look(workspace, party, api)
    problems = run_refused(seen, now=now)
    data = _data(seen) | {"refused": [problem.as_dict() for problem in problems]}

    def human() -> None:
        say(f"would change: {said(seen.changes)}" if seen.changes else _nothing(seen))
        if seen.runs and seen.runs.active and seen.changes:
            say(f"would wait for: {', '.join(f'{n} {phase}' for phase, n in seen.runs.active.items())}")
        for problem in problems:
            say(visible(f"✗ {problem}"))
        if seen.changes and not problems:
            say("may begin: consortium upgrade run")

    emit(data, as_json, human)
    if problems:
        raise typer.Exit(EXIT_FAILED)


def run(
    now: NowOption = False,
    wait_s: Annotated[float, typer.Option("--wait", min=0, help="Seconds to wait for attempts that run.")] = WAIT_S,
    health_s: Annotated[
        float, typer.Option("--health", min=1, help="Seconds within which it must be healthy, or is taken back.")
    ] = HEALTH_S,
    party: PartyOption = None,
    yes: YesOption = False,
    api: ApiOption = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Go over to the versions that all agreed on: hold the queue, let jobs finish, replace the nodes, check, go on.

    What does not become healthy is taken back by itself: image and configuration from before, exit code 1. Jobs that
    wait, wait on. A second run does nothing, or goes on with one that was cut off.

    Example: `consortium upgrade run --wait 1800`
    """
    from consortium.upgrade.decide import run_refused, said
    from consortium.upgrade.run import Done

    model, seen, own = _look(workspace, party, api)
    done: Done | None = None
    if not seen.nothing_to_do:
        if problems := run_refused(seen, now=now):
            raise UpgradeRefused("the upgrade may not begin; nothing was changed", problems)
        confirm(f"{model.party} goes over: {said(seen.changes) or 'what was begun'}. Go on?", yes)
        done = _steps(workspace, own, seen, wait_s, health_s).run()
    data = {"party": model.party, "upgraded": done is not None, "changes": _changes(seen) if done else {}}
    if done:
        data |= {"held_s": done.held_s, "away_s": done.away_s}

    def human() -> None:
        if done is None:
            return say(_nothing(seen))
        return say(f"{model.party} has gone over, and is healthy; no job began for {done.held_s:.0f} s")

    emit(data, as_json, human)


def back(
    party: PartyOption = None,
    yes: YesOption = False,
    api: ApiOption = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put back what was there before an upgrade that was cut off: image and configuration. `run` does it by itself.

    Example: `consortium upgrade back`
    """
    model, seen, own = _look(workspace, party, api)
    if seen.begun:
        confirm(f"{model.party} goes back to what was there before its upgrade. Go on?", yes)
        _steps(workspace, own, seen).back()
    data = {"party": model.party, "put_back": seen.begun}
    emit(data, as_json, lambda: say("put back" if seen.begun else "nothing to do: no upgrade was begun and not ended"))


def status(
    party: PartyOption = None,
    api: ApiOption = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Which party has gone over, which not yet, and whether jobs begin here.

    Example: `consortium upgrade status`
    """
    from consortium.upgrade.decide import between

    _, seen, _ = _look(workspace, party, api)
    states = {seen.party: _own(seen)} | {name: _state(seen, name) for name in sorted(seen.peers)}
    window = seen.window.model_dump(mode="json", exclude_none=True) if seen.window else None
    data = {"party": seen.party, "maintenance": window, "held": seen.runs.held if seen.runs else "", "parties": states}

    def human() -> None:
        say(f"maintenance: {between(seen.window)}" if seen.window else "no maintenance window is agreed")
        for name, state in states.items():
            say(visible(f"{name:12} {state}"))
        if data["held"]:
            say(f"no attempt begins here {data['held']}")

    emit(data, as_json, human)


def _steps(workspace: Path | None, own: Coordinator, seen: Seen, *limits_s: float) -> Upgrade:
    from consortium.upgrade.run import Upgrade

    return Upgrade(open_workspace(workspace), own, seen, progress, *limits_s)


def _own(seen: Seen) -> str:
    from consortium.upgrade.decide import said

    if seen.runs is None:
        return "does not answer"
    return f"not yet: {said(seen.changes)}" if seen.changes else "as agreed for the release installed here"


def _state(seen: Seen, name: str) -> str:
    peer = seen.peers[name]
    if peer.error:
        return f"does not say: {peer.error}"
    if peer.files == seen.files:
        return "as agreed for the release installed here"
    if seen.runs and peer.files == seen.runs.files:
        return "not yet, and has the same consortium files in force"
    return f"other consortium files in force, or another release: {peer.files[:12]}, coordinator {peer.release[:12]}"


def _nothing(seen: Seen) -> str:
    return "nothing to do: this release runs already" if seen.runs else "the own coordinator does not answer"


def _changes(seen: Seen) -> dict[str, dict[str, str]]:
    return {name: {"from": old, "to": new} for name, (old, new) in seen.changes.items()}


def _data(seen: Seen) -> dict[str, Any]:
    active = dict(seen.runs.active) if seen.runs else {}
    return {"party": seen.party, "changes": _changes(seen), "active": active, "at": datetime.now(UTC).isoformat()}


def _look(workspace: Path | None, party: str | None, api: str | None) -> tuple[Model, Seen, Coordinator]:
    from consortium.documents import load_model
    from consortium.upgrade import before
    from consortium.upgrade.observe import look

    place = open_workspace(workspace)
    name = place.party(party)
    model = load_model(place.root, name)
    own = coordinator(workspace, name, api)
    return model, look(model, own, peers=True, begun=before.is_kept(place, name)), own
