"""The audit log: hash-chained, signed records of everything that changed state or was refused.

A record's hash covers its content and the hash before it, so a changed, removed, inserted or moved record breaks the
chain at its place. Each hash is signed by the party.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from coordinator.signing import RECORD, Signer, SigningError, Verifier
from coordinator.statements import canonical

GENESIS = "0" * 64


@dataclass(frozen=True)
class Record:
    """One line of the log. `content` is canonical JSON, kept as text so that verification reads the very bytes."""

    seq: int
    content: str
    hash: str
    signature: str

    def line(self) -> str:
        """The record as one line of JSON, as exported."""
        return json.dumps({"seq": self.seq, "content": self.content, "hash": self.hash, "signature": self.signature})

    @classmethod
    def parse(cls, line: str) -> Record:
        """Read one exported line. Raises ValueError when it is not one."""
        raw = json.loads(line)
        if not isinstance(raw, dict) or set(raw) != {"seq", "content", "hash", "signature"}:
            raise ValueError("not a record: needs exactly seq, content, hash, signature")
        return cls(int(raw["seq"]), str(raw["content"]), str(raw["hash"]), str(raw["signature"]))


@dataclass(frozen=True)
class Verdict:
    """Result of a verification: `fault` is empty when every record is in its place and genuine."""

    records: int
    head: str
    fault: str = ""


def chain_hash(previous: str, seq: int, content: str) -> str:
    """SHA-256 over the previous hash, the number and the content."""
    return hashlib.sha256(f"{previous}\n{seq}\n{content}".encode()).hexdigest()


def append(previous: tuple[int, str] | None, event: dict[str, Any], signer: Signer) -> Record:
    """The record that follows `previous` (number and hash; None for the first)."""
    seq, before = (previous[0] + 1, previous[1]) if previous else (1, GENESIS)
    content = canonical(event).decode()
    digest = chain_hash(before, seq, content)
    return Record(seq, content, digest, signer.raw(RECORD, digest.encode()))


def verify(records: Iterable[Record], party: str, verifier: Verifier) -> Verdict:
    """Check number, chain and signature of every record; stops at the first fault and names it."""
    seq, head = 0, GENESIS
    for record in records:
        if record.seq != seq + 1:
            return Verdict(seq, head, f"after record {seq} comes {record.seq}: records are missing, inserted or moved")
        if record.hash != chain_hash(head, record.seq, record.content):
            return Verdict(seq, head, f"record {record.seq}: content or chain was changed: {record.content[:200]}")
        try:
            verifier.raw(party, RECORD, record.hash.encode(), record.signature, f"record {record.seq}")
        except SigningError as e:
            return Verdict(seq, head, str(e))
        seq, head = record.seq, record.hash
    return Verdict(seq, head)


def parse_lines(lines: Iterable[str]) -> Iterator[Record]:
    """Records of an export. Raises ValueError naming the line that is none."""
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                yield Record.parse(line)
            except (ValueError, TypeError) as e:
                raise ValueError(f"line {number}: {e}") from e
