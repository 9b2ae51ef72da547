"""Shows peers the own audit head, and keeps theirs: each counter-signs what it was shown, and both keep it."""

from __future__ import annotations

import time

import structlog

from coordinator.audit_heads import (
    CounterSignature,
    Head,
    HeadAnswer,
    Witnessed,
    check_head,
    check_witness,
    contradiction,
    counter_sign,
    sign_head,
)
from coordinator.config import Config
from coordinator.signing import Signer, SigningError, Verifier
from coordinator.store import Store

log = structlog.get_logger()
AHEAD_S = 3600.0


class HeadExchange:
    """Both directions. What is kept in memory only spares repetitions."""

    def __init__(self, config: Config, store: Store, signer: Signer, verifier: Verifier) -> None:
        self._config, self._store, self._signer, self._verifier = config, store, signer, verifier
        self._shown: dict[str, tuple[float, int]] = {}  # peer -> monotonic seconds, jobs ended by then
        self._reported: dict[str, tuple[float, str]] = {}  # peer -> the refusal recorded last, monotonic seconds
        self._signed_at = 0.0
        self.faults = store.audit_faults()

    def adopt(self, config: Config, verifier: Verifier) -> None:
        """Take up another configuration and the public keys that go with it."""
        self._config, self._verifier = config, verifier

    def due(self, peer: str) -> Head | None:
        """The own head, if it is time to show it: every `audit_heads_s`, and when a job has ended since."""
        now, ended = time.monotonic(), self._store.ended_jobs()
        at, before = self._shown.get(peer, (-self._config.audit_heads_s, ended))
        if now - at < self._config.audit_heads_s and ended == before:
            return None
        link = self._store.last_link()
        known = self._store.last_head(self._config.party, peer)
        if not link.seq or (known and known.head.seq == link.seq and known.head.hash == link.hash):
            return None
        self._shown[peer] = (now, ended)
        self._signed_at = max(self._signed_at, known.head.at if known else 0, time.time())  # never backwards
        return sign_head(self._signer, link.seq, link.hash, self._signed_at)

    def confirmed(self, peer: str, head: Head, answer: HeadAnswer | None) -> None:
        """Take in what a peer answered to our head. Only a genuine counter-signature is kept."""
        problem = (answer.refused if answer else "") or "no counter-signature"
        if answer is not None and answer.witness is not None:
            problem = self._false(peer, head, answer.witness)
            if not problem:
                self._store.keep_head(Witnessed(head=head, witness=answer.witness), time.time())
                self._reported.pop(peer, None)
                return
        self._report(peer, f"{peer} did not confirm our audit head {head.seq}", problem)

    def _false(self, peer: str, head: Head, witness: CounterSignature) -> str:
        """Why a counter-signature is not the peer's for this head; empty if it is."""
        if witness.by != peer:
            return f"it answered with a counter-signature of {witness.by}"
        try:
            check_witness(self._verifier, head, witness)
        except SigningError as e:
            return str(e)
        return ""

    def receive(self, peer: str, head: Head) -> HeadAnswer:
        """Judge a peer's head: counter-sign it, or say why not. A contradiction is kept and recorded for good."""
        if head.party != peer:
            return self._refuse(peer, f"an audit head of {head.party} came from {peer}")
        try:
            check_head(self._verifier, head)
        except SigningError as e:
            return self._refuse(peer, str(e))
        if head.at > time.time() + AHEAD_S:  # or a party could date one head far ahead, and call all others late
            return self._refuse(peer, f"audit head {head.seq} of {peer} is dated {head.at:.0f}, in the future")
        me = self._config.party
        newest, same = self._store.last_head(peer, me), self._store.head_at(peer, me, head.seq)
        if why := contradiction(newest.head if newest else None, same.head if same else None, head):
            if self._store.add_audit_fault(head, time.time(), why):
                log.error("a peer rewrote its audit log", peer=peer, reason=why)
            self.faults.setdefault(peer, why)
            return HeadAnswer(refused=why[:500])
        if same and same.head == head:
            return HeadAnswer(witness=same.witness)
        if newest and head.seq < newest.head.seq:
            return HeadAnswer(refused=f"older than the audit head {newest.head.seq} that {peer} showed before")
        if same:
            return HeadAnswer(witness=counter_sign(self._signer, head, time.time()))
        made = Witnessed(head=head, witness=counter_sign(self._signer, head, time.time()))
        self._store.keep_head(made, time.time())
        return HeadAnswer(witness=made.witness)

    def _refuse(self, peer: str, why: str) -> HeadAnswer:
        self._report(peer, "audit head refused", why)
        return HeadAnswer(refused=why[:500])

    def _report(self, peer: str, what: str, why: str) -> None:
        """Record a refusal, but not the same kind again and again: at most one per peer and hour."""
        at, before = self._reported.get(peer, (0.0, ""))
        if before != what or time.monotonic() - at > 3600:
            self._reported[peer] = (time.monotonic(), what)
            self._store.note(time.time(), "refused", f"{what}: {why}"[:2000], peer=peer, path="audit head")
