"""What a party does next about a job where Kuscia carries it: pure, as coordinator/decide.py is.

Everything follows from the record and from what the own node says of two KusciaJobs: that of the record's attempt, and
that of the attempt after it. A state that is not known is waited for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime

from coordinator.actions import Action, AnswerKusciaJob, CancelKusciaJob, Commit, CreateKusciaJob, Wake
from coordinator.before_start import own_verdict
from coordinator.ends import gone, retry_possible
from coordinator.failpoints import KusciaStep, Step
from coordinator.kuscia.models import JobState, JobStatus
from coordinator.kuscia.observe import KusciaSeen
from coordinator.model import Draft, Job, Phase
from coordinator.statements import CancelBody, Kind, OutcomeBody

ACCEPTED, REJECTED = "JobAccepted", "JobRejected"
POLL_S = 30.0
"""A job that waits is looked at so often even if the node tells of no change."""
IN_FLIGHT_S = 30.0
"""A request to the node that was cut off may still be carried out so long after."""
_ENDED = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.APPROVAL_REJECT})
_RAN = frozenset({JobState.RUNNING, JobState.SUSPENDED, JobState.SUCCEEDED})


def decide(job: Job, seen: KusciaSeen) -> list[Action]:
    """The next durable step alone, or else every effect that is due now."""
    if step := next_step(job, seen):
        return [step]
    return [*effects(job, seen), *wakes(job, seen)]


def next_step(job: Job, seen: KusciaSeen) -> Commit | None:
    """The next durable step, if there is one."""
    why = _end_wanted(job, seen)
    if why and job.me not in job.cancels():
        return Commit(Step.CANCEL, f"cancel wanted: {why}", (Draft(Kind.CANCEL, 0, CancelBody(reason=why[:500])),))
    return STEPS[job.phase](job, seen)


def _end_wanted(job: Job, seen: KusciaSeen) -> str:
    """Why this party ends the job without being asked to; empty when there is no reason."""
    if job.phase.terminal or job.phase is Phase.ENDING:
        return ""
    if out := gone(job, seen):
        return out[1]
    if seen.wrong:
        return f"not what was agreed: {seen.wrong}"
    if _ran_unasked(job, seen):
        return f"the Kuscia of {job.me} went on without this party's yes: enableWorkloadApprove must be true"
    grace_s = 0.0 if job.leads else seen.timing.peer_lost_after_s
    if job.phase in (Phase.PROPOSED, Phase.APPROVED) and seen.now >= job.proposal.deadline + grace_s:
        return "the job's deadline passed before it could start"
    if job.phase is Phase.RUNNING and job.leads and seen.now > job.prepared_at + seen.timing.job_s:
        return f"the attempt ran longer than {seen.timing.job_s:g} s"
    return ""


def _ran_unasked(job: Job, seen: KusciaSeen) -> bool:
    said = job.approvals().get(job.me)
    if job.leads or (said and said.verdict == "approve"):
        return False
    told = seen.following
    return told is not None and (told.state in _RAN or told.answers().get(job.me) == ACCEPTED)


def _agreed(job: Job, told: JobStatus | None) -> bool:
    """True when every party said yes to this KusciaJob: this one by its record, the others as the own node knows."""
    own = job.approvals().get(job.me)
    if own is None or own.verdict != "approve":
        return False
    if told is None or told.state in (JobState.AWAITING_APPROVAL, JobState.APPROVAL_REJECT, JobState.UNKNOWN):
        return False  # a KusciaJob that its node has not looked at yet is told as Pending
    answers = told.answers()
    asked = (p for p in job.proposal.parties if p != job.initiator)
    return told.state in _RAN or all(answers.get(p) == ACCEPTED for p in asked)


def proposed(job: Job, seen: KusciaSeen) -> Commit | None:
    if step := _closed(job, seen) or (None if job.me in job.cancels() else own_verdict(job, seen)):
        return step
    if _agreed(job, seen.following):
        return Commit(Step.APPROVED, "every party approved", phase=Phase.APPROVED)
    return None


def approved(job: Job, seen: KusciaSeen) -> Commit | None:
    if step := _closed(job, seen):
        return step
    n = job.attempt + 1
    if _agreed(job, seen.following):
        changes = {"attempt": n, "starts": n, "driver_gone": False, "prepared_at": seen.now}
        return Commit(Step.START, f"attempt {n} starts", phase=Phase.STARTING, changes=changes)
    return None


def _closed(job: Job, seen: KusciaSeen) -> Commit | None:
    """The job ended before an attempt could start."""
    told = seen.following
    wish = job.cancels().get(job.me)
    if told is None:
        if wish:
            return _close(job, seen, Phase.CANCELLED, f"{job.me} cancelled: {wish.reason or 'no reason given'}")
        if seen.refused and job.leads:
            return _close(job, seen, Phase.FAILED, f"the Kuscia of {job.me} will not make this job: {seen.refused}")
        if job.attempt == 0 and not job.leads:
            return _close(job, seen, Phase.FAILED, f"{job.initiator} took the job back: the own Kuscia has it no more")
        if job.attempt and seen.current and seen.current.state is JobState.CANCELLED:
            return _close(job, seen, Phase.CANCELLED, _cancelled(job, seen.current))
        return None
    if told.state is JobState.APPROVAL_REJECT:
        who = sorted(p for p, answer in told.answers().items() if answer == REJECTED)
        own = job.approvals().get(job.me)
        reason = f": {own.reason}" if own and own.verdict == "deny" and own.reason else ""
        return _close(job, seen, Phase.CANCELLED, f"{', '.join(who) or 'a party'} denied the job{reason}")
    if told.state is JobState.CANCELLED:
        return _close(job, seen, Phase.CANCELLED, _cancelled(job, told))
    if told.state in _ENDED and not _agreed(job, told):
        why = f"Kuscia: {told.state} without every party's yes: {told.err_msg or 'it does not say why'}"
        return _close(job, seen, Phase.FAILED, why)
    return None


def _close(job: Job, seen: KusciaSeen, phase: Phase, why: str) -> Commit:
    # not gone yet: a request that was cut off may still make it, and others may wait for an attempt that never comes
    changes = {"settled": True, "ended_at": seen.now, "driver_gone": False}
    return Commit(Step.CLOSED, why[:2000], phase=phase, changes=changes)


def _cancelled(job: Job, told: JobStatus) -> str:
    wish = job.cancels().get(job.me)
    if wish:
        return f"{job.me} cancelled: {wish.reason or 'no reason given'}"
    return f"cancelled: {told.err_msg or 'Kuscia does not say by whom'}"


def starting(job: Job, seen: KusciaSeen) -> Commit | None:
    if seen.current and seen.current.state in _RAN:
        return Commit(Step.LAUNCHED, "Kuscia runs it", phase=Phase.RUNNING)
    return _ended(job, seen)


def running(job: Job, seen: KusciaSeen) -> Commit | None:
    if seen.current and seen.current.state is JobState.SUSPENDED:
        why = f"suspended: {seen.current.err_msg}" if seen.current.err_msg else "suspended"
        return Commit(KusciaStep.SUSPEND, why, phase=Phase.SUSPENDED)
    return _ended(job, seen)


def suspended(job: Job, seen: KusciaSeen) -> Commit | None:
    if seen.current and seen.current.state is JobState.RUNNING:
        return Commit(KusciaStep.RESUME, "it goes on", phase=Phase.RUNNING, changes={"prepared_at": seen.now})
    return _ended(job, seen)


def _ended(job: Job, seen: KusciaSeen) -> Commit | None:
    """This party's signed outcome, once the own node shows an end of the attempt."""
    told = seen.current
    if told is None or told.state is JobState.AWAITING_APPROVAL:
        return _outcome(job, seen, "failed", "kuscia-lost", f"the Kuscia of {job.me} no longer has this KusciaJob")
    if told.state is JobState.SUCCEEDED:
        # a task that its initiator made tolerable would not count for Kuscia
        if bad := sorted(task.alias for task in told.tasks if task.state is not JobState.SUCCEEDED):
            return _outcome(job, seen, "failed", "kuscia-failed", f"Kuscia: Succeeded, but not {', '.join(bad)}")
        return _outcome(job, seen, "succeeded", "", "")
    if told.state in (JobState.CANCELLED, JobState.APPROVAL_REJECT):
        return _outcome(job, seen, "cancelled", "cancelled", _cancelled(job, told))
    if told.state is JobState.FAILED:
        return _outcome(
            job, seen, "failed", "kuscia-failed", f"Kuscia: Failed: {told.err_msg or 'it does not say why'}"
        )
    if seen.following is not None and not job.leads:
        return _outcome(job, seen, "failed", "overtaken", f"{job.initiator} began another attempt")
    return None


