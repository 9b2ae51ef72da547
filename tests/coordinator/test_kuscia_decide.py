"""What a party decides in Kuscia mode, for every order in which a node may tell of its phases."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from builders import JOB_ID, NOW, TIMING, approval, cancel, job, outcome, proposal, sign
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.actions import Action, AnswerKusciaJob, CancelKusciaJob, Commit, CreateKusciaJob, Wake
from coordinator.decide import evolve
from coordinator.kuscia.decide import IN_FLIGHT_S, STEPS, decide
from coordinator.kuscia.models import JobState, JobStatus, PartyState, TaskState
from coordinator.kuscia.observe import KusciaSeen
from coordinator.kuscia.phases import KUSCIA_TRANSITIONS
from coordinator.model import Job, Phase
from coordinator.statements import ApprovalBody, ProposalBody
from coordinator.worker import of_the_other_mode

S, P = JobState, Phase
ABOUT = proposal(max_attempts=2)
ENDS = (S.SUCCEEDED, S.FAILED, S.CANCELLED, S.APPROVAL_REJECT)


def told(state: JobState, *answers: str, **fields: Any) -> JobStatus:
    """How a KusciaJob goes; `answers`: bob's."""
    said = tuple(PartyState(domain_id="bob", state=answer) for answer in answers)
    task = S.SUCCEEDED if state is S.SUCCEEDED else S.RUNNING
    usual = {"tasks": (TaskState(alias="psi", state=task),), "approve_status_list": said}
    return JobStatus(state=state, **(usual | fields))


def seen(**fields: Any) -> KusciaSeen:
    usual = {"now": NOW, "timing": TIMING, "consortium_digest": "c" * 64}
    return KusciaSeen(**(usual | fields))


def at(me: str, phase: Phase, *statements: Any, **fields: Any) -> Job:
    return job(me, phase, *statements, about=ABOUT, **fields)


YES, NO = "JobAccepted", "JobRejected"
BOTH = (approval("alice"), approval("bob"))
STARTED = {"attempt": 1, "starts": 1, "driver_gone": False, "prepared_at": NOW}

