"""The reference of the command: what `--help` of each of its commands says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer

from consortium.cli import EPILOG, build
from docsite.schema import cell


def page() -> str:
    """Every command with its arguments and options."""
    parts = ["# The command", "`consortium --help` prints this, command by command.", EPILOG]
    for words, command in commands(typer.main.get_command(build()), ("consortium",)):
        parts += [f"{'##' if len(words) < 3 else '###'} {' '.join(words)}", _usage(words, command)]
        parts += [(command.help or "").replace("\f", "").strip(), _table(command)]
    return "\n\n".join(part for part in parts if part) + "\n"


def commands(command: Any, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """(words, command) for it and everything below it that is not hidden."""
    yield words, command
    for name, inner in sorted(getattr(command, "commands", {}).items()):
        if not inner.hidden:
            yield from commands(inner, (*words, name))


def _usage(words: tuple[str, ...], command: Any) -> str:
    arguments = [_shown(p) for p in command.params if p.param_type_name == "argument"]
    after = ["COMMAND"] if hasattr(command, "commands") else arguments
    return f"```text\n{' '.join([*words, '[OPTIONS]', *after])}\n```"


def _shown(parameter: Any) -> str:
    name = str(parameter.metavar or parameter.name).upper() + ("…" if parameter.nargs == -1 else "")
    return name if parameter.required else f"[{name}]"


def _table(command: Any) -> str:
    shown = [p for p in command.params if not getattr(p, "hidden", False) and p.name not in ("help",)]
    if not shown:
        return ""
    return "\n".join(["| | default | meaning |", "|---|---|---|", *map(_row, shown)])


def _row(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        names = f"`{_shown(parameter)}`"
    else:
        names = ", ".join(f"`{name}`" for name in [*parameter.opts, *parameter.secondary_opts])
    default = "*needed*" if parameter.required else _default(parameter.default)
    variable = f" Environment: `{parameter.envvar}`." if getattr(parameter, "envvar", None) else ""
    return f"| {names} | {default} | {cell(parameter.help or '')}{variable} |"


def _default(value: Any) -> str:
    empty = value is None or value is False or value == () or callable(value)
    return "" if empty else f"`{cell(str(value))}`"
