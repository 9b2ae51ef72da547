"""The task beside the worker that digests the gateway's access log and writes each ended day's audit records to a file.

Where it goes on stands in the audit log itself, so a restart repeats nothing and leaves nothing out.
"""

from __future__ import annotations

import asyncio
import json
import time
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import structlog

from coordinator.access_log import KIND, Piece, content_of, new_pieces, piece_of
from coordinator.audit_export import write_whole
from coordinator.audit_source import day_of, export_of, midnight
from coordinator.context import Context
from coordinator.offline import TOLD, told

log = structlog.get_logger()
LOOK_S = 60.0
DIGEST_S = 3600.0  # the access log is digested so often, when it was put aside, and before a day's file
EXPORT = "daily-export"


class AuditFiles:
    """Access-log digests and daily files of one coordinator."""

    def __init__(self, context: Context) -> None:
        self._c = context
        self._digested = -DIGEST_S  # monotonic seconds
        self._inode = 0
        self._reported = ""
        self._newest: dict[str, dict[str, Any] | None] = {}  # kind -> newest record of it

    async def run(self) -> None:
        """Look every minute; runs until cancelled."""
        (self._c.config.state_dir / TOLD).mkdir(mode=0o700, exist_ok=True)
        while True:
            try:
                self.take_what_was_told()
                await self.digest_access_log()
                await self.export_days(time.time())
            except Exception:
                log.exception("daily audit work failed; it is tried again")
            await asyncio.sleep(LOOK_S)

    def take_what_was_told(self) -> None:
        """Record what commands did beside the coordinator."""
        for kind, why in told(self._c.config.state_dir):
            self._c.store.note(time.time(), kind, why)

    async def digest_access_log(self, *, always: bool = False) -> None:
        """Record what the gateway has logged since the last time, if it is time or the file was put aside."""
        path = self._c.config.access_log
        if path is None:
            return
        try:
            inode = path.stat().st_ino if path.exists() else 0
            due = time.monotonic() - self._digested >= DIGEST_S
            if not (always or due or inode != self._inode):
                return
            newest = self._last(KIND)
            pieces = await asyncio.to_thread(new_pieces, path, piece_of(newest) if newest else None)
        except OSError as e:
            self._unreadable(f"the access log cannot be read: {e}")
            return
        self._digested, self._inode, self._reported = time.monotonic(), inode, ""
        for piece in pieces:
            self._record(piece)

    def _record(self, piece: Piece) -> None:
        now = time.time()
        why = piece.problem or f"access log {piece.file}: {piece.lines} lines to byte {piece.end}"
        if piece.problem:
            log.error("the access log is not whole", reason=why)
        self._note(KIND, why, day=day_of(now).isoformat(), **content_of(piece))

    def _last(self, kind: str) -> dict[str, Any] | None:
        if kind not in self._newest:
            self._newest[kind] = self._c.store.newest(kind)
        return self._newest[kind]

    def _note(self, kind: str, why: str, **more: Any) -> None:
        self._c.store.note(time.time(), kind, why, **more)
        self._newest[kind] = more

    def _unreadable(self, why: str) -> None:
        if why != self._reported:
            self._reported = why
            log.error("the access log is not whole", reason=why)
            self._c.store.note(time.time(), "access-log-fault", why)

    async def export_days(self, now: float) -> None:
        """Write a file for every UTC day that has ended and has none yet."""
        config = self._c.config
        while span := self._next_day(now):
            day, first, last = span
            await self.digest_access_log(always=True)
            path = config.state_dir / "audit" / f"{config.party}-{day.isoformat()}.jsonl"
            digest = await asyncio.to_thread(self._write, path, first, last, day)
            newest = self._last(KIND)
            self._note(
                EXPORT,
                f"records {first} to {last} written to {path.name}",
                day=day.isoformat(),
                first=first,
                last=last,
                sha256=digest,
                access_log=_digested_to(newest) if config.access_log else "no access_log is configured",
            )
            log.info("audit day written", file=path.name, records=last - first + 1)

    def _write(self, path: Path, first: int, last: int, day: date) -> str:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        _, lines = export_of(self._c.config.state_dir / "coordinator.db", self._c.signer, first, last, day)
        return write_whole(path, lines)

    def _next_day(self, now: float) -> tuple[date, int, int] | None:
        """Day and records of the next file. Every record is in exactly one, whatever clocks did meanwhile."""
        store = self._c.store
        done = self._last(EXPORT)
        first = done["last"] + 1 if done else 1
        record = next(store.records(first, first), None)
        if record is None:
            return None
        day = day_of(json.loads(record.content)["at"])
        if done:
            day = max(day, date.fromisoformat(done["day"]) + timedelta(1))
        if day >= day_of(now):
            return None
        later = store.first_record_since(midnight(day + timedelta(1)), first)
        last = (later or store.last_link().seq + 1) - 1
        return day, first, last


def _digested_to(newest: dict[str, Any] | None) -> str:
    if newest is None:
        return "nothing was logged yet"
    return f"digested to byte {newest['end']} of file {newest['file']}"
