"""Acts: hold the queue, let jobs finish, change documents and nodes, look whether all is well, or put all back."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from consortium.client import Coordinator
from consortium.errors import ConsortiumError
from consortium.migration import documents
from consortium.migration.decide import Seen
from consortium.own_health import first_fault, until_well
from consortium.queue_hold import Queue
from consortium.workspace import Workspace

WAIT_S, HEALTH_S = 3600.0, 300.0
SPARE = timedelta(hours=1)
_VOLUME = "docker:index/volume:Volume"
_CONTAINER = "docker:index/container:Container"
Tell = Callable[[str], None]


class PutBack(ConsortiumError):
    """The other mode did not come up here; what ran before runs again."""


@dataclass(frozen=True)
class Migration:
    """One institution's way into the other mode. Every step may be repeated."""

    workspace: Workspace
    coordinator: Coordinator
    seen: Seen
    change: documents.Change
    tell: Tell
    wait_s: float = WAIT_S

    def run(self) -> None:
        """Raises TimedOut when jobs did not finish (nothing was changed then), PutBack, ConsortiumError."""
        what = f"from mode: {self.seen.now} to mode: {self.seen.to}"
        queue = Queue(self.coordinator, self.seen.party, self.tell)
        queue.hold(datetime.now(UTC) + timedelta(seconds=self.wait_s) + SPARE, what)
        queue.drain(self.wait_s, what)
        try:
            self._go(what)
        except ConsortiumError as failure:
            raise self._put_back(queue, failure) from failure
        queue.resume(f"went {what}, and is healthy")

    def _go(self, what: str) -> None:
        documents.write(self.workspace, self.seen.party, self.change)
        self._up(f"going {what}")
        self._healthy()

    def _up(self, what: str, *more: str) -> None:
        state = json.loads(self.workspace.pulumi("stack", "export", party=self.seen.party))
        self.workspace.pulumi("stack", "import", party=self.seen.party, stdin=json.dumps(keeping_volumes(state)))
        self.tell(what)
        if targets := [argument for urn in containers(state) for argument in ("--target", urn)]:
            # Other containers take the public port and the operator's, and Pulumi makes what is new before it takes
            # away what is old.
            goes = ("destroy", "--yes", "--skip-preview", "--target-dependents", *targets)
            self.workspace.pulumi_lines(*goes, party=self.seen.party, tell=self.tell)
        self.workspace.pulumi_lines("up", "--yes", "--skip-preview", *more, party=self.seen.party, tell=self.tell)

    def _healthy(self) -> None:
        until_well(lambda: first_fault(self.coordinator), self.seen.party, HEALTH_S, self.tell)

    def _put_back(self, queue: Queue, failure: ConsortiumError) -> ConsortiumError:
        why = (failure.value or failure.what).strip()
        self.tell(f"it does not work: {why.splitlines()[-1]}")
        try:
            documents.write(self.workspace, self.seen.party, self.change, back=True)
            self._up("putting everything back", "--refresh")
            self._healthy()
            queue.resume(f"put back: {why}")
        except ConsortiumError as second:
            return ConsortiumError(
                f"mode: {self.seen.to} did not come up, and putting back what was there failed",
                where=self.seen.party,
                value=f"{why}\nthen: {second}",
                fix="the documents are as before, nothing is lost: consortium doctor, then consortium up --refresh",
            )
        return PutBack(
            f"mode: {self.seen.to} did not come up here; mode: {self.seen.now} is in force again",
            where=self.seen.party,
            value=why,
            fix="mend that, tell the peers, and run it again",
        )


def keeping_volumes(state: Mapping[str, Any]) -> dict[str, Any]:
    """A deployment whose volumes of one mode alone may leave it, and stay on the engine then. Pure.

    They are protected, and Pulumi removes nothing that is. The way back finds them by their names.
    """
    deployment = state["deployment"]
    resources = [
        {**one, "protect": False, "retainOnDelete": True} if _of_one_mode(one) else one
        for one in deployment.get("resources", [])
    ]
    return {**state, "deployment": {**deployment, "resources": resources}}


def containers(state: Mapping[str, Any]) -> list[str]:
    """The URNs of all containers. Pure."""
    return [str(r["urn"]) for r in state["deployment"].get("resources", []) if r["type"] == _CONTAINER]


def _of_one_mode(resource: Mapping[str, Any]) -> bool:
    """The volume of a gateway's access log, and all of a Kuscia node's."""
    urn = str(resource["urn"])
    return resource["type"] == _VOLUME and (urn.endswith("-access") or "consortium:index:KusciaNode$" in urn)
