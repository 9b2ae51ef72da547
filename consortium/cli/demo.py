"""`consortium demo up|down`: two institutions on this machine, from nothing to two finished jobs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from consortium.cli._common import say

FolderOption = Annotated[Path, typer.Option("--folder", help="Where the two workspaces are made.")]
DEFAULT_FOLDER = Path(".demo")


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(help="Two institutions on this machine, two real jobs.", no_args_is_help=True)
    group.command("up")(up)
    group.command("down")(down)
    app.add_typer(group, name="demo")


def up(folder: FolderOption = DEFAULT_FOLDER) -> None:
    """Bring both institutions up and run both jobs. May be run again: what is there is kept.

    Example: `consortium demo up`
    """
    from consortium.demo import Demo, run

    run(Demo(folder.resolve()))


def down(folder: FolderOption = DEFAULT_FOLDER) -> None:
    """Take both institutions down and remove their workspaces, data and keys included.

    Example: `consortium demo down`
    """
    from consortium.demo import Demo

    demo = Demo(folder.resolve())
    if not demo.folder.exists():
        say("there is no demo to take down")
        return
    demo.down()