DECIDED: list[tuple[str, Job, KusciaSeen, Phase | list[Action] | None]] = [
    ("the initiator makes it", at("alice", P.PROPOSED, approval("alice")), seen(), [CreateKusciaJob(1)]),
    ("not before its own yes", at("alice", P.PROPOSED), seen(), P.PROPOSED),
    ("it waits for bob", at("alice", P.PROPOSED, *BOTH[:1]), seen(following=told(S.AWAITING_APPROVAL)), []),
    ("fresh is told as Pending", at("alice", P.PROPOSED, *BOTH[:1]), seen(following=told(S.PENDING)), []),
    ("initialized is told as Unknown", at("alice", P.PROPOSED, *BOTH[:1]), seen(following=told(S.UNKNOWN)), []),
    ("all agreed", at("alice", P.PROPOSED, *BOTH[:1]), seen(following=told(S.PENDING, YES)), P.APPROVED),
    ("bob waits for a person", at("bob", P.PROPOSED), seen(following=told(S.AWAITING_APPROVAL)), []),
    (
        "bob says yes",
        at("bob", P.PROPOSED, BOTH[1]),
        seen(following=told(S.AWAITING_APPROVAL)),
        [AnswerKusciaJob(1, True)],
    ),
    ("once", at("bob", P.PROPOSED, BOTH[1]), seen(following=told(S.AWAITING_APPROVAL, YES)), []),
    (
        "not while the documents differ",
        at("bob", P.PROPOSED, BOTH[1]),
        seen(following=told(S.AWAITING_APPROVAL), behind="files"),
        [],
    ),
    ("not while it is held", at("alice", P.PROPOSED, approval("alice")), seen(held="until noon"), []),
    (
        "no yes while it is held",
        at("bob", P.PROPOSED, BOTH[1]),
        seen(following=told(S.AWAITING_APPROVAL), held="until noon"),
        [],
    ),
    (
        "bob says no",
        at("bob", P.PROPOSED, approval("bob", "deny")),
        seen(following=told(S.AWAITING_APPROVAL), behind="files"),
        [AnswerKusciaJob(1, False)],
    ),
    ("denied", at("alice", P.PROPOSED, BOTH[0]), seen(following=told(S.APPROVAL_REJECT, NO)), P.CANCELLED),
    ("taken back", at("bob", P.PROPOSED, BOTH[1]), seen(), P.FAILED),
    ("not possible here", at("alice", P.PROPOSED, BOTH[0]), seen(refused="another job"), P.FAILED),
    ("invalid", at("alice", P.PROPOSED, BOTH[0]), seen(following=told(S.FAILED)), P.FAILED),
    ("no yes, and yet it runs", at("bob", P.PROPOSED), seen(following=told(S.RUNNING)), P.PROPOSED),
    ("ended by a wish", at("bob", P.PROPOSED, cancel("bob")), seen(following=told(S.RUNNING)), [CancelKusciaJob(1)]),
    ("and by no wish before there is one", at("alice", P.PROPOSED, cancel("alice")), seen(), P.CANCELLED),
    ("starts", at("bob", P.APPROVED, BOTH[1]), seen(following=told(S.RUNNING, YES)), P.STARTING),
    ("runs", at("bob", P.STARTING, BOTH[1], **STARTED), seen(current=told(S.RUNNING, YES)), P.RUNNING),
    ("suspended", at("bob", P.RUNNING, BOTH[1], **STARTED), seen(current=told(S.SUSPENDED)), P.SUSPENDED),
    ("goes on", at("bob", P.SUSPENDED, BOTH[1], **STARTED), seen(current=told(S.RUNNING)), P.RUNNING),
    ("ends while suspended", at("bob", P.SUSPENDED, BOTH[1], **STARTED), seen(current=told(S.CANCELLED)), P.ENDING),
    ("succeeds", at("alice", P.RUNNING, **STARTED), seen(current=told(S.SUCCEEDED)), P.ENDING),
    ("lost", at("alice", P.RUNNING, **STARTED), seen(), P.ENDING),
    ("begun anew by another hand", at("bob", P.RUNNING, **STARTED), seen(current=told(S.AWAITING_APPROVAL)), P.ENDING),
    (
        "overtaken",
        at("bob", P.RUNNING, BOTH[1], **STARTED),
        seen(current=told(S.RUNNING), following=told(S.AWAITING_APPROVAL)),
        P.ENDING,
    ),
    (
        "another try",
        at("bob", P.ENDING, outcome("bob", "failed", retryable=True), **STARTED | {"driver_gone": True}),
        seen(current=told(S.FAILED)),
        P.APPROVED,
    ),
    (
        "no third",
        at("bob", P.ENDING, outcome("bob", "failed", 2, retryable=True), attempt=2, starts=2),
        seen(current=told(S.FAILED)),
        P.FAILED,
    ),
    (
        "a yes counts for the next try",
        at("bob", P.APPROVED, BOTH[1], attempt=1, starts=1),
        seen(current=told(S.FAILED), following=told(S.AWAITING_APPROVAL)),
        [AnswerKusciaJob(2, True)],
    ),
    (
        "the next try",
        at("alice", P.APPROVED, BOTH[0], attempt=1, starts=1),
        seen(current=told(S.FAILED)),
        [CreateKusciaJob(2)],
    ),
    (
        "not at once",
        at("alice", P.APPROVED, BOTH[0], attempt=1, starts=1, retry_at=NOW + 1),
        seen(current=told(S.FAILED)),
        [],
    ),
    (
        "the others are told that there is no next one",
        at("alice", P.CANCELLED, cancel("alice"), attempt=1, starts=1, settled=True, driver_gone=False, ended_at=NOW),
        seen(current=told(S.FAILED)),
        [CancelKusciaJob(1)],
    ),
    (
        "they hear of it",
        at("bob", P.APPROVED, BOTH[1], attempt=1, starts=1),
        seen(current=told(S.CANCELLED)),
        P.CANCELLED,
    ),
    (
        "a job that has ended is not begun again",
        at("bob", P.SUCCEEDED, BOTH[1], attempt=1, starts=1, settled=True),
        seen(current=told(S.SUCCEEDED), following=told(S.AWAITING_APPROVAL)),
        [AnswerKusciaJob(2, False)],
    ),
    (
        "nor by its initiator's node",
        at("alice", P.FAILED, attempt=1, starts=1, settled=True),
        seen(current=told(S.RUNNING)),
        [CancelKusciaJob(1)],
    ),
]


