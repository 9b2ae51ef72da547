"""From the state file to an export: which records, which heads. Reads beside the running coordinator."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from coordinator.audit_export import Header, export_lines, header_of
from coordinator.offline import read_first_since, read_heads, read_last, read_link, read_records
from coordinator.signing import Signer


class RangeError(ValueError):
    """A range of records that cannot be; the message names both ends and what is allowed."""


def export_of(
    path: Path, signer: Signer, first: int, last: int, day: date | None = None
) -> tuple[Header, Iterator[bytes]]:
    """Header and lines of an export of the records `first` to `last`. `day`: of heads of peers, only those of that day.

    Raises StoreError.
    """
    at = time.time()  # before the end is read: a head signed later may be of a record that came later
    header = header_of(signer.consortium, signer.party, signer.public, read_link(path, first - 1))
    log = read_last(path)
    heads = [w for w in read_heads(path) if day is None or w.head.party == signer.party or day_of(w.witness.at) == day]
    return header, export_lines(header, read_records(path, first, last), heads, log, at)


def range_of(path: Path, start: str | None, end: str | None) -> tuple[int, int]:
    """Record numbers of a range given by numbers or UTC dates (YYYY-MM-DD), both ends included.

    Raises RangeError.
    """
    last = read_last(path)
    first = 1 if start is None else int(start) if start.isdecimal() else _since(path, _date(start), last)
    until = last if end is None else int(end) if end.isdecimal() else _since(path, _date(end) + timedelta(1), last) - 1
    if not 1 <= first <= last + 1 or not first - 1 <= until <= last:
        raise RangeError(f"records {first} to {until} are asked for: the log has 1 to {last}")
    return first, until


def _since(path: Path, day: date, last: int) -> int:
    return read_first_since(path, midnight(day)) or last + 1


def _date(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as e:
        raise RangeError(f"{text[:40]!r}: neither the number of a record nor a date YYYY-MM-DD") from e


def midnight(day: date) -> float:
    """Seconds since 1970 at which a UTC day begins."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()


def day_of(at: float) -> date:
    """The UTC day of a time in seconds since 1970."""
    return datetime.fromtimestamp(at, UTC).date()
