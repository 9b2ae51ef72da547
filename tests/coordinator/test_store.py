"""Durable state: a refused change leaves nothing behind, a transition that is not drawn is impossible, the audit log
cannot be rewritten unnoticed."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from builders import JOB_ID, NOW, job, outcome, proposal
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from coordinator.audit_verify import verify
from coordinator.failpoints import Step
from coordinator.group_commit import StoreError
from coordinator.model import TRANSITIONS, Draft, Phase
from coordinator.signing import Signer, SigningError, Verifier
from coordinator.statements import CancelBody, Key, Kind
from coordinator.store import SlotTakenError, StaleError, Store, UsedKeyError

SIGNER = Signer("demo", "bob", Ed25519PrivateKey.generate())
VERIFIER = Verifier("demo", {"bob": SIGNER.public})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "coordinator.db", SIGNER, "bob")
    made.create(Step.SUBMIT, job("bob", Phase.PROPOSED), NOW, "test", ("key", "digest"))
    return made


def test_what_is_saved_is_loaded(store: Store) -> None:
    old = store.load(JOB_ID)
    assert old is not None
    assert old.proposal == proposal().body
    new = replace(old, phase=Phase.APPROVED, slot=1, retry_at=3.5, reason="because", version=1)
    new = new.adding(outcome("alice"), outcome("alice", "failed"))
    store.save(Step.END, old, new, NOW, "test")
    assert store.load(JOB_ID) == new
    assert store.used_slots() == {1: JOB_ID}
    assert store.phase_counts() == {"approved": 1}
    assert store.unfinished() == store.job_ids() == [JOB_ID]
    assert store.load("20261124-other-aaaaaa") is None


@pytest.mark.parametrize("phase", list(Phase))
def test_only_drawn_transitions_are_possible(store: Store, phase: Phase) -> None:
    old = store.load(JOB_ID)
    assert old is not None
    new = replace(old, phase=phase, version=1)
    if phase in TRANSITIONS[Phase.PROPOSED] or phase is Phase.PROPOSED:
        store.save(Step.END, old, new, NOW, "test")
    else:
        with pytest.raises(StaleError, match=f"proposed .* to {phase}"):
            store.save(Step.END, old, new, NOW, "test")
        assert store.load(JOB_ID) == old


def test_a_change_of_an_old_version_is_refused_whole(store: Store) -> None:
    old = store.load(JOB_ID)
    assert old is not None
    store.save(Step.END, old, replace(old, version=1), NOW, "first")
    head = store.head()
    with pytest.raises(StaleError):
        store.save(Step.END, old, replace(old, version=1).adding(outcome("bob")), NOW, "second")
    assert store.head() == head
    assert not store.load(JOB_ID).outcomes(1)  # type: ignore[union-attr]


def test_a_slot_has_one_holder(store: Store) -> None:
    old = store.load(JOB_ID)
    assert old is not None
    store.save(Step.END, old, replace(old, slot=0, version=1), NOW, "first")
    about = proposal().model_copy(update={"job_id": "20261124-other-aaaaaa"})
    other = replace(old, job_id=about.job_id, statements={about.key: about})
    store.create(Step.SUBMIT, other, NOW, "test")
    with pytest.raises(SlotTakenError, match="slot 0"):
        store.save(Step.END, other, replace(other, slot=0, version=1), NOW, "second")


def test_idempotency_keys(store: Store) -> None:
    assert store.request("key", "digest") == JOB_ID
    assert store.request("new", "digest") is None
    with pytest.raises(UsedKeyError, match=JOB_ID):
        store.request("key", "another")


def test_receipts(store: Store) -> None:
    pair = (Key(0, Kind.PROPOSAL, "alice"), "carol")
    store.add_receipts(JOB_ID, [pair])
    store.add_receipts(JOB_ID, [pair])
    assert store.receipts(JOB_ID) == {pair}


def test_the_file_refuses_what_is_not_well(store: Store, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="another coordinator"):
        Store(tmp_path / "coordinator.db", SIGNER, "bob")
    store.close()
    Store(tmp_path / "coordinator.db", SIGNER, "bob").close()
    (tmp_path / "bad.db").write_bytes(b"this is no database" * 100)
    with pytest.raises(StoreError, match="backup"):
        Store(tmp_path / "bad.db", SIGNER, "bob")
    (tmp_path / "folder.db").mkdir()
    with pytest.raises(StoreError, match=r"folder.db"):
        Store(tmp_path / "folder.db", SIGNER, "bob")


def test_the_audit_log_is_whole(store: Store) -> None:
    for number in range(5):
        store.note(NOW, "test", f"record {number}")
    verdict = verify(store.records(), "bob", VERIFIER)
    assert (verdict.fault, verdict.records, verdict.head) == (None, 6, store.head()[1])  # type: ignore[index]
    assert len(list(store.records(4))) == 3


def test_the_log_is_append_only(store: Store, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "coordinator.db") as db:
        for query in ("DELETE FROM events", "UPDATE events SET content = '{}'"):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                db.execute(query)


def test_signatures_are_bound_to_author_content_and_consortium() -> None:
    s = SIGNER.statement(JOB_ID, Draft(Kind.CANCEL, 0, CancelBody(reason="x")))
    VERIFIER.check(s)
    other = Signer("demo", "alice", Ed25519PrivateKey.generate())
    for wrong in (
        s.model_copy(update={"body": CancelBody(reason="y")}),
        s.model_copy(update={"signature": other.statement(JOB_ID, Draft(Kind.CANCEL, 0, s.body)).signature}),
        s.model_copy(update={"signature": "not base64"}),
        s.model_copy(update={"party": "mallory"}),
    ):
        with pytest.raises(SigningError):
            VERIFIER.check(wrong)
    with pytest.raises(SigningError):
        Verifier("another", {"bob": SIGNER.public}).check(s)


def test_keys_that_cannot_be_used(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    with pytest.raises(SigningError, match="cannot be read"):
        Signer.load("demo", "bob", tmp_path / "none")
    pem = generate_private_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "ec.key").write_bytes(pem)
    with pytest.raises(SigningError, match="ed25519 key is needed"):
        Signer.load("demo", "bob", tmp_path / "ec.key")
    with pytest.raises(SigningError, match="signing_key of bob"):
        Verifier("demo", {"bob": "AAAA"})
