"""What the commands share: options, output, finding the workspace."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from consortium.cli._completion import own_parties
from consortium.errors import EXIT_FAILED, ConsortiumError
from consortium.text import visible
from consortium.workspace import Workspace

__all__ = [
    "JsonOption",
    "PartyOption",
    "WorkspaceOption",
    "YesOption",
    "ago",
    "confirm",
    "emit",
    "emit_differences",
    "err",
    "open_workspace",
    "out",
    "progress",
    "remember_workspace",
    "report",
    "say",
    "visible",
]

WorkspaceOption = Annotated[
    Path | None,
    typer.Option(
        "--workspace",
        "-w",
        envvar="CONSORTIUM_WORKSPACE",
        help="The folder with consortium.yaml. Default: the nearest one upwards.",
    ),
]
PartyOption = Annotated[
    str | None,
    typer.Option(
        "--party",
        "-p",
        help="Whose institution. Default: the only stack in the workspace.",
        autocompletion=own_parties,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON in place of text.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]

out = Console(highlight=False, emoji=False, soft_wrap=True)
err = Console(highlight=False, emoji=False, soft_wrap=True, stderr=True)

_given: dict[str, Path | None] = {"workspace": None}


def remember_workspace(path: Path | None) -> None:
    """Keep what was given before the command's name."""
    _given["workspace"] = path


def open_workspace(path: Path | None) -> Workspace:
    """The workspace given to the command, before it, or the nearest upwards. Raises UsageError."""
    return Workspace.find(path or _given["workspace"])


def emit(data: Any, as_json: bool, human: Callable[[], None]) -> None:
    """Print `data` as JSON, or let `human` print it for a person."""
    if as_json:
        # ASCII: a terminal takes U+009B in a stranger's text for the begin of a command
        typer.echo(json.dumps(data, indent=2, sort_keys=True, default=str))
    else:
        human()


def emit_differences(lines: Sequence[str], as_json: bool, *, some: str, none: str) -> None:
    """Print what differs, one a line, and end with exit code 1 if anything does. `some` stands after their number."""

    def human() -> None:
        for line in lines:
            say(line)
        say(f"{len(lines)} {some}" if lines else none)

    emit({"differences": lines}, as_json, human)
    if lines:
        raise typer.Exit(EXIT_FAILED)


def say(text: str) -> None:
    """One line for a person; what came from outside is shown as it is, never as markup."""
    out.print(escape(text))


def progress(line: str) -> None:
    """One step of long work, beside what the command prints in the end. Whatever the line holds is shown as text."""
    err.print(f"  {escape(visible(line))}", style="dim")


def report(error: ConsortiumError, *, as_json: bool = False) -> None:
    """Print an error: as JSON on standard output where JSON was asked for, else as text on standard error."""
    if as_json:
        typer.echo(json.dumps({"error": error.as_dict(), "exit_code": error.exit_code}, indent=2))
        return
    err.print(f"[bold red]error:[/] {escape(visible(str(error)))}")


def confirm(question: str, yes: bool) -> None:
    """Ask, and end with exit code 1 on anything but yes."""
    if not yes:
        typer.confirm(question, abort=True)


def ago(seconds: float) -> str:
    """A duration for a table: 42 s, 7 min, 3 h, 2 d."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