def _outcome(job: Job, seen: KusciaSeen, status: str, cause: str, error: str) -> Commit:
    told = seen.current
    body = OutcomeBody.model_validate(
        {
            "status": status,
            "cause": cause,
            "error": error[:2000],
            "retryable": status == "failed",
            "started_at": _seconds(told.start_time) if told else None,
            "ended_at": seen.now,
        }
    )
    why = f"attempt {job.attempt} {status}" + (f": {error}" if error else "")
    changes = {"ended_at": seen.now, "driver_gone": told is None or told.state in _ENDED}
    return Commit(Step.OUTCOME, why[:2000], (Draft(Kind.OUTCOME, job.attempt, body),), Phase.ENDING, changes)


def _seconds(time: str) -> float | None:
    try:
        found = datetime.fromisoformat(time).timestamp()
    except (ValueError, OverflowError, OSError):
        return None
    return found if 0 <= found <= 1e11 else None


def ending(job: Job, seen: KusciaSeen) -> Commit | None:
    if not job.driver_gone:
        return _gone(seen.current)
    own = job.outcomes(job.attempt)[job.me]
    why = own.error or "Kuscia: Succeeded"
    if own.status == "failed" and retry_possible(job, {job.me: own}):
        if wish := job.cancels().get(job.me):
            return _close(job, seen, Phase.CANCELLED, f"{job.me} cancelled: {wish.reason or 'no reason given'}")
        changes = {"retry_at": seen.now + seen.timing.retry_s}
        return Commit(Step.RETRY, f"another attempt may follow: {why}"[:2000], phase=Phase.APPROVED, changes=changes)
    return Commit(Step.END, why, phase=Phase(own.status), changes={"settled": True})


