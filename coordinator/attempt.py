"""Rules of a started attempt: when a driver may be launched, what ends it, and when the job has ended."""

from __future__ import annotations

from coordinator.actions import Commit
from coordinator.ends import gone, label, retry_possible
from coordinator.failpoints import Step
from coordinator.model import Draft, Job, Observed, Phase
from coordinator.statements import DecisionBody, GoBody, Kind, OutcomeBody, ReadyBody


def decided_at(job: Job, seen: Observed) -> float:
    """When the current attempt's start was decided, on this party's clock."""
    decision = job.decision(job.attempt)
    assert isinstance(decision, DecisionBody)
    return decision.decided_at - (seen.initiator_offset or 0.0)


def start_of(job: Job, seen: Observed) -> float | None:
    """The agreed moment of the current attempt, on this party's clock; None before `go`."""
    go = job.go(job.attempt)
    return go.start_at - (seen.initiator_offset or 0.0) if go else None


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
        return Commit(Step.LAUNCHED, "the driver is launched", phase=Phase.RUNNING)
    if cause := _cause_to_end(job, seen):
        return _sign(job, seen, cause)
    late_s = seen.now - decided_at(job, seen)
    if job.slot is None or late_s > seen.timing.start_window_s:
        why = f"the decision came too late to start: {late_s:.1f} s after it was made"
        return _sign(job, seen, _end(seen, "missed-start", why, retryable=True))
    return None


_FOR_PEERS = {
    "launch-refused": "the driver was not launched: the Ray of this party refused it",
    "program-failed": "the program failed; why stands in this party's own log",
    "no-result": "the program ended without a result: does it use `with session()`?",
    "no-session": "the program ended before the agreed start: does it use `with session()`?",
    "lease-lost": "the driver ended itself: its coordinator was gone",
    "driver-stopped": "the driver was stopped through Ray",
    "driver-failed": "the driver ended with an error; why stands in this party's own log",
}
"""What peers are told. The text of an error, or the tail of a log, may quote data: it stays at its party."""


def running(job: Job, seen: Observed) -> Commit | None:
    """From the launched driver to this party's signed outcome."""
    driver, begun = seen.driver, start_of(job, seen)
    if driver.state == "succeeded" and begun is None:
        return _sign(job, seen, _end(seen, "no-session", _FOR_PEERS["no-session"]))
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
        why = f"the Ray of {job.me} no longer knows the driver"
        return _sign(job, seen, _end(seen, "driver-lost", why, retryable=True))
    if begun is None:
        return _before_go(job, seen)
    if not seen.told and seen.now > begun + seen.timing.start_window_s:
        why = f"go came too late to start: {seen.now - begun:.1f} s after the agreed moment"
        return _sign(job, seen, _end(seen, "missed-start", why, retryable=True))
    if seen.now > begun + seen.timing.job_s:
        return _sign(job, seen, _end(seen, "job-time", f"the attempt ran longer than {seen.timing.job_s:g} s"))
    return None


def _before_go(job: Job, seen: Observed) -> Commit | None:
    """The driver loads meanwhile. `go` rests on every party's `ready`, and a `ready` on the ways of the data itself."""
    n, ready = job.attempt, job.readies(job.attempt)
    ways = seen.ways if seen.ways and seen.ways.attempt == n else None
    if ways and ways.code:
        return _sign(job, seen, _end(seen, ways.code, ways.message, retryable=True))
    if job.me not in ready and ways and seen.driver.ready:
        return Commit(Step.READY, f"attempt {n} is ready", (Draft(Kind.READY, n, ReadyBody(at=seen.now)),))
    if job.leads and set(ready) == set(job.proposal.parties):
        # four ways of the slowest peer: `go` must be there, and be confirmed or sent again, before the moment comes
        body = GoBody(start_at=seen.now + seen.timing.start_lead_s + 4 * seen.slowest_s)
        return Commit(Step.GO, f"attempt {n}: every party is ready, go", (Draft(Kind.GO, n, body),))
    if (late_s := seen.now - decided_at(job, seen)) > seen.timing.start_window_s:
        missing = ", ".join(sorted(set(job.proposal.parties) - set(ready))) if job.leads else job.initiator
        what = "not ready" if job.leads or job.me not in ready else "without go"
        why = f"{missing} {what} {late_s:.0f} s after the decision (start_window_s is {seen.timing.start_window_s:g})"
        return _sign(job, seen, _end(seen, "missed-start", why, retryable=True))
    return None


def _cause_to_end(job: Job, seen: Observed) -> OutcomeBody | None:
    """An outcome other than success that this party has reason to sign, whatever its driver does."""
    for party, wish in sorted(job.cancels().items()):
        why = f"cancelled by {party}: {wish.reason or 'no reason given'}"
        return _end(seen, "cancelled", why, status="cancelled")
    if out := gone(job, seen):
        return _end(seen, *out)
    outcomes = job.outcomes(job.attempt)
    for party, outcome in sorted(outcomes.items()):
        if outcome.status != "succeeded":
            why = f"{party} {outcome.status}: {outcome.error or outcome.cause}"
            return _end(seen, f"peer-{outcome.status}", why, status=outcome.status, retryable=outcome.retryable)
    limit_s = seen.timing.peer_lost_after_s
    for party, silence in sorted(seen.silent.items()):
        if silence.seconds > limit_s and party not in outcomes:
            why = f"{party} is lost: no sign of this attempt from it for {silence.seconds:.1f} s (limit {limit_s:g})"
            return _end(seen, "peer-lost", f"{why}: {silence.seen}" if silence.seen else why, retryable=True)
    if seen.ray_silent_s > seen.timing.peer_lost_after_s:
        why = f"the Ray of {job.me} does not answer since {seen.ray_silent_s:.1f} s"
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
    draft = Draft(Kind.OUTCOME, job.attempt, outcome)
    return Commit(Step.OUTCOME, why, (draft,), Phase.ENDING, {"ended_at": seen.now})


def ending(job: Job, seen: Observed) -> Commit | None:
    """From the own signature to the end of the attempt everywhere."""
    if not job.driver_gone:
        if seen.driver.gone:
            return Commit(Step.DRIVER_GONE, "the driver is gone", changes={"driver_gone": True, "slot": None})
        return None
    outcomes = job.outcomes(job.attempt)
    phase, why = label(outcomes)
    complete = set(outcomes) == set(job.proposal.parties)
    again = retry_possible(job, outcomes)
    if complete and phase is Phase.FAILED and again:
        return Commit(Step.RETRY, f"another attempt may follow: {why}", phase=Phase.APPROVED, changes=_pause(seen))
    if complete:
        return Commit(Step.END, why, phase=phase, changes={"settled": True})
    if phase is Phase.SUCCEEDED:
        return None  # every signature is needed, however long it takes
    waited = seen.now >= job.ended_at + seen.timing.peer_lost_after_s
    if waited and (not again or seen.now >= job.proposal.deadline):
        missing = ", ".join(sorted(set(job.proposal.parties) - set(outcomes)))
        return Commit(Step.END, f"{why}; the signature of {missing} is missing", phase=phase)
    return None


def _pause(seen: Observed) -> dict[str, float]:
    return {"retry_at": seen.now + seen.timing.retry_s}
