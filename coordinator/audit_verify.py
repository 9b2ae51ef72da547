"""Checks an audit log: whole, in order, genuine, and what peers confirmed of it. Pure: reads no file, knows no clock.

Every link of the chain is computed; the signature of every 4096th record and of the last one is checked, and vouches
for all before it. When something does not fit, the place is found by bisecting the few records since the last good
signature: whoever lacks the key can make no valid signature from the first byte on that he changed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Literal

from coordinator.audit import GENESIS, Link, Record, chain_hash, is_signed
from coordinator.audit_heads import Witnessed, check_head, check_witness
from coordinator.signing import SigningError, Verifier

WINDOW = 4096
FaultKind = Literal[
    "content",  # of this record was changed
    "hash",  # of this record was changed
    "number",  # of this record was changed
    "signature",  # of this record is not the party's
    "rewritten",  # from this record on by someone without the key
    "missing",  # this record, and perhaps some after it
    "inserted",  # at the place of this record
    "moved",  # another record stands at the place of this one
    "unreadable",  # what stands at the place of this record is none
    "cut",  # the log ends before this record, which a peer has seen
    "contradicted",  # a peer counter-signed another record under this number
    "header",  # of the file names another party, consortium or key than it is checked for
    "head",  # a head or counter-signature for this record is not genuine
]


@dataclass(frozen=True)
class Fault:
    """What is wrong, and the first record concerned."""

    record: int
    kind: FaultKind
    message: str


@dataclass(frozen=True)
class Verdict:
    """Result of a check. Records up to `last` are in their place and genuine; `fault` is None if that is all."""

    first: int
    last: int
    head: str
    signatures: int  # checked one by one
    confirmed: tuple[Witnessed, ...] = ()  # heads of this log that fit it
    elsewhere: int = 0  # heads of records that are not in what was checked
    later: tuple[Witnessed, ...] = ()  # of these, heads behind the end, signed after the log was exported
    fault: Fault | None = None

    @property
    def records(self) -> int:
        """How many records are good."""
        return self.last - self.first + 1


@dataclass
class _Walk:
    party: str
    verifier: Verifier
    last: Link
    good: Link  # the newest one whose signature was checked
    signatures: int = 0
    window: list[Record] = field(default_factory=list)  # chained to `good` and to one another, not known to be genuine

    def signed(self, link: Link) -> bool:
        self.signatures += 1
        return is_signed(self.verifier, self.party, link)

    def settle(self) -> Fault | None:
        """Check the signature of the newest record; if it is good, so is all before it."""
        if not self.window or self.signed(self.window[-1].link):
            self.window.clear()
            self.good = self.last
            return None
        low, high = 0, len(self.window) - 1  # the first bad one is in [low, high]
        while low < high:
            middle = (low + high) // 2
            if self.signed(self.window[middle].link):
                low = middle + 1
            else:
                high = middle
        bad, end = self.window[low].seq, self.window[-1].seq
        self.last = self.window[low - 1].link if low else self.good
        if bad == end:
            return Fault(bad, "signature", f"record {bad}: the signature is not {self.party}'s")
        text = f"records {bad} to at least {end} were written anew by someone without the key of {self.party}"
        return Fault(bad, "rewritten", text)


def verify(
    records: Iterable[Record],
    party: str,
    verifier: Verifier,
    *,
    after: Link = GENESIS,
    heads: Sequence[Witnessed] = (),
    whole: bool = True,
    until: float = math.inf,
    every_signature: bool = False,
    progress: Callable[[int], None] = lambda _: None,
) -> Verdict:
    """Check a log, or a piece that follows record `after`, up to the first fault.

    `heads` of this party that peers counter-signed are compared with the records. `whole`: the piece claims to reach
    to the end of the log as it was at the time `until` of the party's clock, so a head beyond it that was signed before
    is a fault. `records` may raise ValueError for what is none.
    """
    walk = _Walk(party, verifier, after, after)
    confirmed: list[Witnessed] = []
    wanted: dict[int, list[Witnessed]] = {}
    fault = false_head = None
    for witnessed in heads:
        if problem := _check_head(witnessed, party, verifier):
            false_head = false_head or problem
        else:
            wanted.setdefault(witnessed.head.seq, []).append(witnessed)
    if after != GENESIS and not walk.signed(after):
        fault = Fault(after.seq, "signature", f"record {after.seq}, before the first: the signature is not {party}'s")
    source = _Source(records)
    step = 1 if every_signature else WINDOW
    agreed = after.seq
    while fault is None:
        for witnessed in wanted.pop(walk.last.seq, ()):
            if witnessed.head.hash != walk.last.hash:
                fault = walk.settle() or _contradicted(witnessed, walk.last, agreed)
                break
            confirmed.append(witnessed)
            agreed = walk.last.seq
        if fault is not None:
            break
        record = source.next()
        if record is None:
            fault = walk.settle() or source.unreadable(walk.last.seq + 1)
            break
        if record.seq != walk.last.seq + 1 or record.hash != chain_hash(walk.last, record.seq, record.content):
            fault = walk.settle() or _broken(walk, record, source)
            break
        walk.window.append(record)
        walk.last = record.link
        if len(walk.window) >= step:
            fault = walk.settle()
            progress(record.seq)
    beyond = [w for seq, found in sorted(wanted.items()) if seq > walk.last.seq for w in found]
    hidden = [w for w in beyond if w.head.at < until]
    if fault is None and whole and hidden:
        fault = _cut(hidden[-1], walk.last.seq)
    fault = fault or false_head
    elsewhere = sum(len(found) for found in wanted.values())
    later = tuple(beyond) if whole and not hidden else ()
    return Verdict(
        after.seq + 1, walk.last.seq, walk.last.hash, walk.signatures, tuple(confirmed), elsewhere, later, fault
    )


class _Source:
    """The records one by one; remembers what could not be read."""

    def __init__(self, records: Iterable[Record]) -> None:
        self.rest: Iterator[Record] = iter(records)
        self.problem = ""

    def next(self) -> Record | None:
        try:
            return next(self.rest, None)
        except ValueError as e:
            self.problem = str(e)
            return None

    def unreadable(self, number: int) -> Fault | None:
        return Fault(number, "unreadable", f"record {number} cannot be read: {self.problem}") if self.problem else None

    def peek(self) -> Record | None:
        record = self.next()
        if record is not None:
            self.rest = chain((record,), self.rest)
        return record

    def has(self, number: int) -> bool:
        """True if a record of this number comes later. Reads to the end."""
        while (record := self.next()) is not None:
            if record.seq == number:
                return True
        return False


def _broken(walk: _Walk, record: Record, source: _Source) -> Fault:
    """Name what is wrong with a record that is not chained to the last one, whose signature is good."""
    number = walk.last.seq + 1
    right = Link(number, chain_hash(walk.last, number, record.content), record.signature)
    if record.seq != number:
        if record.hash == right.hash:
            return Fault(number, "number", f"record {number}: its number was changed to {record.seq}")
        if record.seq < number:
            return Fault(number, "inserted", f"after record {walk.last.seq} stands one more record {record.seq}")
        if source.has(number):
            text = f"after record {walk.last.seq} comes {record.seq}, and {number} later: moved or inserted"
            return Fault(number, "moved", text)
        return Fault(number, "missing", f"after record {walk.last.seq} comes {record.seq}: records are missing")
    following = source.peek()
    if walk.signed(right):
        return Fault(number, "hash", f"record {number}: its hash was changed")
    if following is not None and following.seq == number:
        return Fault(number, "inserted", f"record {number}: a strange record stands before the one of this number")
    return Fault(number, "content", f"record {number}: its content was changed: {record.content[:200]}")


def _check_head(witnessed: Witnessed, party: str, verifier: Verifier) -> Fault | None:
    head = witnessed.head
    try:
        check_head(verifier, head)
        check_witness(verifier, head, witnessed.witness)
    except SigningError as e:
        return Fault(head.seq, "head", str(e))
    if head.party != party or witnessed.witness.by == party:
        text = f"a head of {head.party}, counter-signed by {witnessed.witness.by}, says nothing about {party}"
        return Fault(head.seq, "head", text)
    return None


def _contradicted(witnessed: Witnessed, last: Link, agreed: int) -> Fault:
    head, by = witnessed.head, witnessed.witness.by
    text = (
        f"record {head.seq}: {head.party} showed {by} the hash {head.hash} and {by} counter-signed it, this log has "
        f"{last.hash}: rewritten after record {agreed} with the key of {head.party}"
    )
    return Fault(head.seq, "contradicted", text)


def _cut(witnessed: Witnessed, last: int) -> Fault:
    head, by = witnessed.head, witnessed.witness.by
    text = f"the log ends with record {last}, but {by} counter-signed record {head.seq} of {head.party}: cut off"
    return Fault(last + 1, "cut", text)