def _gone(told: JobStatus | None) -> Commit | None:
    if told is None or told.state in _ENDED:
        return Commit(Step.DRIVER_GONE, "nothing of it runs any more", changes={"driver_gone": True})
    return None


def settle(job: Job, seen: KusciaSeen) -> Commit | None:
    """After the end: until nothing of it can run or wait any more."""
    if job.driver_gone or _live(seen.current) or _live(seen.following) or _others_wait(job, seen):
        return None
    if seen.following is None and seen.now < job.ended_at + IN_FLIGHT_S:
        return None
    return Commit(Step.DRIVER_GONE, job.reason, changes={"driver_gone": True})


def _live(told: JobStatus | None) -> bool:
    return told is not None and told.state not in _ENDED


def _others_wait(job: Job, seen: KusciaSeen) -> bool:
    """True while the others may wait for an attempt that this party, the initiator, will not begin."""
    failed = seen.current is not None and seen.current.state is JobState.FAILED
    return job.leads and failed and job.starts < job.proposal.max_attempts


STEPS: Mapping[Phase, Callable[[Job, KusciaSeen], Commit | None]] = {
    Phase.PROPOSED: proposed,
    Phase.APPROVED: approved,
    Phase.STARTING: starting,
    Phase.RUNNING: running,
    Phase.SUSPENDED: suspended,
    Phase.ENDING: ending,
    Phase.SUCCEEDED: settle,
    Phase.FAILED: settle,
    Phase.CANCELLED: settle,
}


def effects(job: Job, seen: KusciaSeen) -> Iterator[Action]:
    """What is asked of the own node now: all of it may be repeated or lost without harm."""
    n = job.attempt
    if job.phase.terminal:
        if _live(seen.current) or (not job.driver_gone and _others_wait(job, seen)):
            yield CancelKusciaJob(n)
        if seen.following and _live(seen.following):
            waits = seen.following.state is JobState.AWAITING_APPROVAL and not job.leads
            yield AnswerKusciaJob(n + 1, False) if waits else CancelKusciaJob(n + 1)
    elif job.phase in (Phase.PROPOSED, Phase.APPROVED):
        yield from _towards_start(job, seen)
    elif (job.me in job.cancels() or job.phase is Phase.ENDING) and _live(seen.current):
        yield CancelKusciaJob(n)


def _towards_start(job: Job, seen: KusciaSeen) -> Iterator[Action]:
    n, told, said = job.attempt + 1, seen.following, job.approvals().get(job.me)
    if job.me in job.cancels():
        if told is not None:
            yield CancelKusciaJob(n)
    elif job.leads:
        if told is None and said and not seen.held and seen.now >= job.retry_at:
            yield CreateKusciaJob(n)
    elif told is not None and told.state is JobState.AWAITING_APPROVAL and said:
        accept = said.verdict == "approve"
        if told.answers().get(job.me) != (ACCEPTED if accept else REJECTED) and not (
            accept and (seen.behind or seen.held)
        ):
            yield AnswerKusciaJob(n, accept)


def wakes(job: Job, seen: KusciaSeen) -> Iterator[Wake]:
    """The next moment at which time alone changes what is decided; or to ask the node, in case it told nothing."""
    if job.phase.terminal and job.driver_gone:
        return
    deadline = job.proposal.deadline
    times = [deadline, deadline + seen.timing.peer_lost_after_s, job.retry_at, seen.now + POLL_S]
    yield Wake(min(t for t in times if t > seen.now))
