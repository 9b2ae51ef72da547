"""Runs the `consortium` command as the operator of a workspace would: in a process and an environment of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from consortium.errors import ConsortiumError


class CommandFailed(ConsortiumError):
    """A command did not end well; its own message says why."""


def run(workspace: Path, *arguments: str, capture: bool = True) -> str:
    """Run one command in `workspace`. Returns its standard output if `capture`, else it goes to the terminal.

    What this process's environment says about workspaces, tokens and Pulumi does not count. Raises CommandFailed.
    """
    done = subprocess.run(
        [sys.executable, "-m", "consortium", *arguments],
        cwd=workspace,
        env={k: v for k, v in os.environ.items() if not k.startswith(("CONSORTIUM_", "PULUMI_"))},
        stdout=subprocess.PIPE if capture else None,
        stderr=subprocess.PIPE if capture else None,
        text=True,
        check=False,
    )
    if done.returncode:
        raise CommandFailed(
            f"`consortium {' '.join(arguments)}` ended with exit code {done.returncode}",
            where=str(workspace),
            value=f"{done.stderr}{done.stdout}".strip() if capture else "its message stands above",
        )
    return done.stdout or ""
