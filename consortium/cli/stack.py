"""`consortium up`, `preview`, `down`, `outputs`, `unlock`: Pulumi, run the right way in this workspace."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from consortium.cli._common import JsonOption, PartyOption, WorkspaceOption, YesOption, emit, open_workspace, say
from consortium.documents import load_model
from consortium.workspace import Workspace

MoreArguments = Annotated[list[str] | None, typer.Argument(metavar="[-- PULUMI OPTIONS]", help="Passed to Pulumi.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(up)
    app.command()(preview)
    app.command()(down)
    app.command()(outputs)
    app.command()(unlock)


def up(
    more: MoreArguments = None,
    party: PartyOption = None,
    yes: YesOption = False,
    refresh: Annotated[bool, typer.Option("--refresh", help="Look first at what is really there.")] = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Make the institution what its documents say, with progress on the screen.

    Example: `consortium up --yes --refresh`
    """
    place = open_workspace(workspace)
    flags = [*_flag("--yes", yes), *_flag("--refresh", refresh)]
    place.pulumi_live("up", *flags, *(more or []), party=_checked(place, party))


def preview(
    more: MoreArguments = None,
    party: PartyOption = None,
    diff: Annotated[bool, typer.Option("--diff", help="Show every changed value.")] = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Say what `up` would change. Changes nothing.

    Example: `consortium preview --diff`
    """
    place = open_workspace(workspace)
    place.pulumi_live("preview", *_flag("--diff", diff), *(more or []), party=_checked(place, party))


def down(
    more: MoreArguments = None,
    party: PartyOption = None,
    yes: YesOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Take the institution's nodes, networks and volumes down. Keys, settings and party files stay.

    The coordinator's state and audit log lie in a volume: export what must be kept first.

    Example: `consortium down --yes`
    """
    place = open_workspace(workspace)
    place.pulumi_live("destroy", *_flag("--yes", yes), *(more or []), party=place.party(party))


def outputs(party: PartyOption = None, workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """Where the gateway, the status page and the coordinator's API are.

    Example: `consortium outputs --json`
    """
    place = open_workspace(workspace)
    found = json.loads(place.pulumi("stack", "output", "--json", party=place.party(party)))

    def human() -> None:
        for name, value in found.items():
            say(f"{name:18} {value}")
        if not found:
            say("nothing yet: consortium up")

    emit(found, as_json, human)


def unlock(party: PartyOption = None, workspace: WorkspaceOption = None) -> None:
    """Remove the lock a killed update left. Only when no update is running.

    Example: `consortium unlock --party alice`
    """
    place = open_workspace(workspace)
    place.pulumi("cancel", "--yes", party=place.party(party))
    say("unlocked")


def _flag(name: str, wanted: bool) -> list[str]:
    return [name] if wanted else []


def _checked(place: Workspace, party: str | None) -> str:
    """The party, once its documents are right: a report of their errors needs no Pulumi around it."""
    name = place.party(party)
    load_model(place.root, name)
    return name
