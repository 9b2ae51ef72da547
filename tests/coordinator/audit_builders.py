"""Audit logs for tests: signed by real keys, made without a store."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from coordinator.audit import GENESIS, Link, Record, append
from coordinator.audit_export import export_lines, header_of
from coordinator.audit_heads import Witnessed, counter_sign, sign_head
from coordinator.signing import Signer, Verifier

ALICE, BOB, CAROL = (Signer("demo", party, Ed25519PrivateKey.generate()) for party in ("alice", "bob", "carol"))
VERIFIER = Verifier("demo", {s.party: s.public for s in (ALICE, BOB, CAROL)})
NOW = 1_000_000.0


def records(count: int, signer: Signer = ALICE, after: Link = GENESIS, word: str = "record") -> list[Record]:
    """A good log, or a piece of one."""
    made: list[Record] = []
    for _ in range(count):
        number = after.seq + 1
        made.append(append(after, {"at": NOW + number, "kind": "test", "reason": f"{word} {number}, ä"}, signer))
        after = made[-1].link
    return made


def witnessed(record: Record, signer: Signer = ALICE, witness: Signer = BOB) -> Witnessed:
    """A head that a peer counter-signed."""
    head = sign_head(signer, record.seq, record.hash, NOW)
    return Witnessed(head=head, witness=counter_sign(witness, head, NOW + 1))


def export(
    path: Path,
    log: Sequence[Record],
    heads: Sequence[Witnessed] = (),
    signer: Signer = ALICE,
    after: Link = GENESIS,
    at: float = NOW + 100,
) -> Path:
    """The file of a log."""
    header = header_of("demo", signer.party, signer.public, after)
    lines = export_lines(header, log, heads, log[-1].seq if log else 0, at)
    path.write_bytes(b"".join(lines))
    return path


LOG_KEYS = VERIFIER.keys
