"""Rules from the proposal to the decision: who may say yes, when a start is decided, and who may abort what.

Only the initiator decides an attempt, once, and a start needs every party's promise for that very attempt. A party
refuses only what it has not promised and never aborts what it has promised: from these three the safety of a start
follows (docs/protocol.md).
"""

from __future__ import annotations

import hashlib

from coordinator.actions import Commit
from coordinator.ends import closed_by_final, give_up, gone
from coordinator.failpoints import Step
from coordinator.model import Draft, Job, Observed, Phase
from coordinator.statements import ApprovalBody, DecisionBody, Kind, PrepareBody, PromiseBody, job_name

_AGREEMENT = "consortium"
_RELEASE, _MAINTENANCE = "release", "maintenance"
_RETRIED_REFUSALS = frozenset({"busy", "absent", _AGREEMENT, _RELEASE, _MAINTENANCE})
"""Asked again until the job's deadline: the party lives, and may have room later, or the same consortium files."""
_LONGEST_PAUSE = dict.fromkeys((_AGREEMENT, _RELEASE, _MAINTENANCE), 6)
"""Code → exponent of the longest pause; 4 for all others. People run `up` at every party within hours, not seconds."""
_RETRIED_ROUNDS = frozenset({"no-promise", "unreachable"})
"""Asked again for `prepare_rounds` rounds: a party may just be restarting."""


def proposed(job: Job, seen: Observed) -> Commit | None:
    if step := _closing(job, seen):
        return step
    if step := own_verdict(job, seen):
        return step
    said = job.approvals()
    if all(p in said and said[p].verdict == "approve" for p in job.proposal.parties):
        return Commit(Step.APPROVED, "every party approved", phase=Phase.APPROVED)
    return None


def own_verdict(job: Job, seen: Observed) -> Commit | None:
    """This party's yes or no where no person is needed: the initiator's own, or that of the policy."""
    if job.me in job.approvals() or not seen.bundle_ready:
        return None
    own = ApprovalBody(verdict="approve", proposal_digest=job.signed_proposal.digest(), by="initiator")
    verdict = own if job.leads else seen.policy
    if verdict is None:
        return None
    why = f"{verdict.verdict} by {verdict.by}" + (f": {verdict.reason}" if verdict.reason else "")
    return Commit(Step.APPROVAL, why, (Draft(Kind.APPROVAL, 0, verdict),))


def approved(job: Job, seen: Observed) -> Commit | None:
    if step := _closing(job, seen):
        return step
    if job.leads:
        if seen.now < job.retry_at or seen.free_slot is None or seen.held:
            return None
        n = job.attempt + 1
        body = PrepareBody(
            promise_s=seen.timing.promise_s,
            job_name=job_name(job.job_id, n),
            consortium_digest=seen.consortium_digest,
        )
        ask = Draft(Kind.PREPARE, n, body)
        changes = {"attempt": n, "prepared_at": seen.now}
        return Commit(Step.PREPARE, f"asking for attempt {n}", (ask,), Phase.PREPARING, changes)
    n = job.prepare_round()
    if n > job.attempt and job.decision(n) is None:
        changes = {"attempt": n, "prepared_at": seen.now}
        return Commit(Step.PREPARING, f"attempt {n} asked for", phase=Phase.PREPARING, changes=changes)
    return None


