"""Audit heads: peers confirm one another's logs, a bad head is refused, a rewritten log is found out and remembered."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest
from audit_builders import ALICE, BOB, CAROL, NOW, VERIFIER, records, witnessed
from coordinator_rig import Rig, rig
from pydantic import ValidationError

from coordinator.audit_exchange import HeadExchange
from coordinator.audit_heads import Head, HeadAnswer, check_head, check_witness, contradiction, counter_sign, sign_head
from coordinator.config import load_config
from coordinator.signing import Signer, SigningError, Verifier
from coordinator.store import Store

LOG = records(20)
OTHER = records(20, word="rewritten")


def head(number: int, at: float = NOW, log: list = LOG, signer: Signer = ALICE) -> Head:  # type: ignore[type-arg]
    return sign_head(signer, number, log[number - 1].hash, at)


class Pair:
    """bob's side of the exchange, with a store of its own."""

    def __init__(self, folder: Path) -> None:
        self.config = load_config(Rig(folder, ["alice", "bob"]).config_path("bob"))
        self.path = folder / "bob.db"
        self.open()

    def open(self) -> None:
        self.store = Store(self.path, BOB, "bob")
        self.bob = HeadExchange(self.config, self.store, BOB, VERIFIER)

    def notes(self, kind: str) -> list[str]:
        events = [json.loads(r.content) for r in self.store.records()]
        return [e["reason"] for e in events if e["kind"] == kind]


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Pair(tmp_path)


def test_a_head_is_bound_to_everything_it_says() -> None:
    good = head(5)
    check_head(VERIFIER, good)
    for change in ({"seq": 6}, {"hash": LOG[5].hash}, {"at": NOW + 1}, {"party": "bob"}):
        with pytest.raises(SigningError):
            check_head(VERIFIER, good.model_copy(update=change))
    with pytest.raises(SigningError):
        check_head(Verifier("another", VERIFIER.keys), good)
    with pytest.raises(ValidationError):
        Head.model_validate(good.model_dump() | {"signature": "x" * 200})
    answer = counter_sign(BOB, good, NOW)
    check_witness(VERIFIER, good, answer)
    for other, said in ((head(6), answer), (good, answer.model_copy(update={"at": NOW + 1}))):
        with pytest.raises(SigningError):
            check_witness(VERIFIER, other, said)


def test_a_head_is_counter_signed_and_kept(pair: Pair) -> None:
    answer = pair.bob.receive("alice", head(5))
    assert answer.witness is not None
    check_witness(VERIFIER, head(5), answer.witness)
    assert pair.bob.receive("alice", head(5)) == answer, "asking again makes nothing new"
    again = pair.bob.receive("alice", head(5, NOW + 60))  # nothing happened at alice meanwhile
    assert again.witness is not None
    assert pair.bob.receive("alice", head(9, NOW + 60)).witness is not None
    assert [w.head.seq for w in pair.store.heads()] == [5, 9]
    assert pair.notes("refused") == pair.notes("audit-fault") == []


REWRITTEN = [
    ("another record under the same number", head(9, NOW + 9, OTHER), "another audit record 9"),
    ("a shorter log", head(7, NOW + 9), "log of 7 records; it had 9"),
    ("an old number with another hash", head(5, NOW - 9, OTHER), "another audit record 5"),
]


@pytest.mark.parametrize(("lie", "why"), [r[1:] for r in REWRITTEN], ids=[r[0] for r in REWRITTEN])
def test_a_rewritten_log_is_recorded_and_remembered(pair: Pair, lie: Head, why: str) -> None:
    for number in (5, 9):
        pair.bob.receive("alice", head(number, NOW + number / 10))
    for _ in range(3):
        answer = pair.bob.receive("alice", lie)
        assert answer.witness is None
        assert why in answer.refused
    assert len(pair.notes("audit-fault")) == 1
    pair.store.close()
    pair.open()
    assert why in pair.bob.faults["alice"]
    assert pair.bob.receive("alice", head(12, NOW + 20)).witness is not None, "what comes later can be confirmed again"


