"""Pulumi's Automation API over one party's workspace: the real program, the real stack, a state of its own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from pulumi import automation

from consortium import files
from consortium.workspace import PulumiFailed, Workspace

SHOWN_LINES = 40
OnOutput = Callable[[str], None]


class Stack:
    """The stack of one party. Its workspace must have been joined."""

    def __init__(self, workspace: Workspace, party: str) -> None:
        self._workspace, self._party = workspace, party
        environment = workspace.environment()
        if "PULUMI_CONFIG_PASSPHRASE" in os.environ and workspace.throwaway:
            # The API always adds this process's environment, and there this variable would win over the file.
            environment["PULUMI_CONFIG_PASSPHRASE"] = files.read(workspace.passphrase_file).strip()
        self._stack = automation.select_stack(
            stack_name=party,
            work_dir=str(workspace.root),
            opts=automation.LocalWorkspaceOptions(env_vars=environment, pulumi_command=_command(environment)),
        )

    def up(self, on_output: OnOutput = lambda line: None) -> dict[str, str]:
        """`pulumi up`; returns the stack's outputs. Raises PulumiFailed with the end of what Pulumi said."""
        try:
            done = self._stack.up(on_output=on_output, show_secrets=False, suppress_progress=True, color="never")
        except automation.CommandError as error:
            raise self._failed("up", error) from error
        return {name: str(output.value) for name, output in done.outputs.items()}

    def destroy(self, on_output: OnOutput = lambda line: None) -> None:
        """`pulumi destroy`, data volumes included. Raises PulumiFailed with the end of what Pulumi said."""
        self._workspace.pulumi("state", "unprotect", "--all", "--yes", party=self._party)
        try:
            self._stack.destroy(on_output=on_output, show_secrets=False, suppress_progress=True, color="never")
        except automation.CommandError as error:
            raise self._failed("destroy", error) from error

    def _failed(self, action: str, error: automation.CommandError) -> PulumiFailed:
        said = "\n".join(str(error).strip().splitlines()[-SHOWN_LINES:])
        return PulumiFailed(f"pulumi {action} of {self._party} failed", where=str(self._workspace.root), value=said)


def _command(environment: dict[str, str]) -> automation.PulumiCommand:
    """The CLI that the workspace's environment finds; the API itself looks only along this process's PATH."""
    found = shutil.which("pulumi", path=environment["PATH"])
    root = Path(found).parent.parent if found and Path(found).parent.name == "bin" else None
    return automation.PulumiCommand(root=str(root) if root else None)
