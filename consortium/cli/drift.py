"""`consortium drift`: is what stands still what the documents say?"""

from __future__ import annotations

import typer

from consortium.cli._changes_output import MarkdownOption, show_changes
from consortium.cli._common import JsonOption, PartyOption, WorkspaceOption, open_workspace
from consortium.documents import load_model
from consortium.errors import EXIT_DRIFT


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(drift)


def drift(
    party: PartyOption = None,
    markdown: MarkdownOption = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare containers and every file on every node with the documents. Changes nothing, and writes no state.

    Exit code 0 when all is as it should be, 7 when something is not: what a person changed by hand, or what was
    merged and never brought up. `consortium up --refresh` mends it. Any other exit code: it could not be seen.

    Example: `consortium drift --markdown`
    """
    place = open_workspace(workspace)
    name = place.party(party)
    load_model(place.root, name)
    found = show_changes(
        place,
        name,
        f"{name} is not as its documents say",
        clean=f"{name} is as its documents say.",
        diff=True,
        refresh=True,
        markdown=markdown,
        as_json=as_json,
    )
    if found:
        raise typer.Exit(EXIT_DRIFT)
