"""Reading and copying the state from outside the running coordinator."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from coordinator.audit import Record
from coordinator.group_commit import StoreError


def _open(path: Path) -> sqlite3.Connection:
    if not path.exists():
        raise StoreError(f"{path}: does not exist; has this coordinator ever run?")
    return sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=5)


def read_records(path: Path) -> Iterator[Record]:
    """Audit records of a state file, in order. Raises StoreError when it cannot be read."""
    try:
        with contextlib.closing(_open(path)) as db:
            for row in db.execute("SELECT seq, content, hash, signature FROM events ORDER BY seq"):
                yield Record(*row)
    except sqlite3.DatabaseError as e:
        raise StoreError(f"{path}: {e}; put a backup in its place") from e


def backup(path: Path, target: Path) -> None:
    """A consistent copy of the state, made while the coordinator runs. Raises StoreError; never overwrites."""
    if target.exists():
        raise StoreError(f"{target}: exists already; name a new file")
    target.touch(0o600)
    with contextlib.closing(_open(path)) as source, contextlib.closing(sqlite3.connect(target)) as copy:
        source.backup(copy)
