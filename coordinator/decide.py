"""What a party does next about a job: a pure function of its durable record and of what it sees.

No clock and no I/O: time is `seen.now`. At most one durable step (`Commit`) is returned, and then nothing else, so
every durable step is a point where a crash leaves a record from which the same function goes on.
docs/protocol.md derives the safety argument from the rules in `before_start.py`, `attempt.py` and `ends.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from coordinator.actions import Action, Commit
from coordinator.attempt import ending, running, starting
from coordinator.before_start import approved, preparing, promised, proposed
from coordinator.effects import deliveries, effects, wakes
from coordinator.ends import settle
from coordinator.failpoints import Step
from coordinator.model import Draft, Job, Observed, Phase
from coordinator.statements import Statement


def decide(job: Job, seen: Observed) -> list[Action]:
    """The next durable step alone, or else every effect that is due now."""
    if step := next_step(job, seen):
        return [step]
    return [*effects(job, seen), *deliveries(job, seen), *wakes(job, seen)]


def evolve(job: Job, step: Commit, sign: Callable[[Draft], Statement]) -> Job:
    """The record after the step. Pure but for `sign`, which gives a draft this party's signature."""
    signed = [sign(draft) for draft in step.drafts]
    changed = replace(job.adding(*signed), reason=step.reason, version=job.version + 1, **step.changes)
    return replace(changed, phase=step.phase) if step.phase else changed


def next_step(job: Job, seen: Observed) -> Commit | None:
    """The next durable step, if there is one."""
    if job.conflicts and job.phase is not Phase.DIVERGED:
        first = job.conflicts[0][0]
        return Commit(
            Step.DIVERGE,
            f"{first.party} signed two different {first.kind} statements for attempt {first.attempt}; both are kept",
            phase=Phase.DIVERGED,
            changes={"settled": True},
        )
    return STEPS[job.phase](job, seen)


STEPS: Mapping[Phase, Callable[[Job, Observed], Commit | None]] = {
    Phase.PROPOSED: proposed,
    Phase.APPROVED: approved,
    Phase.PREPARING: preparing,
    Phase.PROMISED: promised,
    Phase.STARTING: starting,
    Phase.RUNNING: running,
    Phase.ENDING: ending,
    Phase.SUCCEEDED: settle,
    Phase.FAILED: settle,
    Phase.CANCELLED: settle,
    Phase.DIVERGED: settle,
}
