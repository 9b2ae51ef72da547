"""`consortium rotate …` and `consortium revoke`: new certificates and CAs, and a peer that is trusted no more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any, Literal

import typer

from consortium.cli._common import (
    JsonOption,
    PartyOption,
    WorkspaceOption,
    YesOption,
    confirm,
    emit,
    open_workspace,
    say,
)
from consortium.cli._completion import members
from consortium.cli._coordinator import ApiOption, coordinator
from consortium.errors import UsageError

STAGES = {
    "none": "one CA, none is being replaced",
    "begun": "a new CA stands beside the old one",
    "issued": "the gateway's certificate is of the new CA, the old one is still trusted",
}


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Replace the gateway's certificate, or the CA.", no_args_is_help=True)
    group.command()(certificate)
    group.command()(ca)
    app.add_typer(group, name="rotate")
    app.command()(revoke)


def certificate(party: PartyOption = None, workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """A new key and certificate for the gateway, from the own CA, for 397 days. The peers need do nothing.

    With `mode: kuscia` also those with which the coordinator speaks to its node.

    `consortium up` puts it in force: nothing restarts, open connections go on, no new one fails.

    Example: `consortium rotate certificate --party hospital`
    """
    from consortium.rotation import rotate_certificate

    place = open_workspace(workspace)
    made = rotate_certificate(place, place.party(party))

    def human() -> None:
        say(f"made a gateway certificate for {made.days_left} days: {made.fingerprint}")
        say("next: consortium up")

    emit({**asdict(made), "next": "consortium up"}, as_json, human)


def ca(
    step: Annotated[
        Literal["begin", "issue", "finish"] | None,
        typer.Argument(help="The step to take. Without one: where it stands, and nothing is changed."),
    ] = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="Take the step though somebody was not seen ready: a stolen key cannot wait."),
    ] = False,
    party: PartyOption = None,
    api: ApiOption = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Replace the CA in three steps, with an overlap in which peers trust both: no connection fails.

    `begin` puts a new CA beside the old one in the party file; every peer takes the new file. `issue` gives the gateway
    a certificate of the new CA, and refuses while a peer was not seen with the file. `finish` drops the old CA. Each
    step may be run again, and says what is next.

    Example: `consortium rotate ca begin`

    Example: `consortium rotate ca`
    """
    from consortium.ca_rotation import look, take

    place = open_workspace(workspace)
    name = place.party(party)

    def ask(path: str) -> Mapping[str, Any]:
        return dict(coordinator(workspace, name, api).get(path))

    if force and step in (None, "begin"):
        raise UsageError("there is nothing to force", where="--force", allowed="with issue or finish")
    done = take(place, name, step, ask, force=force) if step else look(place, name, ask)

    def human() -> None:
        say(f"{name}: {STAGES[done.stage]}" + (f"; changed: {', '.join(done.changed)}" if done.changed else ""))
        say(f"CA:      {done.ca}")
        if done.next_ca:
            say(f"next CA: {done.next_ca}  (peers compare it by voice)")
        for line in done.waits_for:
            say(f"{'broken' if done.changed else 'waits'}:  {line}")
        say(f"next:    {done.next}")

    emit(asdict(done), as_json, human)


def revoke(
    peer: Annotated[str, typer.Argument(help="The member that is trusted no more.", autocompletion=members)],
    undo: Annotated[bool, typer.Option("--undo", help="Trust it again, by the party file that is here.")] = False,
    no_up: Annotated[bool, typer.Option("--no-up", help="Only write the settings; nothing is in force.")] = False,
    party: PartyOption = None,
    yes: YesOption = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Shut a peer out of this institution, now and without its help: its keys may be in other hands.

    Runs `up`, which restarts nothing: the gateway lets it in no more, what it has open ends within `gateway_drain_s`,
    open jobs with it end with the cause `revoked`, and the audit log has a record. No other party is told.

    Example: `consortium revoke bob`

    Example: `consortium revoke bob --undo`
    """
    from consortium import trust
    from consortium.documents import load_model, load_party
    from consortium.revoking import only_peers
    from consortium.revoking import revoke as write

    place = open_workspace(workspace)
    name = place.party(party)
    only_peers(place, name, peer)
    if undo:
        fingerprints = " and ".join(trust.fingerprint(ca) for ca in load_party(place.root, peer).ca_certificates)
        confirm(f"CA of {peer}: {fingerprints}. Compared by voice, and trusted again?", yes)
    else:
        confirm(f"Shut {peer} out of {name} now? Open jobs with it end.", yes)
    done = write(place, name, peer, undo=undo)
    if not no_up:
        load_model(place.root, name)  # a report of errors needs no Pulumi around it
        place.pulumi_live("up", "--yes", "--skip-preview", party=name, on_stderr=as_json)

    def human() -> None:
        state = "trusted again" if undo else "revoked"
        say(f"{peer} is {state} by {name}" + ("; not in force yet: consortium up" if no_up else ""))

    emit({**asdict(done), "in_force": not no_up}, as_json, human)
