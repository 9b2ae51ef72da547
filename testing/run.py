"""One job, as a test sees it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from testing.consortium import Consortium

WAIT_S = 900.0
ARRIVAL_S = 60.0


@dataclass(frozen=True)
class Outcome:
    """How a job ended at the party that was asked."""

    phase: str
    """succeeded, failed, cancelled or diverged (docs/protocol.md)."""
    reason: str
    signed: dict[str, dict[str, Any]]
    """Party → its signed outcome of the last attempt, as far as it is known there."""


@dataclass(frozen=True)
class Run:
    """A submitted job."""

    consortium: Consortium
    initiator: str
    job_id: str
    parties: tuple[str, ...]

    def view(self, party: str | None = None) -> dict[str, Any]:
        """What a party (default: the initiator) knows of the job: docs/openapi/operator.json, JobDetail."""
        return dict(self._coordinator(party).get(f"/jobs/{self.job_id}"))

    def approve(self, *parties: str) -> None:
        """Say yes at these parties (default: at all but the initiator), once the proposal has come there."""
        for party in parties or [p for p in self.parties if p != self.initiator]:
            self.wait_for("bundle_ready", party)
            self._coordinator(party).post(f"/jobs/{self.job_id}/approve")

    def deny(self, party: str, reason: str = "") -> None:
        """Say no at a party, once the proposal has come there."""
        self.wait_for("bundle_ready", party)
        self._coordinator(party).post(f"/jobs/{self.job_id}/deny", data={"reason": reason})

    def cancel(self, party: str | None = None, reason: str = "") -> None:
        """End the job at every party."""
        self._coordinator(party).post(f"/jobs/{self.job_id}/cancel", data={"reason": reason})

    def wait(self, timeout_s: float = WAIT_S, party: str | None = None) -> Outcome:
        """Wait for the job's end at a party, with every party's signature. Raises TimedOut with the last phase."""
        found = self._coordinator(party).wait(
            f"/jobs/{self.job_id}",
            lambda job: bool(job["terminal"] and job["settled"]),
            timeout_s,
            f"the end of job {self.job_id}",
        )
        return Outcome(str(found["phase"]), str(found["reason"]), dict(found["outcomes"]))

    def wait_for_phase(self, phases: str | Sequence[str], party: str | None = None, timeout_s: float = 120) -> None:
        """Wait until the job is in one of the phases. Raises TimedOut with the phase it is in."""
        wanted = {phases} if isinstance(phases, str) else set(phases)
        self._coordinator(party).wait(
            f"/jobs/{self.job_id}",
            lambda job: job["phase"] in wanted,
            timeout_s,
            f"phase {' or '.join(sorted(wanted))}",
        )

    def wait_for(self, field: str, party: str | None = None, timeout_s: float = ARRIVAL_S) -> None:
        """Wait until a field of the job's view is true, or the job has ended. Raises TimedOut."""
        path = f"/jobs/{self.job_id}"
        done = lambda job: bool(job[field] or job["terminal"])  # noqa: E731
        self._coordinator(party).wait(path, done, timeout_s, f"{field} of {self.job_id}")

    def result(self, party: str | None = None) -> Any:
        """What the program handed back at a party."""
        return self._coordinator(party).get(f"/jobs/{self.job_id}/result")

    def logs(self, party: str | None = None) -> str:
        """What the program printed at a party."""
        return str(self._coordinator(party).get(f"/jobs/{self.job_id}/logs"))

    def _coordinator(self, party: str | None) -> Any:
        return self.consortium.party(party or self.initiator).coordinator
