"""`consortium up`, `preview`, `down`, `outputs`, `unlock`: Pulumi, run the right way in this workspace."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated

import typer

from consortium.ansible_diff import SHOW_DIFF
from consortium.cli import _ephemeral
from consortium.cli._changes_output import MarkdownOption, show_changes
from consortium.cli._common import JsonOption, PartyOption, WorkspaceOption, YesOption, emit, open_workspace, say
from consortium.documents import load_model
from consortium.errors import UsageError
from consortium.stackfile import StackFile
from consortium.upgrade.mode import ANYHOW, MODE
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
    ephemeral: Annotated[
        bool, typer.Option("--ephemeral", help="A throw-away consortium of several parties, gone on Ctrl-C.")
    ] = False,
    parties: Annotated[int | None, typer.Option(min=2, max=10, help="With --ephemeral: how many. Default: 2.")] = None,
    workers: Annotated[int | None, typer.Option(min=0, max=64, help="With --ephemeral: Ray workers of each.")] = None,
    now: Annotated[
        bool,
        typer.Option(
            "--now",
            help="Even if it changes versions that all agreed on, outside of the maintenance window: attempts that run "
            "end, nothing is taken back, and jobs are refused until all parties have the same.",
        ),
    ] = False,
    detach: Annotated[bool, typer.Option("--detach", help="With --ephemeral: leave it up until it is reaped.")] = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make the institution what its documents say, with progress on the screen.

    Example: `consortium up --yes --refresh`

    Example: `consortium up --ephemeral --parties 3`
    """
    _ephemeral.refuse_without(ephemeral, parties=parties, workers=workers is not None, detach=detach)
    if ephemeral:
        _ephemeral.up(parties or 2, 1 if workers is None else workers, detach, as_json)
        return
    place = open_workspace(workspace)
    flags = [*_flag("--yes", yes), *_flag("--refresh", refresh)]
    name = _checked(place, party)
    if not now:
        _guard(place, name)
    _live(place, name, "up", [*flags, *(more or [])], as_json, {MODE: ANYHOW} if now else None)


def _guard(place: Workspace, party: str) -> None:
    """The Pulumi program asks the same; here the answer comes before anything else. Raises Problem."""
    from consortium.client import Coordinator, operator_token, operator_url
    from consortium.upgrade.guard import ASKED_S, check

    if place.token_file(party).exists():
        own = Coordinator(operator_url(place, party), operator_token(place, party), timeout_s=ASKED_S)
        check(load_model(place.root, party), own)


def preview(
    more: MoreArguments = None,
    party: PartyOption = None,
    diff: Annotated[
        bool, typer.Option("--diff", help="Show every changed value, and every line that Ansible would change.")
    ] = False,
    markdown: MarkdownOption = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what `up` would change. Changes nothing.

    With --diff Ansible looks at the nodes in check mode. What is secret is not shown.

    Example: `consortium preview --diff`

    Example: `consortium preview --diff --markdown > comment.md`
    """
    place = open_workspace(workspace)
    name = _checked(place, party)
    if markdown:
        if more:
            raise UsageError("not together with --markdown", where=" ".join(more))
        show_changes(
            place,
            name,
            f"What `up` would change at {name}",
            clean="Nothing.",
            diff=diff,
            refresh=False,
            markdown=True,
            as_json=as_json,
        )
        return
    env = {SHOW_DIFF: "1"} if diff else {}
    _live(place, name, "preview", [*_flag("--diff", diff), *(more or [])], as_json, env)


def down(
    more: MoreArguments = None,
    party: PartyOption = None,
    yes: YesOption = False,
    remove_data: Annotated[
        bool, typer.Option("--remove-data", help="Its volumes too: audit log, jobs, results. For ever.")
    ] = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take the institution's nodes and networks down. Its data volumes stay, and so do keys, settings and party files.

    The next `up` finds the volumes again. With --remove-data the name of the party must be typed, or --yes given.

    Example: `consortium down --yes`

    Example: `consortium down --remove-data`
    """
    place = open_workspace(workspace)
    name = place.party(party)
    on_hosts = (StackFile(place.stack_file(name)).config().get("settings") or {}).get("placement") == "ssh"
    if remove_data and on_hosts:
        raise UsageError(
            "the data of hosts is removed on the hosts",
            value="--remove-data",
            allowed="consortium down, which leaves audit log, jobs and packages there",
            fix="then remove /var/lib/consortium and /var/lib/consortium-jobs on the head by hand",
        )
    if remove_data:
        _ask_for_the_data(name, yes)
    # Pulumi protects the volumes: without a word about them it refuses to destroy anything.
    about_data, fate = ("--ignore-protect", "removed") if remove_data else ("--exclude-protected", "kept")
    _live(place, name, "destroy", [about_data, *_flag("--yes", yes), *(more or [])], as_json, data=fate)
    if not (remove_data or as_json):
        kept = "its hosts keep audit log, jobs and packages"
        say(kept if on_hosts else "its data volumes are kept; consortium down --remove-data takes them away")


def _ask_for_the_data(party: str, yes: bool) -> None:
    """Ends with exit code 1 on any other answer than the party's name."""
    if not yes:
        question = f"This removes audit log, jobs and results of {party} for ever. Type its name to go on"
        if typer.prompt(question, default="", show_default=False, err=True) != party:
            raise typer.Abort


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


def unlock(party: PartyOption = None, workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """Remove the lock a killed update left. Only when no update is running.

    Example: `consortium unlock --party alice`
    """
    place = open_workspace(workspace)
    name = place.party(party)
    place.pulumi("cancel", "--yes", party=name)
    emit({"party": name, "unlocked": True}, as_json, lambda: say("unlocked"))


def _live(
    place: Workspace,
    party: str,
    action: str,
    arguments: list[str],
    as_json: bool,
    env: Mapping[str, str] | None = None,
    **more: str,
) -> None:
    """With --json Pulumi's own words go to standard error; standard output says only what was done, and `more`."""
    place.pulumi_live(action, *arguments, party=party, on_stderr=as_json, env=env)
    emit({"party": party, "action": action, "done": True, **more}, as_json, lambda: None)


def _flag(name: str, wanted: bool) -> list[str]:
    return [name] if wanted else []


def _checked(place: Workspace, party: str | None) -> str:
    """The party, once its documents are right: a report of their errors needs no Pulumi around it."""
    name = place.party(party)
    load_model(place.root, name)
    return name
