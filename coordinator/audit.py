"""The audit log: hash-chained, signed records of everything that changed state or was refused.

A record's hash covers its number and content, and the hash *and the signature* of the record before it. So the
signature of one record vouches for every byte of every record before it: see docs/audit.md and docs/adr/0006.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from coordinator.signing import RECORD, Signer, SigningError, Verifier
from coordinator.statements import canonical


@dataclass(frozen=True, slots=True)
class Link:
    """What the next record is chained to: number, hash and signature of a record."""

    seq: int
    hash: str
    signature: str


GENESIS = Link(0, "0" * 64, "")


@dataclass(frozen=True, slots=True)
class Record:
    """One line of the log. `content` is canonical JSON, kept as text so that verification reads the very bytes."""

    seq: int
    content: str
    hash: str
    signature: str

    @property
    def link(self) -> Link:
        """What the next record is chained to."""
        return Link(self.seq, self.hash, self.signature)

    def line(self) -> str:
        """The record as one line of JSON, as exported."""
        return (
            f'{{"seq":{self.seq},"content":{_quoted(self.content)},"hash":{_quoted(self.hash)},'
            f'"signature":{_quoted(self.signature)}}}'
        )

    @classmethod
    def parse(cls, line: str) -> Record:
        """Read one exported line. Raises ValueError unless it is, byte for byte, a line that `line` would write."""
        raw = json.loads(line)
        try:
            record = cls(raw["seq"], raw["content"], raw["hash"], raw["signature"])
            same = record.line() == line
        except (TypeError, KeyError) as e:
            raise ValueError("not a record: needs exactly seq, content, hash, signature") from e
        if not same or type(record.seq) is not int:
            raise ValueError("not written as a record is: other fields, order, spaces or escapes")
        return record


_quoted = json.encoder.encode_basestring  # a JSON string in UTF-8, written by C code


def chain_hash(before: Link, seq: int, content: str) -> str:
    """SHA-256 over the previous hash and signature, the number and the content."""
    return hashlib.sha256(f"{before.hash}\n{before.signature}\n{seq}\n{content}".encode()).hexdigest()


def append(before: Link, event: dict[str, Any], signer: Signer) -> Record:
    """The record that follows `before` (GENESIS for the first)."""
    content = canonical(event).decode()
    digest = chain_hash(before, before.seq + 1, content)
    signature = signer.raw(RECORD, _signed(signer.consortium, signer.party, digest))
    return Record(before.seq + 1, content, digest, signature)


def check_signature(verifier: Verifier, party: str, link: Link) -> None:
    """Raise SigningError unless the hash bears the party's signature, bound to consortium and party."""
    content = _signed(verifier.consortium, party, link.hash)
    verifier.raw(party, RECORD, content, link.signature, f"record {link.seq}")


def is_signed(verifier: Verifier, party: str, link: Link) -> bool:
    """True if the hash bears the party's signature."""
    try:
        check_signature(verifier, party, link)
    except SigningError:
        return False
    return True


def _signed(consortium: str, party: str, digest: str) -> bytes:
    return f"{consortium}\n{party}\n{digest}".encode()
