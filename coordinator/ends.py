"""How a job ends: the label follows from signed statements alone, so that every party derives the same one.

Not having succeeded is certain as soon as one party signed so: success needs every signature, and nobody signs twice.
Which of `failed` and `cancelled` it is may have to wait for the last signature; until then the job is not `settled`.
"""

from __future__ import annotations

from collections.abc import Mapping

from coordinator.actions import Commit
from coordinator.failpoints import Step
from coordinator.model import Draft, Job, Observed, Phase
from coordinator.statements import DecisionBody, Kind, OutcomeBody, PromiseBody


def closed_by_final(final: DecisionBody) -> Commit:
    """The initiator ended the job before a start: take over its label."""
    phase = Phase(final.final or "failed")
    return Commit(Step.CLOSED, final.reason, phase=phase, changes={"slot": None, "settled": True})


def label(outcomes: Mapping[str, OutcomeBody]) -> tuple[Phase, str]:
    """Phase and reason that a set of outcomes adds up to."""
    for status, phase in (("cancelled", Phase.CANCELLED), ("failed", Phase.FAILED)):
        # a consequence of another party's end names no cause of its own: look for the cause first
        ranked = sorted(outcomes.items(), key=lambda o: (o[1].cause.startswith("peer-"), o[1].ended_at, o[0]))
        for party, outcome in ranked:
            if outcome.status == status:
                return phase, f"{party}: {outcome.error or outcome.cause or status}"
    return Phase.SUCCEEDED, "every party signed success"


def retry_possible(job: Job, outcomes: Mapping[str, OutcomeBody]) -> bool:
    """True while another attempt may follow; rests on signed values only, so parties with all of them agree."""
    if job.starts >= job.proposal.max_attempts:
        return False
    return all(o.status == "succeeded" or (o.status == "failed" and o.retryable) for o in outcomes.values())


def gone(job: Job, seen: Observed) -> tuple[str, str] | None:
    """(cause, sentence) when a party of the job has left the consortium, or is revoked here."""
    if names := sorted(seen.left):
        return "left", f"{' and '.join(names)} {'has' if len(names) == 1 else 'have'} left the consortium"
    if names := sorted(seen.revoked):
        return "revoked", f"{job.me} has revoked {' and '.join(names)}"
    return None


def give_up(job: Job, seen: Observed, why: str) -> Commit:
    """Without a final decision, and none to come: sign that nothing ran here, so that success is ruled out."""
    own = job.promises(job.attempt).get(job.me)
    drafts: tuple[Draft, ...] = ()
    if isinstance(own, PromiseBody) and own.verdict == "promise" and job.phase is Phase.PROMISED:
        body = OutcomeBody(status="failed", cause="in-doubt", error=why, ended_at=seen.now)
        drafts = (Draft(Kind.OUTCOME, job.attempt, body),)
    changes = {"slot": None, "settled": False, "ended_at": seen.now}
    return Commit(Step.GIVE_UP, why, drafts, Phase.FAILED, changes)


def settle(job: Job, seen: Observed) -> Commit | None:
    """After the end: let go of what is left, answer late questions, complete the signatures."""
    if not job.driver_gone:
        if seen.driver.gone:
            return Commit(Step.DRIVER_GONE, "the driver is gone", changes={"driver_gone": True, "slot": None})
        return None
    late = job.prepare_round()
    if late > job.attempt and job.decision(late) is None and not job.leads:
        message = f"the job is {job.phase} here: {job.reason}"[:2000]
        refusal = PromiseBody(verdict="refuse", code="closed", message=message)
        draft = Draft(Kind.PROMISE, late, refusal)
        return Commit(Step.REFUSE, f"attempt {late} refused", (draft,), changes={"attempt": late})
    if job.settled:
        return None
    if final := job.final_decision():
        phase = Phase(final.final or "failed")
        return Commit(Step.SETTLE, final.reason, phase=_unless_same(job, phase), changes={"settled": True})
    ran = (k.attempt for k in job.statements if k.kind is Kind.OUTCOME and k.attempt <= job.attempt)
    attempt = max(ran, default=0)
    outcomes = job.outcomes(attempt)
    if attempt and set(outcomes) == set(job.proposal.parties):
        phase, why = label(outcomes)
        why = f"every signature is in: {why}"
        if phase is Phase.FAILED and retry_possible(job, outcomes):
            # the initiator may have gone on after this attempt: only its final decision settles the job
            return _no_further_attempt(job, why) if job.leads else None
        return Commit(Step.SETTLE, why, phase=_unless_same(job, phase), changes={"settled": True})
    return None


def _no_further_attempt(job: Job, why: str) -> Commit:
    n = job.attempt + 1
    body = DecisionBody(verdict="abort", code="deadline", reason=why[:2000], final="failed")
    changes = {"attempt": n, "settled": True}
    return Commit(Step.DECIDE_ABORT, why, (Draft(Kind.DECISION, n, body),), _unless_same(job, Phase.FAILED), changes)


def _unless_same(job: Job, phase: Phase) -> Phase | None:
    return None if phase is job.phase else phase