def without_wakes(actions: list[Action]) -> list[Action]:
    return [a for a in actions if not isinstance(a, Wake)]


@pytest.mark.parametrize(("record", "sight", "expected"), [row[1:] for row in DECIDED], ids=[row[0] for row in DECIDED])
def test_what_is_decided(record: Job, sight: KusciaSeen, expected: Phase | list[Action]) -> None:
    actions = decide(record, sight)
    if isinstance(expected, Phase):
        assert isinstance(actions[0], Commit)
        assert evolve(record, actions[0], lambda draft: sign(record.me, draft)).phase is expected
        assert expected is record.phase or expected in KUSCIA_TRANSITIONS[record.phase]
    else:
        assert without_wakes(actions) == expected


REASONS: list[tuple[str, Job, KusciaSeen, str]] = [
    ("deadline", at("alice", P.PROPOSED, BOTH[0]), seen(now=NOW + 1000), "deadline passed"),
    (
        "wrong",
        at("bob", P.RUNNING, BOTH[1], **STARTED),
        seen(current=told(S.RUNNING), wrong="tasks"),
        "not what was agreed",
    ),
    ("too long", at("alice", P.RUNNING, **STARTED), seen(now=NOW + 101, current=told(S.RUNNING)), "longer than 100 s"),
    ("left", at("alice", P.RUNNING, **STARTED), seen(current=told(S.RUNNING), left=frozenset({"bob"})), "bob has left"),
    ("revoked", at("alice", P.PROPOSED), seen(revoked=frozenset({"bob"})), "alice has revoked bob"),
    ("unasked", at("bob", P.PROPOSED), seen(following=told(S.AWAITING_APPROVAL, YES)), "enableWorkloadApprove"),
]


@pytest.mark.parametrize(("record", "sight", "why"), [row[1:] for row in REASONS], ids=[row[0] for row in REASONS])
def test_a_party_ends_a_job_by_itself_for_a_reason_that_it_signs(record: Job, sight: KusciaSeen, why: str) -> None:
    step = decide(record, sight)[0]
    assert isinstance(step, Commit)
    assert why in step.reason
    new = evolve(record, step, lambda draft: sign(record.me, draft))
    assert why in new.cancels()[record.me].reason
    assert [a for a in decide(new, sight) if isinstance(a, CancelKusciaJob)] or evolve(
        new,
        decide(new, sight)[0],
        lambda draft: sign(record.me, draft),  # type: ignore[arg-type]
    ).phase is P.CANCELLED


def test_a_tolerated_task_is_no_success() -> None:
    status = told(S.SUCCEEDED, tasks=(TaskState(alias="psi", state=S.FAILED), TaskState(alias="b", state=S.SUCCEEDED)))
    step = decide(at("bob", P.RUNNING, **STARTED), seen(current=status))[0]
    assert isinstance(step, Commit)
    assert "attempt 1 failed: Kuscia: Succeeded, but not psi" in step.reason


def test_kuscias_own_times_and_words_stand_in_the_outcome() -> None:
    status = told(S.FAILED, start_time="2026-01-01T00:00:00Z", err_msg="exit code 1")
    step = decide(at("bob", P.RUNNING, **STARTED), seen(current=status))[0]
    assert isinstance(step, Commit)
    body = step.drafts[0].body
    assert (body.error, body.started_at) == ("Kuscia: Failed: exit code 1", 1767225600.0)  # type: ignore[union-attr]
    for odd in ("", "yesterday", "0001-01-01T00:00:00Z"):
        step = decide(at("bob", P.RUNNING, **STARTED), seen(current=replace_start(status, odd)))[0]
        assert step.drafts[0].body.started_at is None  # type: ignore[union-attr]


def replace_start(status: JobStatus, time: str) -> JobStatus:
    return status.model_copy(update={"start_time": time})


def test_every_phase_has_a_rule() -> None:
    assert set(STEPS) == {phase for phase, to in KUSCIA_TRANSITIONS.items() if to or phase.terminal} - {P.DIVERGED}


