"""Group commit: what is written in one turn of the event loop reaches the disk with one COMMIT, so with one fsync.

Inside a running loop a write joins the open transaction, in a SAVEPOINT of its own: a write that is refused is rolled
back alone. The COMMIT follows when every callback that was ready has run. Outside a loop a write commits at once.

The rule that makes this safe: reads in this process may see what is not committed yet, but *nothing leaves the process
before what it rests on is durable*. Whoever lets something out (an answer, a message to a peer, a driver) takes
`failures` before it reads, and awaits `durable(failures)` before it sends. A batch whose COMMIT fails is rolled back
whole, counted in `failures`, and everything that rests on it fails; the next write begins anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Coroutine, Iterator
from pathlib import Path

from coordinator.failpoints import AnyStep, failpoint


class StoreError(Exception):
    """The state cannot be used or written; the message names the file and what to do."""


class DiskFullError(StoreError):
    """There is no room for what was to be written; nothing of it was."""


class _Batch:
    """Writes that share one COMMIT."""

    def __init__(self, loop: asyncio.AbstractEventLoop | None) -> None:
        self.loop = loop
        self.steps: list[AnyStep] = []  # of jobs, for the failpoints around the COMMIT
        self.done = asyncio.Event()
        self.error: StoreError | None = None


def explain(path: Path, error: sqlite3.Error) -> StoreError:
    """What a failed write or read means for the operator."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return DiskFullError(f"{path}: {error}: nothing was written; make room on this disk, then it goes on by itself")
    if code == sqlite3.SQLITE_IOERR:
        return StoreError(f"{path}: {error}: nothing was written; look at the disk, at quotas and limits")
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StoreError(f"{path}: {error}: another process holds it; end that one (fuser names it)")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return StoreError(f"{path}: {error}: damaged; put a backup in its place")
    return StoreError(f"{path}: {error}")


class GroupCommit:
    """The transactions of one connection, which is in autocommit mode. For one thread."""

    def __init__(self, db: sqlite3.Connection, path: Path) -> None:
        self._db, self._path = db, path
        self._batch: _Batch | None = None
        self.failures = 0  # batches lost so far
        self._last: StoreError | None = None

    @contextlib.contextmanager
    def write(self, step: AnyStep | None = None) -> Iterator[None]:
        """One write, whole or not at all; `step` if it is one of a job.

        Raises StoreError when the batch is lost, otherwise what the body raises.
        """
        batch = self._join()
        try:
            self._db.execute("SAVEPOINT one")
            yield
            self._db.execute("RELEASE one")
            batch.steps += [step] if step else []
        except sqlite3.IntegrityError:
            self._undo_one()
            raise
        except sqlite3.Error as e:
            self._lose(batch, e)
            raise _again(batch.error) from e
        except BaseException:
            self._undo_one()
            raise
        finally:
            if batch.loop is None:
                self.commit()
        if batch.error:
            raise batch.error

    def _join(self) -> _Batch:
        try:
            loop: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            loop = None
        if self._batch and self._batch.loop is not loop:
            self.commit()  # left by a loop that has ended
        if self._batch is None:
            try:
                self._db.execute("BEGIN IMMEDIATE")
            except sqlite3.Error as e:
                raise explain(self._path, e) from e
            self._batch = _Batch(loop)
            if loop:
                loop.call_soon(self._commit_batch, self._batch)
        return self._batch

    def _undo_one(self) -> None:
        self._db.execute("ROLLBACK TO one")
        self._db.execute("RELEASE one")

    def _commit_batch(self, batch: _Batch) -> None:
        if batch is self._batch:
            self.commit()

    def commit(self) -> None:
        """Bring everything written so far to the disk, or lose it whole (then `failures` counts it)."""
        batch = self._batch
        if batch is None:
            return
        try:
            for step in batch.steps:
                failpoint(f"before-{step}")
            self._db.execute("COMMIT")
        except sqlite3.Error as e:
            self._lose(batch, e)
            return
        except BaseException:  # of a test that crashes here: whoever waits for the batch never hears of it
            self.drop()
            raise
        self._batch = None
        for step in batch.steps:
            failpoint(f"after-{step}")
        batch.done.set()

    def drop(self) -> None:
        """Roll back what is pending."""
        if self._db.in_transaction:  # a full disk makes SQLite roll back by itself
            with contextlib.suppress(sqlite3.OperationalError):
                self._db.execute("ROLLBACK")
        self._batch = None
        self.failures += 1

    def _lose(self, batch: _Batch, why: sqlite3.Error) -> None:
        self.drop()
        batch.error = explain(self._path, why)
        self._last = batch.error
        batch.done.set()

    def durable(self, since: int | None = None) -> Coroutine[None, None, None]:
        """Returns when everything written up to this call is on the disk; at once when nothing is pending.

        `since`: `failures` at the time when the caller began to read. Raises StoreError (DiskFullError) when what the
        caller may have read or written was lost.
        """
        return self._durable(self._batch, self.failures if since is None else since)

    async def _durable(self, batch: _Batch | None, since: int) -> None:
        if batch is not None and batch is self._batch:
            if batch.loop is asyncio.get_running_loop():
                await batch.done.wait()
            else:
                self.commit()
        if batch is not None and batch.error:
            raise _again(batch.error)
        if since != self.failures and self._last:
            raise type(self._last)(f"what this rests on was lost: {self._last}")


def _again(error: StoreError | None) -> StoreError:
    """An instance of its own for each waiter: a shared one would collect everybody's traceback."""
    assert error is not None
    return type(error)(str(error))
