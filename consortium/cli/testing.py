"""`consortium testing list|reap|faults`: the throw-away consortiums of this machine, and what can be done to them."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from consortium.cli._common import JsonOption, emit, say

Names = Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Default: all whose owner is gone.")]


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(help="Throw-away consortiums of this machine, made by tests.", no_args_is_help=True)
    group.command("list")(list_environments)
    group.command()(reap)
    group.command()(faults)
    app.add_typer(group, name="testing")


def list_environments(as_json: JsonOption = False) -> None:
    """Every throw-away consortium that is registered, and whether somebody still owns it.

    Example: `consortium testing list --json`
    """
    from testing import registry

    found: list[dict[str, Any]] = [
        {
            "name": environment.name,
            "owner": environment.owner.pid if environment.owner else None,
            "state": "orphaned" if environment.orphaned else "owned" if environment.owner else "kept",
            "folder": str(environment.folder),
            "operator_ports": environment.operator_ports,
        }
        for environment in registry.environments()
    ]

    def human() -> None:
        for one in found:
            say(f"{one['name']}  {one['state']:8}  {', '.join(one['operator_ports'])}  {one['folder']}")
        if not found:
            say("there is none")

    emit(found, as_json, human)


def reap(names: Names = None, as_json: JsonOption = False) -> None:
    """Remove what a killed test run left: containers, networks, volumes, workspaces. May be run at any time.

    With names: those, whoever owns them.

    Example: `consortium testing reap`
    """
    import docker

    from testing import registry

    removed = registry.reap(docker.from_env(), names or None)

    def human() -> None:
        for name, things in removed.items():
            say(f"{name}: removed {', '.join(things) or 'its folder'}")
        if not removed:
            say("nothing to remove")

    emit(removed, as_json, human)


def faults(as_json: JsonOption = False) -> None:
    """Every fault that a test can call for: `from testing import faults`. What each does to a job: docs/faults.md.

    Example: `consortium testing faults`
    """
    from testing.faults import FAULTS

    found = [
        {"name": kind.name, "family": kind.family, "parameters": list(kind.parameters), "text": kind.text}
        for kind in FAULTS.values()
    ]

    def human() -> None:
        for kind in FAULTS.values():
            say(f"{kind.family:10} {kind.name}({', '.join(kind.parameters)})")
            say(f"{'':10} {kind.text}")

    emit(found, as_json, human)