states = st.none() | st.builds(told, st.sampled_from(list(JobState)), st.sampled_from(["", YES, NO]))
sights = st.builds(
    seen,
    current=states,
    following=states,
    wrong=st.sampled_from(["", "", "", "tasks"]),
    behind=st.sampled_from(["", "", "files"]),
    refused=st.sampled_from(["", "", "no"]),
    policy=st.sampled_from(
        [None, *(ApprovalBody(verdict=v, proposal_digest="a" * 64, by="policy") for v in ("approve", "deny"))]  # type: ignore[arg-type]
    ),
)
wishes = st.sampled_from(["", "", "", "approve", "deny", "cancel"])


@settings(max_examples=500)
@given(
    me=st.sampled_from(["alice", "bob"]),
    course=st.lists(st.tuples(sights, wishes, st.floats(0, 200)), max_size=25),
    attempts=st.integers(1, 3),
)
def test_every_order_of_phases(me: str, course: list[tuple[KusciaSeen, str, float]], attempts: int) -> None:
    """Whatever a node tells: every step is drawn, nothing goes in circles, an end stays, nothing runs here without this
    party's yes, and what Kuscia ends ends here."""
    about = proposal(max_attempts=attempts)
    assert isinstance(about.body, ProposalBody)
    record, now = job(me, P.PROPOSED, about=about), NOW
    last = seen(current=told(S.CANCELLED, NO), following=told(S.CANCELLED, NO))
    for sight, wish, later_s in [*course, (last, "", 0.0), (seen(), "", IN_FLIGHT_S + 5000), (seen(), "", 5000.0)]:
        now += later_s
        if wish == "cancel" and not record.phase.terminal:
            record = record.adding(cancel(me))
        elif wish and record.phase is P.PROPOSED and me not in record.approvals() and me == "bob":
            record = record.adding(approval(me, wish))
        if record.attempt + 1 > attempts:
            sight = replace(sight, following=None)
        if record.attempt < 1:
            sight = replace(sight, current=None)
        record = settled(record, replace(sight, now=now))
    assert record.phase.terminal
    assert record.settled
    assert record.driver_gone
    assert record.starts <= attempts


def settled(record: Job, sight: KusciaSeen) -> Job:
    """The record when nothing is left to decide."""
    for _ in range(10):
        actions = decide(record, sight)
        commits = [a for a in actions if isinstance(a, Commit)]
        if not commits:
            for action in actions:
                allowed(record, sight, action)
            return record
        assert actions == commits[:1]
        new = evolve(record, commits[0], partial(sign, record.me))
        assert new.phase is record.phase or new.phase in KUSCIA_TRANSITIONS[record.phase], (record.phase, new.phase)
        if new.phase in (P.RUNNING, P.SUCCEEDED) and record.me == "bob":
            assert new.approvals()["bob"].verdict == "approve"
        if new.attempt != record.attempt:  # what the node told was of the attempt after it
            sight = replace(sight, current=sight.following, following=None)
        record = new
    raise AssertionError(f"{JOB_ID} goes in circles: {record.phase}, {record.reason}")


def allowed(record: Job, sight: KusciaSeen, action: Action) -> None:
    match action:
        case CreateKusciaJob(n):
            assert record.leads
            assert not record.phase.terminal
            assert n == record.attempt + 1 <= record.proposal.max_attempts
            assert sight.following is None
            assert record.me not in record.cancels()
        case AnswerKusciaJob(n, True):
            assert record.approvals()["bob"].verdict == "approve"
            assert not sight.wrong
            assert not sight.behind
            assert n == record.attempt + 1
        case Wake(moment):
            assert moment > sight.now


@pytest.mark.parametrize(
    ("phase", "statements", "now", "closed"),
    [
        (P.PROPOSED, (), NOW, False),
        (P.PROPOSED, (), NOW + 2000, True),
        (P.APPROVED, (cancel("alice"),), NOW, True),
        (P.RUNNING, (cancel("alice"),), NOW, False),
        (P.FAILED, (), NOW + 2000, False),
    ],
)
def test_a_job_of_the_other_mode_begins_nothing(phase: Phase, statements: Any, now: float, closed: bool) -> None:
    actions = of_the_other_mode(at("alice", phase, *statements), now)
    assert [a.phase for a in actions if isinstance(a, Commit)] == ([P.CANCELLED] if closed else [])
