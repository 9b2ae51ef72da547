"""One institution of a throw-away consortium, seen as its operator sees it."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from consortium import subcommand
from consortium.client import Coordinator, operator_token
from consortium.documents import load_model
from consortium.errors import ConsortiumError, UsageError
from consortium.folders import INSTALLATION
from consortium.joining import Wishes, join
from consortium.nodefiles import hosts_of
from consortium.spec import Model
from consortium.stackfile import StackFile
from consortium.workspace import Workspace
from testing.automation import OnOutput, Stack
from testing.nodes import Node
from testing.run import Run

if TYPE_CHECKING:
    from testing.consortium import Consortium

MAX_BUNDLE_BYTES = 10_000_000
Job = str | Path | Mapping[str, str]
"""A job folder; the name of an example such as `jobs/psi`; or file name → text."""


class Party:
    """One institution: its workspace, nodes and coordinator."""

    def __init__(self, consortium: Consortium, name: str, operator_port: int) -> None:
        self.consortium, self.name, self.operator_port = consortium, name, operator_port
        self.workspace = Workspace(consortium.folder / name, throwaway=True)

    @cached_property
    def coordinator(self) -> Coordinator:
        """The operator API, through the party's own gateway."""
        return Coordinator(f"http://127.0.0.1:{self.operator_port}", operator_token(self.workspace, self.name))

    @property
    def model(self) -> Model:
        """The documents of the workspace as they are now. Raises DocumentErrors."""
        return load_model(self.workspace.root, self.name)

    @property
    def nodes(self) -> list[Node]:
        """All nodes the documents ask for: head, workers, gateway."""
        engine, name = self.consortium.engine, self.consortium.name
        return [Node(engine, name, host.name, self.name, host.role) for host in hosts_of(self.model)]

    @property
    def head(self) -> Node:
        """The node with the Ray head and the coordinator."""
        return self._of("head")[0]

    @property
    def gateway(self) -> Node:
        """The node with the one public port."""
        return self._of("gateway")[0]

    @property
    def workers(self) -> list[Node]:
        """The nodes with Ray workers."""
        return self._of("worker")

    def node(self, name: str) -> Node:
        """One node by its name without the party's: head, worker-1, gateway. Raises UsageError."""
        for node in self.nodes:
            if node.name == f"{self.name}-{name}":
                return node
        known = [node.name.removeprefix(f"{self.name}-") for node in self.nodes]
        raise UsageError("no such node", where=self.name, value=name, allowed=", ".join(known))

    def _of(self, role: str) -> list[Node]:
        return [node for node in self.nodes if node.role == role]

    def join(self, wishes: Wishes, settings: Mapping[str, Any] | None = None) -> None:
        """Keys, party file and stack settings; `settings` replace what is there, map by map. Raises DocumentErrors."""
        join(self.workspace, self.name, wishes)
        if settings:
            file = StackFile(self.workspace.stack_file(self.name))
            file.update(settings=_merged(file.config()["settings"], settings))

    def up(self, on_output: OnOutput = lambda line: None) -> dict[str, str]:
        """`pulumi up` through the Automation API; returns the stack's outputs. Raises PulumiFailed."""
        return Stack(self.workspace, self.name).up(on_output)

    def down(self, on_output: OnOutput = lambda line: None) -> None:
        """`pulumi destroy`. Raises PulumiFailed."""
        Stack(self.workspace, self.name).destroy(on_output)

    def cli(self, *arguments: str) -> str:
        """Run one `consortium` command in the party's workspace; returns its output. Raises CommandFailed."""
        return subcommand.run(self.workspace.root, *arguments)

    def submit(self, job: Job, approve: str | Sequence[str] = "all") -> Run:
        """Propose a job here, and approve it at `all` others, at the named ones, or at none (`()`).

        Raises ConsortiumError for a wrong job folder, Refused if a coordinator says no.
        """
        from coordinator.bundle import BundleError, pack, read_folder, read_job_file

        try:
            files = _texts(job) if isinstance(job, Mapping) else read_folder(_folder(job), MAX_BUNDLE_BYTES)
            bundle, parties = pack(files), read_job_file(files).parties
        except BundleError as error:
            raise ConsortiumError("this job cannot be submitted", value=str(error), where=str(job)[:200]) from error
        submitted = self.coordinator.submit(bundle)
        run = Run(self.consortium, self.name, str(submitted["job_id"]), parties)
        self.consortium.runs.append(run)
        if approve == "all":
            run.approve()
        elif approve:
            run.approve(*approve)
        return run


def _folder(job: str | Path) -> Path:
    """The folder itself, or an example that comes with this package. Raises ConsortiumError."""
    for folder in (Path(job), INSTALLATION / job):
        if (folder / "job.yaml").is_file():
            return folder
    raise ConsortiumError(
        "no job folder: there is no job.yaml in it",
        where=str(Path(job).absolute()),
        allowed="a folder, or an example: "
        + ", ".join(f"jobs/{f.name}" for f in sorted((INSTALLATION / "jobs").iterdir())),
    )


def _texts(job: Mapping[str, str]) -> dict[str, bytes]:
    """Texts as they stand indented in a test."""
    return {name: textwrap.dedent(text).encode() for name, text in job.items()}


def _merged(old: Any, new: Any) -> Any:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return {**old, **{key: _merged(old.get(key), value) for key, value in new.items()}}
    return new
