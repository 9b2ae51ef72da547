"""`consortium lint` and `consortium timeouts`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from consortium import timeouts
from consortium.cli._common import JsonOption, WorkspaceOption, emit, open_workspace, out, say
from consortium.documents import lint, load_consortium, read_workspace
from consortium.errors import DocumentErrors

if TYPE_CHECKING:
    from consortium.gitops.strict import Strict


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(name="lint")(lint_documents)
    app.command(name="timeouts")(show_timeouts)


def lint_documents(
    strict: Annotated[
        bool, typer.Option("--strict", help="What a bank would ask besides: docs/gitops.md lists the checks.")
    ] = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check every document of the workspace, and every rule between them.

    Changes nothing. Exit code 3 if there is anything to mend.

    Example: `consortium lint --json`

    Example: `consortium lint --strict`
    """
    root = open_workspace(workspace).root
    problems = lint(root)
    policy = _strict(root) if strict else None
    if policy:
        problems += policy.findings
    if problems:
        raise DocumentErrors(problems)
    documents = read_workspace(root)
    checked = [
        documents.consortium.file.name,
        *(document.file.name for document in documents.parties.values()),
        *(stack.file.name for stack in documents.stacks.values()),
    ]
    excepted = policy.as_rows() if policy else []

    def human() -> None:
        say(f"no errors in {', '.join(checked)}")
        for exception in excepted:
            say("excepted: {check} at {where}: {reason}".format(**exception))

    emit({"problems": [], "checked": checked, **({"excepted": excepted} if strict else {})}, as_json, human)


def _strict(root: Path) -> Strict:
    from consortium.gitops.strict import strict

    return strict(root)


def show_timeouts(workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """Every timeout that follows from the budget in consortium.yaml: who reads it, its formula and the reason.

    Example: `consortium timeouts`
    """
    derived = load_consortium(open_workspace(workspace).root).derived_timeouts
    rows = [
        {
            "name": row.name,
            "value": getattr(derived, row.name),
            "unit": row.unit,
            "consumer": row.consumer,
            "formula": row.formula,
            "reason": row.reason,
        }
        for row in timeouts.TABLE
    ]
    emit({"timeouts": rows, "rules": [rule.text for rule in timeouts.RULES]}, as_json, lambda: _table(rows))


def _table(rows: list[dict[str, object]]) -> None:
    table = Table(expand=False)
    for header in ("timeout", "value", "read by"):
        table.add_column(header, no_wrap=True, justify="right" if header == "value" else "left")
    table.add_column("= formula, and the reason")
    for row in rows:
        value = f"{float(str(row['value'])):g} {row['unit']}".strip()
        why = f"[cyan]= {escape(str(row['formula']))}[/]\n{escape(str(row['reason']))}"
        table.add_row(str(row["name"]), value, str(row["consumer"]), why)
    out.print(table, soft_wrap=False)
