"""`consortium plan`: who is not what the documents declare."""

from __future__ import annotations

import typer

from consortium.cli._common import JsonOption, PartyOption, WorkspaceOption, emit, open_workspace, say, visible
from consortium.cli._coordinator import ApiOption, coordinator
from consortium.errors import EXIT_DRIFT


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(plan)


def plan(
    party: PartyOption = None, api: ApiOption = None, workspace: WorkspaceOption = None, as_json: JsonOption = False
) -> None:
    """Compare what each party declares here with what its gateway and coordinator present, and name who differs.

    Certificate, digest of the consortium files, versions, and the Ray that really runs; every party is asked now.
    Changes nothing. Exit code 7 if anybody differs: a job between those two would be refused.

    Example: `consortium plan`

    Example: `consortium plan --json`
    """
    from consortium.documents import load_model
    from consortium.plan import APART, compare, observe

    place = open_workspace(workspace)
    name = place.party(party)
    model = load_model(place.root, name)
    presented = observe(model, coordinator(workspace, name, api))
    found = list(compare(model, presented))
    unseen = {one: seen.unseen for one, seen in presented.items() if seen.unseen}
    apart = {one for one, seen in presented.items() if seen.unseen == APART}
    same = sorted(set(presented) - apart - {one.party for one in found})
    data = {
        "party": name,
        "consortium_digest": model.digest(),
        "same": same,
        "certificates_not_seen": {one: why for one, why in unseen.items() if one not in apart},
        "not_asked": sorted(apart),
        "differences": [one.as_dict() for one in found],
    }

    def human() -> None:
        for one in same:
            say(f"✓ {one:12} is what is declared here")
        for one, why in unseen.items():
            say(
                visible(f"? {one:12} {'' if one in apart else 'its certificate was not seen from this machine: '}{why}")
            )
        for d in found:
            say(visible(f"✗ {d.party:12} {d.what}: declared {d.declared}, presented {d.presented}\n  fix: {d.fix}"))

    emit(data, as_json, human)
    if found:
        raise typer.Exit(EXIT_DRIFT)
