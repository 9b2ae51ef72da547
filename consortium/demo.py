"""Two institutions on one machine, each with its own workspace, state, passphrase and keys: what `make demo` runs.

Nothing here is private to the demo: it calls the same `consortium` commands an operator would, in the same order,
and prints each before it runs it. The only thing that passes between the two workspaces is what institutions would
send one another: the public party file.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from consortium import subcommand
from consortium.engine import engine_address
from consortium.folders import INSTALLATION
from consortium.subcommand import CommandFailed

JOBS = ("psi", "logistic_regression")


@dataclass(frozen=True)
class DemoParty:
    """One institution of the demo and the two ports it takes on this machine."""

    name: str
    gateway_port: int
    operator_port: int


@dataclass(frozen=True)
class Demo:
    """A consortium whose institutions all live below `folder`, one workspace each."""

    folder: Path
    name: str = "demo"
    parties: tuple[DemoParty, ...] = (DemoParty("alice", 18443, 18080), DemoParty("bob", 28443, 28080))
    slots: int = 2

    def workspace(self, party: str) -> Path:
        return self.folder / party

    def consortium(self, party: str, *arguments: str, capture: bool = False) -> str:
        """Run one `consortium` command as `party`'s operator would, in its own workspace.

        Returns its standard output if `capture`. Raises CommandFailed with what it said.
        """
        _say(f"{party}$ consortium {' '.join(arguments)}", dim=capture)
        return subcommand.run(self.workspace(party), *arguments, capture=capture)

    def json(self, party: str, *arguments: str) -> Any:
        return json.loads(self.consortium(party, *arguments, "--json", capture=True))

    # Each step may be run again at any time: it does nothing where its result is there already.

    def prepare(self) -> None:
        """Workspaces, data, keys, and the exchange of party files."""
        endpoint_host = engine_address()
        for party in self.parties:
            self.workspace(party.name).mkdir(parents=True, exist_ok=True)
            members = [word for p in self.parties for word in ("--member", p.name)]
            self.consortium(party.name, "init", ".", "--name", self.name, *members)
        datasets = self.generate_data()
        for party in self.parties:
            self.consortium(
                party.name, "join", party.name,
                "--endpoint", f"{endpoint_host}:{party.gateway_port}", "--bind", endpoint_host,
                "--operator-port", str(party.operator_port),
                *(word for name, path in datasets[party.name].items() for word in ("--dataset", f"{name}={path}")),
            )  # fmt: skip
        self.exchange_party_files()
        for party in self.parties:
            self.consortium(party.name, "lint")

    def generate_data(self) -> dict[str, dict[str, str]]:
        """Make each institution's own tables in its own workspace. Party → dataset → path relative to it."""
        from consortium import example_data as data

        with tempfile.TemporaryDirectory() as folder:
            scratch = Path(folder)
            data.psi(scratch)
            data.logistic_regression(scratch)
            found: dict[str, dict[str, str]] = {}
            for party in self.parties:
                target = self.workspace(party.name) / "data"
                target.mkdir(exist_ok=True)
                found[party.name] = {}
                for made in sorted((scratch / party.name).glob("*.csv")):
                    if not (target / made.name).exists():
                        shutil.move(made, target / made.name)
                    found[party.name][made.stem] = f"data/{made.name}"
        return found

    def exchange_party_files(self) -> None:
        """Each institution sends the others its public face, and nothing else."""
        for sender in self.parties:
            public = Path("parties") / f"{sender.name}.yaml"
            for receiver in self.parties:
                if receiver != sender:
                    shutil.copyfile(self.workspace(sender.name) / public, self.workspace(receiver.name) / public)

    def up(self) -> None:
        """Bake the node image if it is not there, then `pulumi up` for one institution after the other."""
        self.consortium(self.parties[0].name, "image", "bake")
        for party in self.parties:
            self.consortium(party.name, "up", "--yes", "--", "--skip-preview")
        self.wait_until_connected()

    def wait_until_connected(self, timeout_s: float = 120) -> None:
        """Until every coordinator hears every other one."""
        end = time.monotonic() + timeout_s
        for party in self.parties:
            while silent := self._silent_peers(party.name):
                if time.monotonic() > end:
                    raise CommandFailed(
                        f"{party.name} does not hear {', '.join(silent)} after {timeout_s:.0f} s",
                        where=str(self.workspace(party.name)),
                        fix=f"consortium job status, and the logs below {party.name}'s nodes (docs/runbook.md)",
                    )
                time.sleep(0.5)

    def _silent_peers(self, party: str) -> list[str]:
        status = self.json(party, "status")
        return [name for name, peer in status["peers"].items() if not peer["up"]]

    def run_job(self, job: str, initiator: str = "alice", timeout_s: int = 900) -> dict[str, Any]:
        """Submit at `initiator`, approve at everybody else, wait, and return the initiator's view of the outcome."""
        submitted = self.json(initiator, "job", "submit", str(INSTALLATION / "jobs" / job))
        job_id = str(submitted["job_id"])
        for party in self.parties:
            if party.name != initiator:
                self.consortium(party.name, "job", "approve", job_id, "--yes", "--wait", "30", capture=True)
        self.consortium(initiator, "job", "wait", job_id, "--timeout", str(timeout_s))
        return {"job_id": job_id, "results": {p.name: self.json(p.name, "job", "result", job_id) for p in self.parties}}

    def down(self) -> None:
        """Take every institution down, data volumes included, and remove the workspaces."""
        for party in self.parties:
            if (self.workspace(party.name) / ".private").is_dir():
                self.consortium(party.name, "down", "--yes", "--remove-data")
        shutil.rmtree(self.folder, ignore_errors=False)


def run(demo: Demo, jobs: Sequence[str] = JOBS) -> None:
    """The whole demo, start to end; safe to run again."""
    demo.prepare()
    demo.up()
    outcomes = {job: demo.run_job(job) for job in jobs}
    _say("\nResults")
    for job, outcome in outcomes.items():
        _say(f"  {job} ({outcome['job_id']})")
        for party, result in outcome["results"].items():
            _say(f"    {party}: {json.dumps(result['result'], sort_keys=True)}")
    _say("\nWhere to look")
    for party in demo.parties:
        workspace = demo.workspace(party.name)
        _say(f"  {party.name}: status page http://127.0.0.1:{party.operator_port}/")
        _say(f"    token: {workspace}/.private/{party.name}.token")
        _say(f"    logs: consortium --workspace {workspace} job logs JOB")
    _say("\nTake it down: make demo-down")


def _say(text: str, *, dim: bool = False) -> None:
    print(f"\033[2m{text}\033[0m" if dim and sys.stdout.isatty() else text, flush=True)
