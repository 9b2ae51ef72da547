"""Records for tests of `decide`: each builder makes something valid, each test changes one thing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from coordinator.model import Draft, Job, Observed, Phase, Timing
from coordinator.statements import (
    ApprovalBody,
    CancelBody,
    DecisionBody,
    GoBody,
    Kind,
    OutcomeBody,
    PrepareBody,
    PromiseBody,
    ProposalBody,
    ReadyBody,
    Statement,
    job_name,
)

NOW = 1_000_000.0
JOB_ID = "20261124-probe-abcdef"
TIMING = Timing(
    promise_s=10, start_lead_s=5, start_window_s=20, peer_lost_after_s=3, job_s=100, retry_s=1, prepare_rounds=3
)


def sign(party: str, draft: Draft) -> Statement:
    """A statement whose signature says only who wrote it: `decide` never looks at it."""
    return Statement(
        kind=draft.kind, job_id=JOB_ID, attempt=draft.attempt, party=party, body=draft.body, signature=party
    )


def proposal(**overrides: Any) -> Statement:
    """alice proposes a job of alice and bob."""
    fields: dict[str, Any] = {
        "name": "probe",
        "program": "main.py",
        "program_digest": "a" * 64,
        "bundle_bytes": 100,
        "parties": ("alice", "bob"),
        "datasets": {},
        "parameters": {},
        "versions": {},
        "consortium_digest": "c" * 64,
        "max_attempts": 1,
        "created_at": NOW,
        "deadline": NOW + 1000,
    } | overrides
    return sign("alice", Draft(Kind.PROPOSAL, 0, ProposalBody.model_validate(fields)))


def approval(party: str, verdict: str = "approve", **fields: Any) -> Statement:
    body = ApprovalBody.model_validate({"verdict": verdict, "proposal_digest": "a" * 64, "by": "person"} | fields)
    return sign(party, Draft(Kind.APPROVAL, 0, body))


def prepare(attempt: int = 1, **fields: Any) -> Statement:
    body = {"promise_s": 10, "job_name": job_name(JOB_ID, attempt), "consortium_digest": "c" * 64} | fields
    return sign("alice", Draft(Kind.PREPARE, attempt, PrepareBody.model_validate(body)))


def promise(party: str, attempt: int = 1, **fields: Any) -> Statement:
    body = {"verdict": "promise", "slot": 0, "expires_at": NOW + 10} | fields
    return sign(party, Draft(Kind.PROMISE, attempt, PromiseBody.model_validate(body)))


def refusal(party: str, code: str = "versions", attempt: int = 1) -> Statement:
    return promise(party, attempt, verdict="refuse", code=code, message=f"{code} is wrong")


def start(attempt: int = 1, **fields: Any) -> Statement:
    body = {"verdict": "start", "decided_at": NOW, "slots": {"alice": 0, "bob": 0}, "starts": attempt} | fields
    return sign("alice", Draft(Kind.DECISION, attempt, DecisionBody.model_validate(body)))


def abort(attempt: int = 1, **fields: Any) -> Statement:
    body = {"verdict": "abort", "code": "busy", "reason": "as the test says"} | fields
    return sign("alice", Draft(Kind.DECISION, attempt, DecisionBody.model_validate(body)))


def ready(party: str, attempt: int = 1) -> Statement:
    return sign(party, Draft(Kind.READY, attempt, ReadyBody(at=NOW)))


def go(attempt: int = 1, start_at: float = NOW) -> Statement:
    return sign("alice", Draft(Kind.GO, attempt, GoBody(start_at=start_at)))


def outcome(party: str, status: str = "succeeded", attempt: int = 1, **fields: Any) -> Statement:
    body = {"status": status, "ended_at": NOW} | fields
    return sign(party, Draft(Kind.OUTCOME, attempt, OutcomeBody.model_validate(body)))


def cancel(party: str) -> Statement:
    return sign(party, Draft(Kind.CANCEL, 0, CancelBody(reason="enough")))


BOTH = (approval("alice"), approval("bob"))
PROMISED = (*BOTH, prepare(), promise("alice"), promise("bob"))


def job(me: str, phase: Phase, *statements: Statement, about: Statement | None = None, **fields: Any) -> Job:
    """A record of `me` in a phase, with the proposal and these statements."""
    first = about or proposal()
    base = Job(JOB_ID, me, phase, {first.key: first}).adding(*statements)
    return replace(base, **fields)


def seen(**fields: Any) -> Observed:
    """Nothing unusual in sight: no driver, every way of the data gone."""
    usual = {"timing": TIMING, "consortium_digest": "c" * 64, "due": frozenset({"alice", "bob", "carol"})}
    return Observed(**({"now": NOW} | usual | fields))
