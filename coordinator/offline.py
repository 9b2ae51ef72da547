"""Reading and copying the state from outside the running coordinator, or beside its own connection."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from coordinator.audit import GENESIS, Link, Record
from coordinator.audit_export import write_whole
from coordinator.audit_heads import Witnessed
from coordinator.statements import canonical
from coordinator.store import MAX_SEQ, StoreError, load_queries

TOLD = "told"


def open_reader(path: Path) -> sqlite3.Connection:
    """A connection that writes nothing. Raises StoreError when there is no file."""
    if not path.exists():
        raise StoreError(f"{path}: does not exist; has this coordinator ever run?")
    # a response that streams is read by several threads, one after the other
    return sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=5, check_same_thread=False)


def _rows(path: Path, query: str, **values: object) -> Iterator[tuple[object, ...]]:
    try:
        with contextlib.closing(open_reader(path)) as db:
            yield from db.execute(load_queries()[query], values)
    except sqlite3.DatabaseError as e:
        raise StoreError(f"{path}: {e}; put a backup in its place") from e


def read_records(path: Path, first: int = 1, last: int = MAX_SEQ) -> Iterator[Record]:
    """Audit records of a state file, in order. Raises StoreError when it cannot be read."""
    for row in _rows(path, "events_from", seq=first, last=last, limit=-1):
        yield Record(*row)  # type: ignore[arg-type]


def read_link(path: Path, seq: int) -> Link:
    """What the record behind `seq` is chained to. Raises StoreError when there is no record of this number."""
    if seq == 0:
        return GENESIS
    for record in read_records(path, seq, seq):
        return record.link
    raise StoreError(f"{path}: has no audit record {seq}")


def read_last(path: Path) -> int:
    """Number of the last audit record; 0 when there is none."""
    return next((int(str(row[0])) for row in _rows(path, "last_event")), 0)


def read_first_since(path: Path, at: float) -> int | None:
    """Number of the first audit record of that time or later."""
    return next((int(str(row[0])) for row in _rows(path, "first_event_since", at=at, first=1)), None)


def read_heads(path: Path) -> list[Witnessed]:
    """All counter-signed audit heads of a state file."""
    return [Witnessed.model_validate_json(str(row[0])) for row in _rows(path, "all_heads")]


def tell(state_dir: Path, kind: str, why: str) -> None:
    """Have the running coordinator record what was done beside it: only one process writes the audit log."""
    folder = state_dir / TOLD
    if folder.is_dir():
        write_whole(folder / f"{time.time_ns()}.json", [canonical({"kind": kind, "why": why})])


def told(state_dir: Path) -> Iterator[tuple[str, str]]:
    """(kind, why) of what was told; each is gone once the next one is asked for."""
    for path in sorted((state_dir / TOLD).glob("*.json")):
        found = json.loads(path.read_bytes())
        yield str(found["kind"])[:40], str(found["why"])[:1000]
        path.unlink()
