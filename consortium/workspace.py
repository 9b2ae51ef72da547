"""The folder an institution works in: where things lie, and how Pulumi is run there."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from consortium import files, toolchain
from consortium.documents import CONSORTIUM_FILE, PARTIES_FOLDER, STACKS_FOLDER, stack_file
from consortium.errors import ConsortiumError, UsageError
from consortium.validation import did_you_mean

PRIVATE = ".private"
_STDERR = 2


class PulumiFailed(ConsortiumError):
    """Pulumi ended with an error."""


@dataclass(frozen=True)
class Workspace:
    """One institution's checkout; `root` holds consortium.yaml."""

    root: Path
    throwaway: bool = False
    """State and passphrase are the workspace's own, whatever backend the operator's environment names."""

    @classmethod
    def find(cls, given: Path | None = None) -> Workspace:
        """`given`, or the nearest parent of the working directory that holds consortium.yaml. Raises UsageError."""
        start = (given or Path.cwd()).resolve()
        candidates = [start] if given else [start, *start.parents]
        for folder in candidates:
            if (folder / CONSORTIUM_FILE).is_file():
                return cls(folder)
        raise UsageError(
            "this is no workspace: no consortium.yaml here" + ("" if given else " or above"),
            where=str(start),
            fix="change into the workspace, give --workspace DIR, or make one: consortium init DIR",
        )

    @property
    def private(self) -> Path:
        """`.private`, closed to everybody but its owner on every access."""
        return files.private_folder(self.root / PRIVATE)

    @property
    def passphrase_file(self) -> Path:
        """The passphrase that encrypts this institution's Pulumi secrets."""
        return self.private / "passphrase"

    def party_file(self, party: str) -> Path:
        """The public file of any party."""
        return self.root / PARTIES_FOLDER / f"{party}.yaml"

    def stack_file(self, party: str) -> Path:
        """The stack settings of one of this institution's parties."""
        return stack_file(self.root, party)

    def token_file(self, party: str) -> Path:
        """The token with which the operator speaks to the own coordinator."""
        return self.private / f"{party}.token"

    def stacks(self) -> list[str]:
        """The parties whose stack settings are in this workspace; nearly always one."""
        found = (self.root / STACKS_FOLDER).glob("Pulumi.*.yaml")
        return sorted(path.name.removeprefix("Pulumi.").removesuffix(".yaml") for path in found)

    def party(self, given: str | None = None) -> str:
        """`given`, or the only party whose stack is here. Raises UsageError if that is not one."""
        stacks = self.stacks()
        if given is None and len(stacks) == 1:
            return stacks[0]
        if given in stacks:
            return str(given)
        if not stacks:
            fix = "consortium join PARTY --endpoint HOST:PORT"
            raise UsageError("no party has joined from this workspace", where=str(self.root), fix=fix)
        what = "no such party in this workspace" if given else "which party? several have stacks in this workspace"
        raise UsageError(
            what,
            where=str(self.root / STACKS_FOLDER),
            value=given or "",
            allowed=", ".join(stacks),
            fix=did_you_mean(given or "", stacks) or "--party NAME",
        )

    def make_passphrase(self) -> bool:
        """Create the passphrase if the operator neither has one nor brings his own. Returns whether it was made."""
        if _own_passphrase(self._given()) or self.passphrase_file.exists():
            return False
        return files.write(self.passphrase_file, secrets.token_urlsafe(32) + "\n", private=True)

    @cached_property
    def _toolchain(self) -> dict[str, str]:
        return toolchain.pulumi_environment()

    def _given(self, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
        """Of an environment what counts here."""
        return {k: v for k, v in environment.items() if not (self.throwaway and k in _OPERATORS_CHOICE)}

    def environment(self) -> dict[str, str]:
        """The environment in which Pulumi runs here; what the operator set himself is left alone."""
        environment = {"PULUMI_SKIP_UPDATE_CHECK": "true", **self._given(self._toolchain)}
        if not environment.get("PULUMI_BACKEND_URL"):
            state = files.private_folder(self.private / "state")
            environment["PULUMI_BACKEND_URL"] = state.as_uri()
        if not _own_passphrase(environment):
            environment["PULUMI_CONFIG_PASSPHRASE_FILE"] = str(self.passphrase_file)
        environment["CONSORTIUM_WORKSPACE"] = str(self.root)
        return environment

    def pulumi(
        self, *arguments: str, party: str | None = None, stdin: str | None = None, env: Mapping[str, str] | None = None
    ) -> str:
        """Run one Pulumi command and return its standard output. Raises PulumiFailed with cause and fix.

        Secrets go in through `stdin`; arguments can be read by every user of the machine. `env` is set besides.
        """
        done = subprocess.run(
            self._command(arguments, party),
            cwd=self.root,
            env={**self.environment(), **(env or {})},
            input="" if stdin is None else stdin,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise self._explain(arguments, done.returncode, done.stderr or done.stdout)
        return done.stdout

    def pulumi_live(
        self,
        *arguments: str,
        party: str | None = None,
        on_stderr: bool = False,
        env: Mapping[str, str] | None = None,
    ) -> None:
        """Run one Pulumi command with its progress on this terminal. Raises PulumiFailed with cause and fix."""
        with subprocess.Popen(
            self._command(arguments, party, interactive=True),
            cwd=self.root,
            env={**self.environment(), **(env or {})},
            stdout=_STDERR if on_stderr else None,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        ) as process:
            said = []
            assert process.stderr is not None
            try:
                for line in process.stderr:
                    sys.stderr.write(line)
                    said.append(line)
            except KeyboardInterrupt:
                # The terminal has sent it to Pulumi too, which ends its update in order.
                process.wait()
                raise
        if process.returncode:
            raise self._explain(arguments, process.returncode, "".join(said[-40:]), shown=True)

    def pulumi_lines(
        self, *arguments: str, party: str, tell: Callable[[str], None], env: Mapping[str, str] | None = None
    ) -> None:
        """Run one Pulumi command and hand every line to `tell` as it comes. Raises PulumiFailed with the last ones."""
        with subprocess.Popen(
            self._command(arguments, party),
            cwd=self.root,
            env={**self.environment(), **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process:
            assert process.stdout is not None
            said = []
            for line in process.stdout:
                tell(line.rstrip())
                said.append(line)
        if process.returncode:
            raise self._explain(arguments, process.returncode, "".join(said[-60:]))

    def _command(self, arguments: Sequence[str], party: str | None, *, interactive: bool = False) -> list[str]:
        stack = ["--stack", party] if party else []
        return ["pulumi", *arguments, *stack, *([] if interactive else ["--non-interactive", "--color", "never"])]

    def _explain(self, arguments: Sequence[str], code: int, said: str, *, shown: bool = False) -> PulumiFailed:
        # Only the sub-command's words: further arguments are long and say nothing.
        name = " ".join(["pulumi", *[word for word in arguments[:2] if not word.startswith("-")]])
        for pattern, what, fix in _CAUSES:
            if re.search(pattern, said, re.IGNORECASE):
                return PulumiFailed(what, where=f"{name} in {self.root}", value=_place(self), fix=fix)
        text = "its message stands above" if shown else said.strip()
        return PulumiFailed(f"{name} ended with exit code {code}", where=str(self.root), value=text)


_OPERATORS_CHOICE = (
    "PULUMI_BACKEND_URL",
    "PULUMI_CONFIG_PASSPHRASE",
    "PULUMI_CONFIG_PASSPHRASE_FILE",
    "PULUMI_STACK",
    "CONSORTIUM_TOKEN",
)


def _own_passphrase(environment: Mapping[str, str]) -> bool:
    return "PULUMI_CONFIG_PASSPHRASE" in environment or bool(environment.get("PULUMI_CONFIG_PASSPHRASE_FILE"))


def _place(workspace: Workspace) -> str:
    """Where the passphrase in force comes from; never the passphrase."""
    if "PULUMI_CONFIG_PASSPHRASE" in os.environ:
        source = "the variable PULUMI_CONFIG_PASSPHRASE"
    else:
        source = os.environ.get("PULUMI_CONFIG_PASSPHRASE_FILE") or str(workspace.root / PRIVATE / "passphrase")
    backend = os.environ.get("PULUMI_BACKEND_URL") or str(workspace.root / PRIVATE / "state")
    return f"passphrase: {source}; state: {backend}"


_CAUSES = (
    (
        r"incorrect passphrase",
        "the passphrase does not fit this stack's secrets",
        "put back the passphrase with which the stack was made (in that file or variable)",
    ),
    (
        r"passphrase must be set|unable to find.*passphrase|error reading.*passphrase|open .*passphrase",
        "Pulumi finds no passphrase",
        "put back the passphrase file, or set PULUMI_CONFIG_PASSPHRASE_FILE",
    ),
    (
        r"stack is currently locked",
        "another update of this stack is running, or was killed",
        "wait for it; if none is running: consortium unlock",
    ),
    (
        r"no stack named",
        "this stack is not in the state backend",
        "consortium join PARTY makes it; or put back the state",
    ),
)
