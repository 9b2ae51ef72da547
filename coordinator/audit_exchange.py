"""Shows peers the own audit head, and keeps theirs: each counter-signs what it was shown, and both keep it."""

from __future__ import annotations

import time

import structlog

from coordinator.audit_heads import (
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


class HeadExchange:
    """Both directions. What is kept in memory only spares repetitions."""

    def __init__(self, config: Config, store: Store, signer: Signer, verifier: Verifier) -> None:
        self._config, self._store, self._signer, self._verifier = config, store, signer, verifier
        self._shown: dict[str, tuple[float, int]] = {}  # peer -> monotonic seconds, jobs ended by then
        self._reported: dict[str, str] = {}  # peer -> the refusal recorded last
        self.faults = store.audit_faults()

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
        return sign_head(self._signer, link.seq, link.hash, time.time())

    def confirmed(self, peer: str, head: Head, answer: HeadAnswer | None) -> None:
        """Take in what a peer answered to our head. Only a genuine counter-signature is kept."""
        problem = "no counter-signature" if answer is None else answer.refused
        if answer is not None and answer.witness is not None:
            try:
                if answer.witness.by != peer:
                    raise SigningError(f"{peer} answered with a counter-signature of {answer.witness.by}")
                check_witness(self._verifier, head, answer.witness)
            except SigningError as e:
                problem = str(e)
            else:
                self._store.keep_head(Witnessed(head=head, witness=answer.witness), time.time())
                self._reported.pop(peer, None)
                return
        self._report(peer, f"{peer} did not confirm our audit head {head.seq}: {problem or 'no counter-signature'}")

    def receive(self, peer: str, head: Head) -> HeadAnswer:
        """Judge a peer's head: counter-sign it, or say why not. A contradiction is kept and recorded for good."""
        if head.party != peer:
            return self._refuse(peer, f"an audit head of {head.party} came from {peer}")
        try:
            check_head(self._verifier, head)
        except SigningError as e:
            return self._refuse(peer, str(e))
        me = self._config.party
        before = self._store.last_head(peer, me)
        if why := contradiction(before.head if before else None, head):
            if self._store.add_audit_fault(head, time.time(), why):
                log.error("a peer rewrote its audit log", peer=peer, reason=why)
            self.faults.setdefault(peer, why)
            return HeadAnswer(refused=why[:500])
        if before and before.head.seq == head.seq:
            witness = before.witness if before.head == head else counter_sign(self._signer, head, time.time())
            return HeadAnswer(witness=witness)
        made = Witnessed(head=head, witness=counter_sign(self._signer, head, time.time()))
        self._store.keep_head(made, time.time())
        return HeadAnswer(witness=made.witness)

    def _refuse(self, peer: str, why: str) -> HeadAnswer:
        self._report(peer, why)
        return HeadAnswer(refused=why[:500])

    def _report(self, peer: str, why: str) -> None:
        """Record a refusal, but not the same one again and again."""
        if self._reported.get(peer) != why.partition(":")[2]:
            self._reported[peer] = why.partition(":")[2]
            self._store.note(time.time(), "refused", why[:2000], peer=peer, path="audit head")
