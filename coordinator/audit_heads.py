"""Audit heads: the end of a party's log as it stood at a moment, signed by its party and counter-signed by a peer.

A party has the key to its own log and could write it anew. It cannot take back a head that a peer holds.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from coordinator.config import Digest, Model, Party
from coordinator.signing import HEAD, WITNESS, Signer, Verifier
from coordinator.statements import Line, Time, canonical

Seq = Annotated[int, Field(ge=1, le=10**15)]
Signature = Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]{86}==$")]


class Head(Model):
    """«At this time record `seq` was the last of my log and had this hash», signed by `party`."""

    party: Party
    seq: Seq
    hash: Digest
    at: Time
    signature: Signature


class CounterSignature(Model):
    """«At this time the head's party showed me this head», signed by the peer it was shown to."""

    by: Party
    at: Time
    signature: Signature


class Witnessed(Model):
    """A head with one peer's counter-signature: who rewrites the log before it contradicts both signatures."""

    head: Head
    witness: CounterSignature


class HeadAnswer(Model):
    """What a peer says to a head: its counter-signature, or why it gives none."""

    witness: CounterSignature | None = None
    refused: Line = ""


def sign_head(signer: Signer, seq: int, digest: str, at: float) -> Head:
    """The own head, signed."""
    fields = {"party": signer.party, "seq": seq, "hash": digest, "at": round(at, 3)}
    return Head.model_validate(fields | {"signature": signer.raw(HEAD, _content(signer.consortium, fields))})


def check_head(verifier: Verifier, head: Head) -> None:
    """Raise SigningError unless the head is its party's."""
    content = _content(verifier.consortium, head.model_dump(mode="json", exclude={"signature"}))
    verifier.raw(head.party, HEAD, content, head.signature, f"audit head {head.seq} of {head.party}")


def counter_sign(signer: Signer, head: Head, at: float) -> CounterSignature:
    """Vouch for having been shown a head."""
    at = round(at, 3)
    content = _witnessed(signer.consortium, head, signer.party, at)
    return CounterSignature(by=signer.party, at=at, signature=signer.raw(WITNESS, content))


def check_witness(verifier: Verifier, head: Head, witness: CounterSignature) -> None:
    """Raise SigningError unless the counter-signature is the peer's, for this very head."""
    content = _witnessed(verifier.consortium, head, witness.by, witness.at)
    where = f"counter-signature of {witness.by} on audit head {head.seq} of {head.party}"
    verifier.raw(witness.by, WITNESS, content, witness.signature, where)


def contradiction(newest: Head | None, same: Head | None, head: Head) -> str:
    """Why a head cannot be of the same log as the newest one its party showed, and the one with the same number.

    Empty if it can. An older head that comes late, or is sent once more by somebody, accuses nobody.
    """
    if same is not None and same.hash != head.hash:
        return f"{head.party} shows another audit record {head.seq} than before: {head.hash}, before {same.hash}"
    if newest is not None and head.seq < newest.seq and head.at > newest.at:
        return f"{head.party} shows an audit log of {head.seq} records; it had {newest.seq} before"
    return ""


def _content(consortium: str, fields: dict[str, Any]) -> bytes:
    return canonical(fields | {"consortium": consortium})


def _witnessed(consortium: str, head: Head, by: str, at: float) -> bytes:
    return canonical({"consortium": consortium, "head": head.model_dump(mode="json"), "by": by, "at": at})
