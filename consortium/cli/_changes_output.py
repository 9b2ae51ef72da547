"""What an `up` would change, as Markdown, JSON or lines for a person."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from consortium.cli._common import emit, out, say
from consortium.errors import ConsortiumError, UsageError
from consortium.workspace import Workspace

if TYPE_CHECKING:
    from consortium.changes import Changes

MarkdownOption = Annotated[
    bool, typer.Option("--markdown", help="Print a comment for a pull request or an issue in place of text.")
]


def show_changes(
    place: Workspace,
    party: str,
    title: str,
    *,
    clean: str,
    diff: bool,
    refresh: bool,
    markdown: bool,
    as_json: bool,
) -> Changes:
    """Look, print, and return what was found. With Markdown an error is printed as a report too, and raised."""
    from consortium.changes import changes
    from consortium.gitops.report import changes_report, error_report

    if markdown and as_json:
        raise UsageError("one excludes the other", where="--markdown, --json")
    try:
        found = changes(place, party, refresh=refresh, diff=diff)
    except ConsortiumError as error:
        if markdown:
            out.file.write(error_report(title, error))
        raise
    if markdown:
        out.file.write(changes_report(title, found, clean=clean))
    else:
        emit({**found.as_dict(), "changes": bool(found)}, as_json, lambda: _say(found, clean))
    return found


def _say(found: Changes, clean: str) -> None:
    for change in found.resources:
        say(f"{change.op:8} {change.kind:14} {change.name}")
    for reason in found.reasons:
        say(reason)
    for node in found.ansible:
        say(f"\n{node.host}: {node.task}\n{node.diff}")
    say(f"\n{len(found.resources)} to change, {found.unchanged} unchanged" if found else clean)
