"""Holding the own queue for a change of the nodes: no attempt begins, those that run end, and then jobs begin again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from consortium.client import Coordinator
from consortium.errors import TimedOut

ACTIVE = ("preparing", "promised", "starting", "running")
_BUSY = ("promised", "starting", "running", "ending")
_LONGEST = 500


def active(status: Mapping[str, Any]) -> dict[str, int]:
    """Phase → jobs whose attempt is under way, of a coordinator's status; a slot in use counts as one that runs."""
    found = {phase: count for phase, count in status["jobs"].items() if phase in ACTIVE and count}
    if status["slots"]["used"]:
        found.setdefault("running", 0)
    return found


@dataclass(frozen=True)
class Queue:
    """One party's queue."""

    coordinator: Coordinator
    party: str
    tell: Callable[[str], None]

    def hold(self, until: datetime, reason: str) -> None:
        """No attempt begins here, and none is promised, until then at the longest."""
        self.tell("holding the queue: no new attempt begins here, jobs wait")
        self.coordinator.post("/hold", data={"until": until.timestamp(), "reason": reason[:_LONGEST]})

    def drain(self, wait_s: float, what: str) -> None:
        """Until no attempt is under way. Raises TimedOut after `wait_s`; jobs begin again then."""
        shown: list[Mapping[str, int]] = []

        def show(status: Mapping[str, Any]) -> None:
            if (found := active(status)) and shown[-1:] != [found]:
                shown.append(found)
                self.tell("waiting for " + ", ".join(f"{count} {phase}" for phase, count in found.items() if count))

        try:
            self.coordinator.wait("/status", lambda s: not active(s), wait_s, "the end of all attempts", show)
        except TimedOut as error:
            self.resume(f"not done: attempts did not end within {wait_s:g} s ({what})")
            jobs = self.coordinator.get("/jobs", limit=1000)["jobs"]
            busy = [job["job_id"] for job in jobs if job["phase"] in _BUSY]
            raise TimedOut(
                f"attempts did not end within {wait_s:g} s; nothing was changed, and jobs begin again",
                where=self.party,
                value=", ".join(busy[:10]),
                fix="consortium job wait JOB, or consortium job cancel JOB; or a longer --wait",
            ) from error
        self.tell("nothing runs")

    def resume(self, reason: str) -> None:
        """Jobs begin again."""
        self.coordinator.post("/resume", data={"reason": reason[:_LONGEST]})
        self.tell("jobs begin again")