def preparing(job: Job, seen: Observed) -> Commit | None:
    if step := _aborted(job, seen) or (_lead(job, seen) if job.leads else None):
        return step
    own = job.promises(job.attempt).get(job.me)
    asked, ours = job.get(Kind.PREPARE, job.initiator, job.attempt), job_name(job.job_id, job.attempt)
    if not own and isinstance(asked, PrepareBody) and asked.job_name != ours:
        why = f"the job's name differs: {job.initiator} calls it {asked.job_name}, {job.me} {ours}"
        return _refuse(job, "job-name", why)
    if not own and (out := gone(job, seen)):
        return _refuse(job, *out)
    checks = seen.checks if seen.checks and seen.checks.attempt == job.attempt else None
    if own or not (checks or job.cancels() or seen.held):
        return None
    if job.cancels():
        return _refuse(job, "cancelled", f"cancelled by {', '.join(sorted(job.cancels()))}")
    if seen.held:
        return _refuse(job, _MAINTENANCE, f"{job.me} begins no attempt {seen.held}")
    if checks and checks.code:
        return _refuse(job, checks.code, checks.message)
    if seen.free_slot is None:
        return _refuse(job, "busy", "every slot is in use")
    promise = PromiseBody(verdict="promise", slot=seen.free_slot, expires_at=seen.now + seen.timing.promise_s)
    return Commit(
        Step.PROMISE,
        f"attempt {job.attempt} promised, slot {seen.free_slot}",
        (Draft(Kind.PROMISE, job.attempt, promise),),
        Phase.PROMISED,
        {"slot": seen.free_slot},
    )


def _refuse(job: Job, code: str, message: str) -> Commit:
    draft = Draft(Kind.PROMISE, job.attempt, PromiseBody(verdict="refuse", code=code, message=message[:2000]))
    # the initiator stays: its own refusal is one more reason for `_lead` to abort
    why = f"attempt {job.attempt} refused: {message}"
    return Commit(Step.REFUSE, why, (draft,), None if job.leads else Phase.APPROVED)


def promised(job: Job, seen: Observed) -> Commit | None:
    n = job.attempt
    if step := _aborted(job, seen):
        return step
    decision = job.decision(n)
    if decision and decision.verdict == "start":
        changes = {"starts": decision.starts, "driver_gone": False}
        return Commit(Step.START, f"attempt {n} starts", phase=Phase.STARTING, changes=changes)
    if job.leads:
        return _lead(job, seen)
    for party, promise in sorted(job.promises(n).items()):
        if promise.verdict == "refuse":  # a start needs every promise, so there can be none
            why = f"attempt {n} cannot start: {party} refused: {promise.message}"
            return Commit(Step.ABORTED, why, phase=Phase.APPROVED, changes={"slot": None})
    own = job.promises(n)[job.me]
    if job.slot is not None and job.initiator not in seen.gone and seen.now >= own.expires_at:
        why = f"in doubt: no decision of {job.initiator} on attempt {n} while the promise held; the slot is free again"
        return Commit(Step.IN_DOUBT, why, changes={"slot": None})
    return _too_late(job, seen)


def _lead(job: Job, seen: Observed) -> Commit | None:
    """The initiator's decision on the attempt it asked promises for. Durable before anyone hears of it."""
    n, parties = job.attempt, job.proposal.parties
    promises = job.promises(n)
    if why := _end_wanted(job, seen):
        return _abort(job, seen, n, *why)
    for party, promise in sorted(promises.items()):
        if promise.verdict == "refuse":
            code = _excused(seen, promise.code)
            again = code in _RETRIED_REFUSALS or _another_round(job, seen, code)
            # its wish to cancel may arrive after the refusal that follows from it
            final = None if again else "cancelled" if code == "cancelled" else "failed"
            return _abort(job, seen, n, code, f"{party} refused attempt {n}: {promise.message}", final)
    if set(promises) == set(parties):
        digests = {k.party: s.digest() for k, s in job.statements.items() if k.attempt == n and k.kind is Kind.PROMISE}
        decision = DecisionBody(
            verdict="start",
            decided_at=seen.now,
            slots={p: promises[p].slot for p in parties},
            promises=digests,
            starts=job.starts + 1,
            reason="every party promised",
        )
        return Commit(Step.DECIDE_START, f"attempt {n}: start decided", (Draft(Kind.DECISION, n, decision),))
    if seen.now >= job.prepared_at + seen.timing.promise_s:
        missing = ", ".join(sorted(set(parties) - set(promises)))
        code = _excused(seen, "no-promise")
        again = code in _RETRIED_REFUSALS or _another_round(job, seen, code)
        why_missing = f"no promise of {missing} for attempt {n} within {seen.timing.promise_s:g} s"
        return _abort(job, seen, n, code, why_missing, None if again else "failed")
    return None


