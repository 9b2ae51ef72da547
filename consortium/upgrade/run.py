"""Acts: hold the queue, let jobs finish, go over, look whether all is well, and take everything back if it is not.

Every step may be repeated: an upgrade whose machine died in the middle is gone on with by the next `upgrade run`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from consortium.client import Coordinator
from consortium.errors import ConsortiumError
from consortium.own_health import first_fault, until_well
from consortium.queue_hold import Queue
from consortium.upgrade import before
from consortium.upgrade.decide import Seen, said
from consortium.upgrade.mode import BACK, MODE, RUN
from consortium.upgrade.observe import running
from consortium.workspace import Workspace

SPARE = timedelta(minutes=30)
"""So long a hold outlasts the drain at least, for what follows it."""
WAIT_S = 3600.0
HEALTH_S = 240.0
"""SecretFlow is imported once, from a cold disk."""
Tell = Callable[[str], None]


class RolledBack(ConsortiumError):
    """The new versions did not work here; what ran before runs again."""


@dataclass(frozen=True)
class Done:
    """What was changed, and how long jobs could not begin, and the coordinator did not answer, in seconds."""

    changes: Mapping[str, tuple[str, str]]
    held_s: float
    away_s: float


@dataclass(frozen=True)
class Upgrade:
    """One institution's way over."""

    workspace: Workspace
    coordinator: Coordinator
    seen: Seen
    tell: Tell
    wait_s: float = WAIT_S
    health_s: float = HEALTH_S

    @property
    def _queue(self) -> Queue:
        return Queue(self.coordinator, self.seen.party, self.tell)

    def run(self) -> Done:
        """Raises TimedOut when jobs did not finish (nothing was changed then), RolledBack, ConsortiumError."""
        began = time.monotonic()
        changes = said(self.seen.changes) or "what was begun"
        self._hold(f"upgrade: {changes}")
        self._queue.drain(self.wait_s, changes)
        if not before.is_kept(self.workspace, self.seen.party):
            self.tell("keeping what is there now, so that it can be put back")
            before.keep(self.workspace, self.seen.party)
        away = time.monotonic()
        try:
            self._up(RUN, f"going over: {changes}")
            self._healthy(self.seen.brings, self.health_s)
        except ConsortiumError as failure:
            raise self._rolled_back(failure) from failure
        away_s = time.monotonic() - away
        self._queue.resume(f"upgraded, and healthy: {changes}")
        before.forget(self.workspace, self.seen.party)
        return Done(self.seen.changes, round(time.monotonic() - began, 1), round(away_s, 1))

    def _hold(self, reason: str) -> None:
        window, now = self.seen.window, self.seen.now
        self._queue.hold(max(now + timedelta(seconds=self.wait_s) + SPARE, window.to if window else now), reason)

    def _up(self, mode: str, what: str) -> None:
        self.tell(what)
        # What a failed `up` has laid is not in Pulumi's state: only a look at the nodes finds it.
        refresh = ["--refresh"] if mode == BACK else []
        up = ("up", "--yes", "--skip-preview", *refresh)
        self.workspace.pulumi_lines(*up, party=self.seen.party, tell=self.tell, env={MODE: mode})

    def _healthy(self, wanted: Mapping[str, str], within_s: float = HEALTH_S) -> None:
        """Until the coordinator runs in these versions and finds nothing wrong with itself. Raises ConsortiumError."""
        until_well(lambda: self._fault(wanted), self.seen.party, within_s, self.tell)

    def _fault(self, wanted: Mapping[str, str]) -> str:
        for name, version in running(self.coordinator.get("/status")).versions.items():
            if version != wanted.get(name, version):
                return f"{name} is {version}, and must be {wanted[name]}"
        return first_fault(self.coordinator)

    def _rolled_back(self, failure: ConsortiumError) -> RolledBack:
        """Raises ConsortiumError where even that failed."""
        assert self.seen.runs is not None
        why = _last_words(failure)
        self.tell(f"it does not work: {why.splitlines()[-1]}")
        try:
            self._put_back(self.seen.runs.versions, f"rolled back: {why}")
        except ConsortiumError as second:
            raise ConsortiumError(
                "the new versions do not work, and putting back what was there failed",
                where=self.seen.party,
                value=f"{why}\nthen: {second}",
                fix="the queue is held, nothing is lost: consortium doctor, then consortium upgrade back",
            ) from second
        return RolledBack(
            "the new versions do not work here; image and configuration from before are in force again",
            where=self.seen.party,
            value=why,
            fix="tell the peers: jobs with those who have gone over wait; `consortium upgrade run` tries again",
        )

    def back(self) -> None:
        """Put back what was kept when an upgrade began that did not end. Raises ConsortiumError."""
        self._put_back({}, "taken back by the operator")

    def _put_back(self, versions: Mapping[str, str], reason: str) -> None:
        self._up(BACK, "putting back what was there: image and every file of every node")
        self._healthy(versions)
        self._queue.resume(reason)
        before.forget(self.workspace, self.seen.party)


def _last_words(failure: ConsortiumError) -> str:
    """Why something failed, in a few lines: of Pulumi the errors alone."""
    lines = [line.strip() for line in (failure.value or failure.what).splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()]
    return "\n".join((errors or lines)[-5:])
