"""The file an audit log is exported to: JSON Lines. First a header, then records, counter-signed heads, an end line.

docs/audit.md describes it byte by byte.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import Field, ValidationError

from coordinator.audit import GENESIS, Link, Record
from coordinator.audit_heads import Witnessed
from coordinator.audit_verify import Fault, Verdict, verify
from coordinator.config import Digest, Model, Party
from coordinator.signing import Verifier
from coordinator.statements import Time, canonical
from coordinator.whole import whole_file

LINE_BYTES = 4_000_000  # no record of ours is longer; a strangers' file must not fill the memory
M = TypeVar("M", bound=Model)
_RECORD, _HEAD, _END = b'{"seq":', b'{"head":', b'{"end":'
_ZEROS = "0" * 64


class ExportError(ValueError):
    """A file is no export; the message names file and line."""


class Header(Model):
    """Whose log this is, and what the first record is chained to."""

    format: Literal["consortium-audit-2"] = "consortium-audit-2"
    consortium: Party
    party: Party
    public_key: Annotated[str, Field(max_length=100)]  # for the reader's eyes: who verifies knows the key already
    after: int = Field(ge=0, le=10**15)
    after_hash: Digest
    after_signature: Annotated[str, Field(max_length=100)]

    @property
    def link(self) -> Link:
        """What the first record is chained to."""
        return Link(self.after, self.after_hash, self.after_signature)


class Summary(Model):
    """What stands before it in the file. `log`: how many records the log had at the time `at`."""

    records: int = Field(ge=0)
    heads: int = Field(ge=0)
    log: int = Field(ge=0)
    at: Time
    sha256: Digest  # of the whole file with zeros in its place: finds accidents, and proves nothing

    def line(self) -> bytes:
        """The end line."""
        return canonical(End(end=self).model_dump(mode="json")) + b"\n"


class End(Model):
    """The last line."""

    end: Summary


def export_lines(
    header: Header, records: Iterable[Record], heads: Sequence[Witnessed], log: int, at: float
) -> Iterator[bytes]:
    """The file's lines. `log`: number of the log's last record at the time `at`.

    Of the own heads in `heads`, those of records in the file are taken; those of peers, that this party
    counter-signed, are taken all.
    """
    digest, count, last = hashlib.sha256(), 0, header.after

    def line(text: bytes) -> bytes:
        digest.update(text + b"\n")
        return text + b"\n"

    yield line(canonical(header.model_dump(mode="json")))
    for record in records:
        yield line(record.line().encode())
        count, last = count + 1, record.seq
    within = [w for w in heads if w.head.party != header.party or header.after <= w.head.seq <= last]
    for witnessed in within:
        yield line(canonical(witnessed.model_dump(mode="json")))
    summary = Summary(records=count, heads=len(within), log=max(log, last), at=round(at, 3), sha256=_ZEROS)
    digest.update(summary.line())
    yield summary.model_copy(update={"sha256": digest.hexdigest()}).line()


def header_of(consortium: str, party: str, public_key: str, after: Link = GENESIS) -> Header:
    """The first line of an export that begins behind record `after`."""
    return Header(
        consortium=consortium,
        party=party,
        public_key=public_key,
        after=after.seq,
        after_hash=after.hash,
        after_signature=after.signature,
    )


def write_whole(path: Path, lines: Iterable[bytes]) -> str:
    """Write a file of mode 0600 whole or not at all, durably; returns its SHA-256. Replaces a file of that name."""
    digest = hashlib.sha256()
    with whole_file(path) as file:
        for line in lines:
            digest.update(line)
            file.write(line)
    return digest.hexdigest()


class Export:
    """An export to be read. The records are read anew at each call of `records`; the rest is small and kept."""

    def __init__(self, path: Path) -> None:
        """Look through the file. Raises ExportError when it has no readable header, OSError when it is not there."""
        self.path = path
        self.heads: list[Witnessed] = []
        self.problems: list[str] = []  # with the lines after the records
        self.end: Summary | None = None
        digest, self._records = hashlib.sha256(), 0
        tail: list[tuple[int, bytes]] = []
        for number, line in self._lines():
            if number == 1:
                self.header = _model(Header, line, f"{path}: line 1: not the header of an audit export")
            elif line.startswith(_RECORD):
                self._records, tail = number - 1, []
            elif number > 1:
                tail.append((number, line))
            if not line.startswith(_END):
                digest.update(line)
        if not hasattr(self, "header"):
            raise ExportError(f"{path}: is empty; it should begin with the header of an audit export")
        while tail and not tail[0][1].startswith((_HEAD, _END)):  # a record, once
            self._records = tail.pop(0)[0] - 1
        self._read_tail(tail, digest)

    def _read_tail(self, tail: list[tuple[int, bytes]], digest: hashlib._Hash) -> None:
        for number, line in tail:
            where = f"line {number}: not a head with its counter-signature"
            try:
                if self.end is not None:
                    self.problems.append(f"line {number}: something stands after the end line")
                elif line.startswith(_END):
                    self.end = _model(End, line, f"line {number}: not an end line").end
                else:
                    self.heads.append(_model(Witnessed, line, where))
            except ExportError as e:
                self.problems.append(str(e))
        end = self.end
        if end is None:
            self.problems.append("the end line is missing: the file was cut off")
            return
        digest.update(end.model_copy(update={"sha256": _ZEROS}).line())
        if end.sha256 != digest.hexdigest():
            self.problems.append(f"the SHA-256 of the file is {digest.hexdigest()}, the end line says {end.sha256}")
        if (found := (self._records, len(self.heads))) != (end.records, end.heads):
            self.problems.append(f"{found[0]} records, {found[1]} heads; the end line says {end.records}, {end.heads}")
        if end.log < self.header.after + end.records:
            self.problems.append(f"the end line says the log had {end.log} records; there are more in the file")

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        with self.path.open("rb") as file:
            number = 0
            while line := file.readline(LINE_BYTES + 1):
                number += 1
                if len(line) > LINE_BYTES:
                    raise ExportError(f"{self.path}: line {number} is longer than {LINE_BYTES} bytes")
                yield number, line

    def held(self, party: str) -> list[Witnessed]:
        """Heads of that party in the file; of another one, they were counter-signed by the log's party."""
        return [w for w in self.heads if w.head.party == party]

    @property
    def whole(self) -> bool:
        """True if the export reaches to what was the end of the log, as far as it says itself."""
        return self.end is None or self.end.log <= self.header.after + self.end.records

    def records(self) -> Iterator[Record]:
        """The records. Raises ValueError naming the line that is none."""
        for number, line in self._lines():
            if 1 < number <= self._records + 1:
                try:
                    yield Record.parse(_text(line))
                except ValueError as e:
                    raise ValueError(f"line {number}: {e}") from e

    def check(
        self,
        verifier: Verifier,
        *,
        heads: Sequence[Witnessed] = (),
        every_signature: bool = False,
        progress: Callable[[int], None] = lambda _: None,
    ) -> Verdict:
        """Verify the whole file, also against `heads` that are known from elsewhere."""
        header = self.header
        verdict = verify(
            self.records(),
            header.party,
            verifier,
            after=header.link,
            heads=list(dict.fromkeys((*self.held(header.party), *heads))),
            whole=self.whole,
            until=self.end.at if self.end else math.inf,
            every_signature=every_signature,
            progress=progress,
        )
        ours = (verifier.consortium, verifier.keys.get(header.party))
        if ours != (header.consortium, header.public_key):
            text = f"the header says consortium, key {(header.consortium, header.public_key)}; wanted are {ours}"
            return replace(verdict, fault=Fault(header.after, "header", text))
        if verdict.fault is None and self.problems:
            verdict = replace(verdict, fault=Fault(verdict.last + 1, "unreadable", "; ".join(self.problems[:5])))
        return verdict


def _text(line: bytes) -> str:
    if not line.endswith(b"\n"):
        raise ValueError("the line has no end: the file was cut off")
    return line[:-1].decode("utf-8")


def _model(model: type[M], line: bytes, where: str) -> M:
    try:
        found = model.model_validate_json(_text(line))
        if canonical(found.model_dump(mode="json")) + b"\n" == line:
            return found
    except (ValidationError, ValueError) as e:
        raise ExportError(f"{where}: {str(e)[:300]}") from e
    raise ExportError(f"{where}: other spaces, order or escapes than an export has")
