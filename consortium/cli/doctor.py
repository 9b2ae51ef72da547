"""`consortium doctor`: the first thing that is wrong, and its fix."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from consortium.cli._common import (
    JsonOption,
    PartyOption,
    WorkspaceOption,
    emit,
    open_workspace,
    progress,
    say,
    visible,
)
from consortium.cli._completion import members
from consortium.cli._coordinator import ApiOption, coordinator
from consortium.errors import EXIT_FAILED, UsageError


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(doctor)


def doctor(
    peer: Annotated[
        list[str] | None, typer.Option("--peer", help="Only this peer; may be repeated.", autocompletion=members)
    ] = None,
    party: PartyOption = None,
    api: ApiOption = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Look from this institution outward and name the first thing that is wrong, with its fix. Changes nothing.

    Documents, names, connections, TLS, identities, coordinator, clocks, slots, Ray, data, SecretFlow; with mode: kuscia
    documents, names, connections, coordinator, node, routes, data. What comes after the coordinator is what it checks
    before each job. Exit code 1 if anything is wrong.

    Example: `consortium doctor`

    Example: `consortium doctor --peer bob --json`
    """
    from consortium.doctor.finding import first_wrong
    from consortium.doctor.walk import ASK_S, documents, walk

    place = open_workspace(workspace)
    name = place.party(party)
    model, found = documents(place, name)
    if model:
        if unknown := sorted(set(peer or ()) - set(model.peers)):
            allowed = ", ".join(model.peers) or "nobody"
            raise UsageError("no such peer", where="--peer", value=", ".join(unknown), allowed=allowed)
        peers = [one for one in model.peers if not peer or one in peer]
        tell = (lambda _: None) if as_json else progress
        found += walk(model, peers, lambda: coordinator(workspace, name, api, timeout_s=ASK_S), tell)
    first = first_wrong(found)
    data: dict[str, Any] = {
        "party": name,
        "healthy": first is None,
        "first": first.as_dict() if first else None,
        "findings": [one.as_dict() for one in found],
    }

    def human() -> None:
        for one in found:
            say(visible(f"{'✓' if one.ok else '✗'} {one.check:11} {one.subject:12} {one.what or 'fine'}"))
            if not one.ok and one.value:
                say(visible(f"{'':15} {'':12} {one.value}"))
        if first:
            say(visible(f"\nfirst to mend: {first.check} of {first.subject}: {first.what}\n  fix: {first.fix}"))
        else:
            say("\nnothing is wrong")

    emit(data, as_json, human)
    if first:
        raise typer.Exit(EXIT_FAILED)