def test_a_late_or_repeated_head_accuses_nobody(pair: Pair) -> None:
    pair.bob.receive("alice", head(9))
    late = pair.bob.receive("alice", head(5, NOW - 60))
    assert late.witness is None
    assert "older than" in late.refused
    assert pair.bob.faults == {}
    assert contradiction(None, None, head(5)) == ""


def test_false_heads_are_refused_and_recorded_once(pair: Pair) -> None:
    for wrong in (head(5, signer=CAROL), head(5).model_copy(update={"seq": 6})):
        for _ in range(3):
            assert pair.bob.receive("alice", wrong).witness is None
    assert len(pair.notes("refused")) == 1
    assert pair.store.heads() == []


def test_a_head_from_the_future_is_refused(pair: Pair) -> None:
    """Dated far ahead, it would make every later head of that party look late instead of contradicting."""
    answer = pair.bob.receive("alice", head(5, time.time() + 7200))
    assert "in the future" in answer.refused
    assert pair.store.heads() == []


def test_only_a_genuine_counter_signature_is_kept(pair: Pair) -> None:
    pair.store.note(NOW, "test", "one")
    own = pair.bob.due("alice")
    assert own is not None
    assert pair.bob.due("alice") is None, "not again so soon"
    bad = [
        None,
        HeadAnswer(refused="no"),
        HeadAnswer(witness=counter_sign(CAROL, own, NOW)),
        HeadAnswer(witness=counter_sign(ALICE, head(3), NOW)),
    ]
    for answer in bad:
        pair.bob.confirmed("alice", own, answer)
    assert pair.store.heads() == []
    assert len(pair.notes("refused")) == 1
    assert "did not confirm our audit head 1" in pair.notes("refused")[0]
    pair.bob.confirmed("alice", own, HeadAnswer(witness=counter_sign(ALICE, own, NOW)))
    assert [w.head for w in pair.store.heads()] == [own]


def test_what_is_confirmed_is_not_shown_again(pair: Pair) -> None:
    assert pair.bob.due("alice") is None, "there is no record yet"
    pair.store.note(NOW, "test", "one")
    own = pair.bob.due("alice")
    assert own is not None
    pair.bob.confirmed("alice", own, HeadAnswer(witness=counter_sign(ALICE, own, NOW)))
    later = HeadExchange(pair.config, pair.store, BOB, VERIFIER)  # after a restart
    assert later.due("alice") is None
    pair.store.note(NOW, "test", "two")
    assert later.due("alice") is not None


def test_of_each_hour_the_first_and_the_last_stay(pair: Pair) -> None:
    for number in range(1, 16):
        pair.store.keep_head(witnessed(LOG[number - 1]), 1800.0 * (number // 5))
    assert [w.head.seq for w in pair.store.heads()] == [1, 9, 10, 15]


def test_two_coordinators_confirm_one_another(tmp_path: Path) -> None:
    async def run() -> None:
        async with rig(tmp_path, audit_heads_s=0.3) as r:
            job_id = await r.submit("alice")
            await r.end(job_id)
            for party, peer in (("alice", "bob"), ("bob", "alice")):
                for _ in range(200):
                    seen = (await r.call(party, "GET", "status")).json()
                    if seen["peers"][peer]["audit"]["confirmed"] == seen["audit"]["seq"]:
                        break
                    await asyncio.sleep(0.05)
                audit = seen["peers"][peer]["audit"]
                assert audit["confirmed"] == seen["audit"]["seq"] > 5
                assert audit["fault"] == ""
                metrics = (await r.http.get(f"http://127.0.0.1:{r.ports[party][0]}/metrics")).text
                assert f'consortium_audit_confirmed_records{{peer="{peer}"}} {float(audit["confirmed"])}' in metrics
                assert f'consortium_peer_audit_fault{{peer="{peer}"}} 0.0' in metrics

    asyncio.run(run())
