"""Reading the state from outside the running coordinator, and checking a file of it."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from coordinator.audit import Record, Verdict, verify
from coordinator.group_commit import StoreError
from coordinator.signing import Verifier


def open_reader(path: Path) -> sqlite3.Connection:
    """A connection that writes nothing. Raises StoreError when there is no file."""
    if not path.exists():
        raise StoreError(f"{path}: does not exist; has this coordinator ever run?")
    return sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=5)


def read_records(path: Path) -> Iterator[Record]:
    """Audit records of a state file, in order. Raises StoreError when it cannot be read."""
    try:
        with contextlib.closing(open_reader(path)) as db:
            for row in db.execute("SELECT seq, content, hash, signature FROM events ORDER BY seq"):
                yield Record(*row)
    except sqlite3.DatabaseError as e:
        raise StoreError(f"{path}: {e}; put a backup in its place") from e


def check_file(path: Path, party: str, verifier: Verifier) -> Verdict:
    """Check every page and every audit record of a state file. Raises StoreError naming the first fault."""
    try:
        with contextlib.closing(open_reader(path)) as db:
            found = db.execute("PRAGMA integrity_check(1)").fetchone()[0]
    except sqlite3.DatabaseError as e:
        raise StoreError(f"{path}: {e}") from e
    if found != "ok":
        raise StoreError(f"{path}: damaged: {' '.join(found.split())}")
    verdict = verify(read_records(path), party, verifier)
    if verdict.fault:
        raise StoreError(f"{path}: audit log of {party}: {verdict.fault}")
    return verdict
