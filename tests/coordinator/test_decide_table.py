"""`decide`, rule by rule: (record, what is seen) → the one durable step, or the effects. A wrong row here is a job that
starts without consent, hangs, or ends differently at two parties."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from builders import (
    BOTH,
    NOW,
    PROMISED,
    abort,
    approval,
    cancel,
    go,
    job,
    outcome,
    prepare,
    promise,
    proposal,
    ready,
    refusal,
    seen,
    start,
)

from coordinator.actions import (
    Ask,
    AwaitReady,
    Commit,
    Deliver,
    Launch,
    ProveWays,
    RunChecks,
    SendBundle,
    StopDriver,
    TellGo,
    Wake,
)
from coordinator.decide import decide, next_step
from coordinator.effects import wanted
from coordinator.model import TRANSITIONS, Checks, Driver, Job, Phase, Silence
from coordinator.statements import ApprovalBody, Kind

P = Phase
YES = ApprovalBody(verdict="approve", proposal_digest="a" * 64, by="policy")
RUN: dict[str, Any] = {"attempt": 1, "slot": 0, "starts": 1, "driver_gone": False}
OK = Checks(1)
GONE_ALICE, GONE_BOB = frozenset({"alice"}), frozenset({"bob"})
HELD = "until 2026-12-01 23:00:00 UTC: an upgrade"
AWAY = (abort(1, code="unreachable"), abort(2, code="no-promise"))
"""Two of three rounds are lost."""
LOADED: dict[str, Any] = {"driver": Driver("live", ready=True), "ways": Checks(1)}
BOTH_READY = (ready("alice"), ready("bob"))
LATE = NOW + 2000
ENDED: dict[str, Any] = {"attempt": 1, "starts": 1, "ended_at": NOW}
TWICE = proposal(max_attempts=2)
FAILED = {"status": "failed", "retryable": True}

# name, record, seen, expected: (phase or None, kind signed or None, words of the reason), or None for «no step»
STEPS: list[tuple[str, Job, dict[str, Any], tuple[Phase | None, Kind | None, str] | None]] = [
    ("initiator approves its own", job("alice", P.PROPOSED), {}, (None, Kind.APPROVAL, "initiator")),
    ("person not asked twice", job("bob", P.PROPOSED), {}, None),
    ("policy says yes", job("bob", P.PROPOSED), {"policy": YES}, (None, Kind.APPROVAL, "policy")),
    ("no yes to an unseen program", job("bob", P.PROPOSED), {"policy": YES, "bundle_ready": False}, None),
    ("all said yes", job("bob", P.PROPOSED, *BOTH), {}, (P.APPROVED, None, "every party approved")),
    ("denied", job("alice", P.PROPOSED, approval("bob", "deny")), {}, (P.CANCELLED, Kind.DECISION, "bob denied")),
    ("denier waits for the initiator", job("bob", P.PROPOSED, approval("bob", "deny")), {}, None),
    ("cancelled before all said yes", job("alice", P.PROPOSED, cancel("bob")), {}, (P.CANCELLED, Kind.DECISION, "bob")),
    ("deadline, initiator", job("alice", P.PROPOSED), {"now": LATE}, (P.FAILED, Kind.DECISION, "deadline")),
    ("deadline, participant", job("bob", P.PROPOSED), {"now": LATE}, (P.FAILED, None, "deadline")),
    ("closed by the initiator", job("bob", P.PROPOSED, abort(final="failed")), {}, (P.FAILED, None, "as the test")),
    ("asks for promises", job("alice", P.APPROVED, *BOTH), {}, (P.PREPARING, Kind.PREPARE, "attempt 1")),
    ("waits for a slot", job("alice", P.APPROVED, *BOTH), {"free_slot": None}, None),
    ("pauses before asking again", job("alice", P.APPROVED, *BOTH, retry_at=NOW + 1), {}, None),
    ("held: asks for nothing", job("alice", P.APPROVED, *BOTH), {"held": HELD}, None),
    (
        "held: still ended by a wish",
        job("alice", P.APPROVED, cancel("bob")),
        {"held": HELD},
        (P.CANCELLED, Kind.DECISION, "bob"),
    ),
    (
        "held: says so when asked",
        job("bob", P.APPROVED, *BOTH, prepare()),
        {"held": HELD},
        (P.PREPARING, None, "attempt 1"),
    ),
    (
        "held: promises nothing",
        job("bob", P.PREPARING, prepare(), attempt=1),
        {"held": HELD},
        (P.APPROVED, Kind.PROMISE, HELD),
    ),
    (
        "held: what was promised may start",
        job("bob", P.PROMISED, *PROMISED, start(), attempt=1, slot=0),
        {"held": HELD},
        (P.STARTING, None, "starts"),
    ),
    ("asked", job("bob", P.APPROVED, *BOTH, prepare()), {}, (P.PREPARING, None, "attempt 1")),
    ("asked for what was aborted", job("bob", P.APPROVED, *BOTH, prepare(), abort()), {}, None),
    ("asked again for what it refused", job("bob", P.APPROVED, *BOTH, prepare(), attempt=1), {}, None),
    ("promises", job("bob", P.PREPARING, prepare(), attempt=1), {"checks": OK}, (P.PROMISED, Kind.PROMISE, "slot 0")),
    ("old checks do not count", job("bob", P.PREPARING, prepare(2), attempt=2), {"checks": OK}, None),
    (
        "refuses: no slot",
        job("bob", P.PREPARING, prepare(), attempt=1),
        {"checks": OK, "free_slot": None},
        (P.APPROVED, Kind.PROMISE, "every slot"),
    ),
    (
        "refuses: a check failed",
        job("bob", P.PREPARING, prepare(), attempt=1),
        {"checks": Checks(1, "ray", "no Ray")},
        (P.APPROVED, Kind.PROMISE, "no Ray"),
    ),
    ("refuses: cancelled", job("bob", P.PREPARING, cancel("bob"), attempt=1), {}, (P.APPROVED, Kind.PROMISE, "cancel")),
    (
        "refuses: another name of the job",
        job("bob", P.PREPARING, prepare(job_name="probe-7"), attempt=1),
        {"checks": OK},
        (P.APPROVED, Kind.PROMISE, "alice calls it probe-7, bob 20261124-probe-abcdef-1"),
    ),
    (
        "initiator's own refusal keeps it in place",
        job("alice", P.PREPARING, prepare(), attempt=1, prepared_at=NOW),
        {"checks": Checks(1, "ray", "no Ray")},
        (None, Kind.PROMISE, "no Ray"),
    ),
    ("aborted while checking", job("bob", P.PREPARING, abort(), attempt=1), {}, (P.APPROVED, None, "as the test")),
    (
        "start only with every promise",
        job("alice", P.PROMISED, *PROMISED[:-1], attempt=1, slot=0, prepared_at=NOW),
        {},
        None,
    ),
    (
        "start",
        job("alice", P.PROMISED, *PROMISED, attempt=1, slot=0, prepared_at=NOW),
        {},
        (None, Kind.DECISION, "start decided"),
    ),
    (
        "no start after a cancel",
        job("alice", P.PROMISED, *PROMISED, cancel("bob"), attempt=1, slot=0, prepared_at=NOW),
        {},
        (P.CANCELLED, Kind.DECISION, "bob cancelled"),
    ),
    (
        "a wrong version ends the job",
        job("alice", P.PROMISED, refusal("bob"), promise("alice"), attempt=1, slot=0, prepared_at=NOW),
        {},
        (P.FAILED, Kind.DECISION, "bob refused"),
    ),
    (
        "a refusal that follows from a cancel on its way",
        job("alice", P.PROMISED, refusal("bob", "cancelled"), promise("alice"), attempt=1, slot=0, prepared_at=NOW),
        {},
        (P.CANCELLED, Kind.DECISION, "bob refused"),
    ),
    (
        "other consortium files are asked for again",
        job("alice", P.PROMISED, refusal("bob", "consortium"), promise("alice"), attempt=1, slot=0, prepared_at=NOW),
        {},
        (P.APPROVED, Kind.DECISION, "bob refused"),
    ),
    (
        "the initiator ends an open job of a party that left",
        job("alice", P.APPROVED, *BOTH),
        {"left": GONE_BOB},
        (P.FAILED, Kind.DECISION, "bob has left the consortium"),
    ),
    (
        "no start with a party that left",
        job("alice", P.PROMISED, *PROMISED, attempt=1, slot=0, prepared_at=NOW),
        {"left": GONE_BOB},
        (P.FAILED, Kind.DECISION, "bob has left the consortium"),
    ),
    (
        "no promise to an initiator that left",
        job("bob", P.PREPARING, *BOTH, prepare(), attempt=1, prepared_at=NOW),
        {"checks": OK, "left": GONE_ALICE},
        (P.APPROVED, Kind.PROMISE, "alice has left the consortium"),
    ),
    (
        "a job of an initiator that left is given up",
        job("bob", P.APPROVED, *BOTH),
        {"left": GONE_ALICE},
        (P.FAILED, None, "alice has left the consortium"),
    ),
    (
        "a promise to an initiator that left is given up with a signature",
        job("bob", P.PROMISED, *PROMISED, attempt=1, slot=0, prepared_at=NOW),
        {"left": GONE_ALICE},
        (P.FAILED, Kind.OUTCOME, "alice has left the consortium"),
    ),
    (
        "a start decided before the initiator left is taken over, and ended by the next step",
        job("bob", P.PROMISED, *PROMISED, start(), attempt=1, slot=0, prepared_at=NOW),
        {"left": GONE_ALICE},
        (P.STARTING, None, "starts"),
    ),
    (
        "nothing is launched with a party that left",
        job("bob", P.STARTING, *PROMISED, start(), attempt=1, slot=0),
        {"left": GONE_ALICE},
        (P.ENDING, Kind.OUTCOME, "alice has left the consortium"),
    ),
    (
        "an attempt with a party that left ends",
        job("alice", P.RUNNING, *PROMISED, start(), attempt=1, slot=0, driver_gone=False),
        {"driver": Driver("live"), "left": GONE_BOB},
        (P.ENDING, Kind.OUTCOME, "bob has left the consortium"),
    ),
    (
        "an attempt with a party that is revoked here ends",
        job("alice", P.RUNNING, *PROMISED, start(), attempt=1, slot=0, driver_gone=False),
        {"driver": Driver("live"), "revoked": GONE_BOB},
        (P.ENDING, Kind.OUTCOME, "alice has revoked bob"),
    ),
    (
        "no promise with a party that is revoked here",
        job("bob", P.PREPARING, *BOTH, prepare(), attempt=1, prepared_at=NOW),
        {"checks": OK, "revoked": GONE_ALICE},
        (P.APPROVED, Kind.PROMISE, "bob has revoked alice"),
    ),
    (
        "a promise to an initiator that is revoked here is given up with a signature",
        job("bob", P.PROMISED, *PROMISED, attempt=1, slot=0, prepared_at=NOW),
        {"revoked": GONE_ALICE},
        (P.FAILED, Kind.OUTCOME, "bob has revoked alice"),
    ),
    (
        "the initiator ends an open job of a party that it revoked",
        job("alice", P.APPROVED, *BOTH),
        {"revoked": GONE_BOB},
        (P.FAILED, Kind.DECISION, "alice has revoked bob"),
    ),
    (
        "a full party is asked again",
        job("alice", P.PROMISED, refusal("bob", "busy"), promise("alice"), attempt=1, slot=0, prepared_at=NOW),
        {},
        (P.APPROVED, Kind.DECISION, "bob refused"),
    ),
    *(
        (
            f"a party that refuses with {code} is asked again",
            job("alice", P.PROMISED, refusal("bob", code), promise("alice"), attempt=1, slot=0, prepared_at=NOW),
            {},
            (P.APPROVED, Kind.DECISION, "bob refused"),
        )
        for code in ("maintenance", "release")
    ),
    (
        "a party that cannot be reached in the maintenance window costs no round",
        job("alice", P.PROMISED, *AWAY, refusal("bob", "unreachable", 3), attempt=3, slot=0, prepared_at=NOW),
        {"maintenance": True},
        (P.APPROVED, Kind.DECISION, "bob refused"),
    ),
    (
        "a party that is silent in the maintenance window costs no round",
        job("alice", P.PROMISED, *AWAY, promise("alice", 3), attempt=3, slot=0, prepared_at=NOW - 10),
        {"maintenance": True},
        (P.APPROVED, Kind.DECISION, "no promise of bob"),
    ),
    (
        "what is wrong stays wrong in the maintenance window",
        job("alice", P.PROMISED, refusal("bob"), promise("alice"), attempt=1, slot=0, prepared_at=NOW),
        {"maintenance": True},
        (P.FAILED, Kind.DECISION, "bob refused"),
    ),
    (
        "a party that cannot reach another is asked again",
        job("alice", P.PROMISED, refusal("bob", "unreachable"), promise("alice"), attempt=1, slot=0, prepared_at=NOW),
        {},
        (P.APPROVED, Kind.DECISION, "bob refused"),
    ),
    (
        "but not for ever",
        job(
            "alice",
            P.PROMISED,
            abort(1, code="unreachable"),
            abort(2, code="no-promise"),
            refusal("bob", "unreachable", 3),
            attempt=3,
            slot=0,
            prepared_at=NOW,
        ),
        {},
        (P.FAILED, Kind.DECISION, "bob refused"),
    ),
    (
        "no promise: again",
        job("alice", P.PROMISED, *PROMISED[:-1], attempt=1, slot=0, prepared_at=NOW - 10),
        {},
        (P.APPROVED, Kind.DECISION, "no promise of bob"),
    ),
    (
        "no promise in the last round",
        job(
            "alice",
            P.PROMISED,
            abort(1, code="no-promise"),
            abort(2, code="no-promise"),
            promise("alice", 3),
            attempt=3,
            slot=0,
            prepared_at=NOW - 10,
        ),
        {},
        (P.FAILED, Kind.DECISION, "no promise of bob"),
    ),
    ("the decision", job("alice", P.PROMISED, *PROMISED, start(), attempt=1), {}, (P.STARTING, None, "starts")),
    ("the decision arrives", job("bob", P.PROMISED, *PROMISED, start(), attempt=1), {}, (P.STARTING, None, "starts")),
    ("aborted", job("bob", P.PROMISED, *PROMISED, abort(), attempt=1, slot=0), {}, (P.APPROVED, None, "as the test")),
    ("a promise is kept", job("bob", P.PROMISED, *PROMISED, cancel("bob"), attempt=1, slot=0), {}, None),
    (
        "in doubt: the slot is let go",
        job("bob", P.PROMISED, *PROMISED, attempt=1, slot=0),
        {"now": NOW + 10},
        (None, None, "in doubt"),
    ),
    ("in doubt: no abort by itself", job("bob", P.PROMISED, *PROMISED, attempt=1), {"now": NOW + 999}, None),
    (
        "in doubt: another's refusal settles it",
        job("bob", P.PROMISED, *PROMISED, refusal("carol"), attempt=1),
        {},
        (P.APPROVED, None, "carol refused"),
    ),
    (
        "in doubt until the deadline: signs that nothing ran",
        job("bob", P.PROMISED, *PROMISED, attempt=1),
        {"now": LATE},
        (P.FAILED, Kind.OUTCOME, "deadline"),
    ),
    ("launched", job("bob", P.STARTING, start(), **RUN), {"driver": Driver("live")}, (P.RUNNING, None, "launched")),
    ("launch under way", job("bob", P.STARTING, start(), **RUN), {"driver": Driver("launching")}, None),
    (
        "too late to start",
        job("bob", P.STARTING, start(), **RUN),
        {"now": NOW + 21},
        (P.ENDING, Kind.OUTCOME, "too late"),
    ),
    (
        "slot gone before the decision came",
        job("bob", P.STARTING, start(), **RUN | {"slot": None}),
        {},
        (P.ENDING, Kind.OUTCOME, "too late"),
    ),
    (
        "cancelled before launch",
        job("bob", P.STARTING, start(), cancel("alice"), **RUN),
        {},
        (P.ENDING, Kind.OUTCOME, "cancelled by alice"),
    ),
    ("loading", job("bob", P.RUNNING, start(), **RUN), {"driver": Driver("live"), "ways": Checks(1)}, None),
    ("ways not proved yet", job("bob", P.RUNNING, start(), **RUN), {"driver": Driver("live", ready=True)}, None),
    ("ready", job("bob", P.RUNNING, start(), **RUN), LOADED, (None, Kind.READY, "ready")),
    ("ready once", job("bob", P.RUNNING, start(), ready("bob"), **RUN), LOADED, None),
    ("go only with every ready", job("alice", P.RUNNING, start(), ready("alice"), **RUN), LOADED, None),
    ("go", job("alice", P.RUNNING, start(), *BOTH_READY, **RUN), LOADED, (None, Kind.GO, "go")),
    ("go is the initiator's", job("bob", P.RUNNING, start(), *BOTH_READY, **RUN), LOADED, None),
    ("go once", job("alice", P.RUNNING, start(), *BOTH_READY, go(), **RUN), LOADED, None),
    (
        "no go after a cancel",
        job("alice", P.RUNNING, start(), *BOTH_READY, cancel("bob"), **RUN),
        LOADED,
        (P.ENDING, Kind.OUTCOME, "cancelled by bob"),
    ),
    (
        "a way of the data does not lead to the peer",
        job("bob", P.RUNNING, start(), **RUN),
        LOADED | {"ways": Checks(1, "way", "expected 'x', found 'HTTP/1.0 404'")},
        (P.ENDING, Kind.OUTCOME, "found 'HTTP/1.0 404'"),
    ),
    (
        "old ways do not count",
        job("bob", P.RUNNING, start(), **RUN),
        LOADED | {"ways": Checks(2, "way", "x")},
        None,
    ),
    (
        "a party that is not ready in time",
        job("alice", P.RUNNING, start(), ready("alice"), **RUN),
        LOADED | {"now": NOW + 21},
        (P.ENDING, Kind.OUTCOME, "bob not ready 21 s after"),
    ),
    (
        "no go in time",
        job("bob", P.RUNNING, start(), ready("bob"), **RUN),
        LOADED | {"now": NOW + 21},
        (P.ENDING, Kind.OUTCOME, "alice without go 21 s after"),
    ),
    (
        "go came too late",
        job("bob", P.RUNNING, start(), go(), **RUN),
        LOADED | {"now": NOW + 21},
        (P.ENDING, Kind.OUTCOME, "go came too late"),
    ),
    (
        "a program that does not wait",
        job("bob", P.RUNNING, start(), **RUN),
        {"driver": Driver("succeeded", result_digest="d" * 64)},
        (P.ENDING, Kind.OUTCOME, "before the agreed start"),
    ),
    (
        "done",
        job("bob", P.RUNNING, start(), go(), **RUN),
        {"driver": Driver("succeeded", result_digest="d" * 64)},
        (P.ENDING, Kind.OUTCOME, "succeeded"),
    ),
    (
        "the program failed",
        job("bob", P.RUNNING, start(), **RUN),
        {"driver": Driver("failed", "ValueError")},
        (P.ENDING, Kind.OUTCOME, "ValueError"),  # in its own history only
    ),
    ("driver lost", job("bob", P.RUNNING, start(), **RUN), {}, (P.ENDING, Kind.OUTCOME, "no longer knows")),
    (
        "peer lost",
        job("bob", P.RUNNING, start(), **RUN),
        {"driver": Driver("live"), "silent": {"alice": Silence(3.5, "its gateway is down")}},
        (P.ENDING, Kind.OUTCOME, "alice is lost: no sign of this attempt from it for 3.5 s (limit 3): its gateway"),
    ),
    (
        "a peer that has signed may be silent",
        job("bob", P.RUNNING, start(), outcome("alice"), **RUN),
        {"driver": Driver("live"), "silent": {"alice": Silence(99)}},
        None,
    ),
    (
        "peer failed",
        job("bob", P.RUNNING, start(), outcome("alice", "failed", error="boom"), **RUN),
        {"driver": Driver("live")},
        (P.ENDING, Kind.OUTCOME, "boom"),
    ),
    (
        "own Ray silent",
        job("bob", P.RUNNING, start(), **RUN),
        {"driver": Driver("unreachable"), "ray_silent_s": 4},
        (P.ENDING, Kind.OUTCOME, "the Ray of bob does not answer"),
    ),
    (
        "ran too long",
        job("bob", P.RUNNING, start(), go(), **RUN),
        {"driver": Driver("live"), "told": True, "now": NOW + 101},
        (P.ENDING, Kind.OUTCOME, "longer than"),
    ),
    ("driver must go first", job("bob", P.ENDING, outcome("bob"), **RUN), {"driver": Driver("live")}, None),
    ("driver gone", job("bob", P.ENDING, outcome("bob"), **RUN), {"driver": Driver("stopped")}, (None, None, "gone")),
    ("one signature is not enough", job("bob", P.ENDING, outcome("bob"), **ENDED), {"now": LATE}, None),
    (
        "success",
        job("bob", P.ENDING, outcome("bob"), outcome("alice"), **ENDED),
        {},
        (P.SUCCEEDED, None, "every party signed"),
    ),
    (
        "failure with every signature",
        job("bob", P.ENDING, outcome("bob"), outcome("alice", "failed", error="boom"), **ENDED),
        {},
        (P.FAILED, None, "alice: boom"),
    ),
    (
        "failure without the last signature, after a while",
        job("bob", P.ENDING, outcome("bob", "failed"), **ENDED),
        {"now": NOW + 3},
        (P.FAILED, None, "alice is missing"),
    ),
    (
        "another attempt",
        job("bob", P.ENDING, outcome("bob", **FAILED), outcome("alice", **FAILED), about=TWICE, **ENDED),
        {},
        (P.APPROVED, None, "another attempt"),
    ),
    (
        "another attempt needs every signature",
        job("bob", P.ENDING, outcome("bob", **FAILED), about=TWICE, **ENDED),
        {"now": NOW + 500},
        None,
    ),
    (
        "no other attempt after a program's error",
        job("bob", P.ENDING, outcome("bob", "failed"), outcome("alice", **FAILED), about=TWICE, **ENDED),
        {},
        (P.FAILED, None, "failed"),
    ),
    (
        "the last signature changes the label",
        job("bob", P.FAILED, outcome("bob", "failed"), outcome("alice", "cancelled"), **ENDED),
        {},
        (P.CANCELLED, None, "every signature"),
    ),
    (
        "the initiator may have gone on after a failure that allows it",
        job("bob", P.FAILED, outcome("bob", **FAILED), outcome("alice", **FAILED), about=TWICE, **ENDED),
        {"now": LATE},
        None,
    ),
    (
        "the initiator says that it has not",
        job("alice", P.FAILED, outcome("bob", **FAILED), outcome("alice", **FAILED), about=TWICE, **ENDED),
        {"now": LATE},
        (None, Kind.DECISION, "every signature"),
    ),
    (
        "asked for an attempt after the end",
        job("bob", P.FAILED, prepare(2), **ENDED),
        {},
        (None, Kind.PROMISE, "refused"),
    ),
    ("the end is the end", job("bob", P.FAILED, settled=True), {"now": LATE}, None),
]


@pytest.mark.parametrize(("record", "sight", "expected"), [row[1:] for row in STEPS], ids=[row[0] for row in STEPS])
def test_step(record: Job, sight: dict[str, Any], expected: tuple[Phase | None, Kind | None, str] | None) -> None:
    step = next_step(record, seen(**sight))
    if expected is None:
        assert step is None
        return
    phase, kind, words = expected
    assert step is not None
    assert step.phase is phase
    assert [d.kind for d in step.drafts] == ([kind] if kind else [])
    assert words in step.reason
    assert phase is None or phase in TRANSITIONS[record.phase]


def test_every_phase_has_a_row_and_only_drawn_arrows_are_used() -> None:
    assert {row[1].phase for row in STEPS} >= set(Phase) - {P.SUSPENDED, P.SUCCEEDED, P.CANCELLED, P.DIVERGED}


@pytest.mark.parametrize("phase", [p for p in Phase if p is not P.DIVERGED])
def test_two_contradicting_statements_end_in_diverged(phase: Phase) -> None:
    lied = job("bob", phase, outcome("alice"), outcome("alice", "failed"), **RUN)
    step = next_step(lied, seen())
    assert step is not None
    assert step.phase is P.DIVERGED
    first, second = lied.conflicts[0]
    assert (first.key, first.payload()) == (second.key, first.payload())
    assert first.payload() != second.payload()
    assert P.DIVERGED in TRANSITIONS[phase]


EFFECTS = [
    ("checks", job("bob", P.PREPARING, prepare(), attempt=1), {}, RunChecks(1)),
    ("launch", job("bob", P.STARTING, start(), **RUN), {}, Launch(1, 0)),
    ("prove the ways meanwhile", job("bob", P.STARTING, start(), **RUN), {}, ProveWays(1, 0)),
    ("wait for the program to load", job("bob", P.RUNNING, start(), **RUN), {"driver": Driver("live")}, AwaitReady(1)),
    ("tell go", job("bob", P.RUNNING, start(), go(), **RUN), LOADED, TellGo(1, NOW)),
    (
        "go on the initiator's clock",
        job("bob", P.RUNNING, start(), go(), **RUN),
        LOADED | {"initiator_offset": 2.0},
        TellGo(1, NOW - 2),
    ),
    ("stop", job("bob", P.ENDING, outcome("bob"), **RUN), {"driver": Driver("live")}, StopDriver(1)),
    (
        "stop after a lie",
        job("bob", P.DIVERGED, outcome("alice"), outcome("alice", "failed"), **RUN),
        {"driver": Driver("live")},
        StopDriver(1),
    ),
    ("ask", job("bob", P.PROMISED, *PROMISED, attempt=1), {"now": NOW + 11}, Ask(1)),
    (
        "ask for the missing signatures",
        job("bob", P.ENDING, outcome("bob"), **ENDED),
        {"now": NOW + 2},
        Ask(1),
    ),
    ("bring the folder", job("alice", P.PROPOSED, approval("alice")), {"bundle_missing": {"bob"}}, SendBundle("bob")),
    ("wake at the deadline", job("bob", P.PROPOSED), {}, Wake(NOW + 1000)),
    (
        "bring the own outcome to everyone",
        job("bob", P.ENDING, outcome("bob"), about=proposal(parties=("alice", "bob", "carol")), **RUN),
        {"driver": Driver("live"), "receipts": frozenset({(outcome("bob").key, "alice")})},
        Deliver("carol", (outcome("bob").key,)),
    ),
]


@pytest.mark.parametrize(("record", "sight", "expected"), [row[1:] for row in EFFECTS], ids=[row[0] for row in EFFECTS])
def test_effect(record: Job, sight: dict[str, Any], expected: object) -> None:
    receipts = frozenset((k, p) for k in record.statements if k.kind is not Kind.DECISION for p in ("alice", "bob"))
    found = decide(record, seen(receipts=receipts) if not sight else replace(seen(receipts=receipts), **sight))
    assert not any(isinstance(a, Commit) for a in found)
    assert expected in found


@pytest.mark.parametrize("state", ["live", "launching", "unreachable", "succeeded", "failed", "stopped"])
def test_no_second_driver_while_one_may_exist(state: Any) -> None:
    found = decide(job("bob", P.STARTING, start(), **RUN), seen(driver=Driver(state)))
    assert not any(isinstance(a, Launch) for a in found)


@pytest.mark.parametrize(
    ("sight", "statements"),
    [
        ({"told": True}, (go(),)),
        ({"initiator_offset": None}, (go(),)),  # not before the clock was measured
        ({}, ()),
    ],
)
def test_go_is_told_once_and_on_a_known_clock(sight: dict[str, Any], statements: tuple[Any, ...]) -> None:
    found = decide(job("bob", P.RUNNING, start(), ready("bob"), *statements, **RUN), seen(**LOADED | sight))
    assert not any(isinstance(a, TellGo) for a in found)


def test_go_leaves_the_slowest_peer_time_to_hear_of_it() -> None:
    step = next_step(job("alice", P.RUNNING, start(), *BOTH_READY, **RUN), seen(**LOADED, slowest_s=0.5))
    assert step is not None
    assert step.drafts[0].body.start_at == NOW + 5 + 2  # type: ignore[union-attr]


RECEIVERS = [
    ("a policy's yes goes to the initiator", "bob", approval("bob", by="policy"), {"alice"}),
    ("a person's yes goes to all", "bob", approval("bob", by="person"), {"alice", "carol"}),
    ("a no goes to all", "bob", approval("bob", "deny", by="policy"), {"alice", "carol"}),
    ("another's yes stays", "bob", approval("carol"), set()),
    ("the initiator brings each yes to the others", "alice", approval("bob", by="policy"), {"carol"}),
    ("a promise goes to the initiator", "bob", promise("bob"), {"alice"}),
    ("ready goes to the initiator", "bob", ready("bob"), {"alice"}),
    ("go goes to everyone", "alice", go(), {"bob", "carol"}),
    ("what others said is theirs to bring", "bob", go(), set()),
    ("an outcome goes to everyone", "bob", outcome("bob"), {"alice", "carol"}),
]


@pytest.mark.parametrize(("me", "statement", "peers"), [r[1:] for r in RECEIVERS], ids=[r[0] for r in RECEIVERS])
def test_who_is_brought_what(me: str, statement: Any, peers: set[str]) -> None:
    three = proposal(parties=("alice", "bob", "carol"))
    record = job(me, P.APPROVED, statement, about=three)
    assert {peer for key, peer in wanted(record) if key == statement.key} == peers


def test_a_peer_that_is_not_due_gets_nothing() -> None:
    found = decide(job("alice", P.PROPOSED, approval("alice")), seen(due=frozenset(), bundle_missing={"bob"}))
    assert not any(isinstance(a, Deliver | SendBundle) for a in found)
