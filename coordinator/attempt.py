"""Rules of a started attempt: when a driver may be launched, what ends it, and when the job has ended."""

from __future__ import annotations

from coordinator.actions import Commit
from coordinator.ends import label, retry_possible
from coordinator.model import Draft, Job, Observed, Phase
from coordinator.statements import DecisionBody, Kind, OutcomeBody


def start_of(job: Job, seen: Observed) -> float:
    """The agreed start of the current attempt, on this party's clock."""
    decision = job.decision(job.attempt)
    assert isinstance(decision, DecisionBody)
    return decision.start_at - seen.initiator_offset


def may_launch(job: Job, seen: Observed) -> bool:
    """True when this party's driver of the current attempt may be launched now."""
    return (
        job.phase is Phase.STARTING
        and job.slot is not None
        and seen.driver.state == "absent"
        and _cause_to_end(job, seen) is None
    )


def starting(job: Job, seen: Observed) -> Commit | None:
    """From the decision to the launched driver."""
    if seen.driver.state not in ("absent", "launching", "unreachable"):
        return Commit("the driver is launched", phase=Phase.RUNNING)
    if cause := _cause_to_end(job, seen):
        return _sign(job, seen, cause)
    late_s = seen.now - start_of(job, seen)
    if job.slot is None or late_s > seen.timing.start_window_s:
        why = f"the decision came too late to start: {late_s:.1f} s after the agreed moment"
        return _sign(job, seen, _end(seen, "missed-start", why, retryable=True))
    return None


_FOR_PEERS = {
    "launch-refused": "the driver was not launched: the Ray of this party refused it",
    "program-failed": "the program failed; why stands in this party's own log",
    "no-result": "the program ended without a result: does it use `with session()`?",
    "driver-stopped": "the driver was stopped through Ray",
    "driver-failed": "the driver ended with an error; why stands in this party's own log",
}
"""What peers are told. The text of an error, or the tail of a log, may quote data: it stays at its party."""


def running(job: Job, seen: Observed) -> Commit | None:
    """From the launched driver to this party's signed outcome."""
    driver = seen.driver
    if driver.state == "succeeded":
        body = OutcomeBody(
            status="succeeded", result_digest=driver.result_digest, started_at=driver.started_at, ended_at=seen.now
        )
        return _sign(job, seen, body)
    if cause := _cause_to_end(job, seen):
        return _sign(job, seen, cause)
    if driver.state in ("failed", "stopped"):
        code = driver.cause or "driver-failed"
        body = _end(seen, code, _FOR_PEERS.get(code, "the driver failed"), retryable=driver.retryable)
        return _sign(job, seen, body, driver.error)
    if driver.state == "absent":
        return _sign(job, seen, _end(seen, "driver-lost", "the own Ray no longer knows the driver", retryable=True))
    if seen.now > start_of(job, seen) + seen.timing.job_s:
        return _sign(job, seen, _end(seen, "job-time", f"the attempt ran longer than {seen.timing.job_s:g} s"))
    return None


def _cause_to_end(job: Job, seen: Observed) -> OutcomeBody | None:
    """An outcome other than success that this party has reason to sign, whatever its driver does."""
    for party, wish in sorted(job.cancels().items()):
        why = f"cancelled by {party}: {wish.reason or 'no reason given'}"
        return _end(seen, "cancelled", why, status="cancelled")
    outcomes = job.outcomes(job.attempt)
    for party, outcome in sorted(outcomes.items()):
        if outcome.status != "succeeded":
            why = f"{party} {outcome.status}: {outcome.error or outcome.cause}"
            return _end(seen, f"peer-{outcome.status}", why, status=outcome.status, retryable=outcome.retryable)
    for party, silent_s in sorted(seen.silent.items()):
        if silent_s > seen.timing.peer_lost_after_s and party not in outcomes:
            limit_s = seen.timing.peer_lost_after_s
            why = f"{party} is lost: no sign of this attempt from it for {silent_s:.1f} s (limit {limit_s:g})"
            return _end(seen, "peer-lost", why, retryable=True)
    if seen.ray_silent_s > seen.timing.peer_lost_after_s:
        why = f"the own Ray does not answer since {seen.ray_silent_s:.1f} s"
        return _end(seen, "ray-lost", why, retryable=True)
    return None


def _end(seen: Observed, cause: str, why: str, *, status: str = "failed", retryable: bool = False) -> OutcomeBody:
    return OutcomeBody.model_validate(
        {
            "status": status,
            "cause": cause,
            "error": why[:2000],
            "retryable": retryable,
            "started_at": seen.driver.started_at,
            "ended_at": seen.now,
        }
    )


def _sign(job: Job, seen: Observed, outcome: OutcomeBody, detail: str = "") -> Commit:
    """`detail` stays in this party's own events."""
    error = detail or outcome.error
    why = f"attempt {job.attempt} {outcome.status}" + (f": {error}" if error else "")
    return Commit(why, (Draft(Kind.OUTCOME, job.attempt, outcome),), Phase.ENDING, {"ended_at": seen.now})


def ending(job: Job, seen: Observed) -> Commit | None:
    """From the own signature to the end of the attempt everywhere."""
    if not job.driver_gone:
        if seen.driver.gone:
            return Commit("the driver is gone", changes={"driver_gone": True, "slot": None})
        return None
    outcomes = job.outcomes(job.attempt)
    phase, why = label(outcomes)
    complete = set(outcomes) == set(job.proposal.parties)
    again = retry_possible(job, outcomes)
    if complete and phase is Phase.FAILED and again:
        return Commit(f"another attempt may follow: {why}", phase=Phase.APPROVED, changes=_pause(seen))
    if complete:
        return Commit(why, phase=phase, changes={"settled": True})
    if phase is Phase.SUCCEEDED:
        return None  # every signature is needed, however long it takes
    waited = seen.now >= job.ended_at + seen.timing.peer_lost_after_s
    if waited and (not again or seen.now >= job.proposal.deadline):
        missing = ", ".join(sorted(set(job.proposal.parties) - set(outcomes)))
        return Commit(f"{why}; the signature of {missing} is missing", phase=phase)
    return None


def _pause(seen: Observed) -> dict[str, float]:
    return {"retry_at": seen.now + seen.timing.retry_s}