def _excused(seen: Observed, code: str) -> str:
    """In the agreed window who is away may well be replacing its nodes: that costs no round."""
    return _MAINTENANCE if seen.maintenance and code in _RETRIED_ROUNDS else code


def _another_round(job: Job, seen: Observed, code: str) -> bool:
    decisions = [s.body for s in job.statements.values() if isinstance(s.body, DecisionBody)]
    lost = sum(d.code in _RETRIED_ROUNDS for d in decisions) + 1
    return code in _RETRIED_ROUNDS and lost < seen.timing.prepare_rounds


def _end_wanted(job: Job, seen: Observed) -> tuple[str, str, str] | None:
    """(code, reason, final) when the initiator has cause to end the job before a start."""
    for party, said in sorted(job.approvals().items()):
        if said.verdict == "deny":
            return "denied", f"{party} denied the job: {said.reason or 'no reason given'}", "cancelled"
    for party, wish in sorted(job.cancels().items()):
        return "cancelled", f"{party} cancelled the job: {wish.reason or 'no reason given'}", "cancelled"
    if out := gone(job, seen):
        return *out, "failed"
    if seen.now >= job.proposal.deadline:
        return "deadline", "the job's deadline passed before it could start", "failed"
    return None


def _abort(job: Job, seen: Observed, n: int, code: str, why: str, final: str | None) -> Commit:
    body = DecisionBody.model_validate({"verdict": "abort", "code": code, "reason": why[:2000], "final": final})
    changes: dict[str, object] = {"slot": None, "attempt": n, "retry_at": seen.now + _pause_s(job, n, seen, code)}
    if final:
        changes["settled"] = True
    phase = Phase(final) if final else Phase.APPROVED
    return Commit(Step.DECIDE_ABORT, why, (Draft(Kind.DECISION, n, body),), phase, changes)


def _pause_s(job: Job, n: int, seen: Observed, code: str) -> float:
    """Grows with the rounds that came to nothing, and differs from job to job: two initiators that each hold what the
    other needs must not meet again at the same moment."""
    spread = hashlib.sha256(f"{job.job_id}:{n}".encode()).digest()[0] / 256
    return seen.timing.retry_s * (0.5 + spread * float(2 ** min(n - job.starts, _LONGEST_PAUSE.get(code, 4))))


def _closing(job: Job, seen: Observed) -> Commit | None:
    """Before any promise: the initiator may end the job, the others follow its final decision."""
    if final := job.final_decision():
        return closed_by_final(final)
    if not job.leads:
        return _too_late(job, seen)
    if why := _end_wanted(job, seen):
        return _abort(job, seen, job.attempt + 1, *why)
    return None


def _aborted(job: Job, seen: Observed) -> Commit | None:
    if final := job.final_decision():
        return closed_by_final(final)
    decision = job.decision(job.attempt)
    if decision and decision.verdict == "abort":
        changes = {"slot": None, "retry_at": seen.now + seen.timing.retry_s}
        return Commit(Step.ABORTED, decision.reason, phase=Phase.APPROVED, changes=changes)
    return None


def _too_late(job: Job, seen: Observed) -> Commit | None:
    """A participant that hears nothing final gives the job up after its deadline, or when its initiator is gone."""
    if job.initiator in seen.gone and (out := gone(job, seen)):
        return give_up(job, seen, out[1])
    if seen.now < job.proposal.deadline + seen.timing.peer_lost_after_s:
        return None
    return give_up(job, seen, f"nothing was heard of {job.initiator} until the job's deadline passed")
