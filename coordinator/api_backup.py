"""The operator's way to a backup: made beside the running coordinator, streamed, and gone from the disk again."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from collections.abc import Callable
from typing import BinaryIO

from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from coordinator.accept import RefusedError
from coordinator.api_models import Responses, refusals
from coordinator.backup import backup, room_needed
from coordinator.backup_file import Label
from coordinator.config import Config
from coordinator.context import Context
from coordinator.group_commit import DiskFullError, StoreError
from coordinator.signing import Verifier

OUTGOING = "outgoing-backup"
STALLED_S = 60.0
"""A client that takes nothing for so long is given up: another backup waits for its end."""
_PIECE = 1_000_000
_TAR: Responses = {200: {"content": {"application/x-tar": {}}}}


def add_backup_route(router: APIRouter, context: Context) -> None:
    """GET /backup."""
    one = asyncio.Lock()

    @router.get("/backup", response_class=StreamingResponse, responses=_TAR | refusals(409))
    async def get_backup() -> StreamingResponse:
        """A verified copy of the state while jobs run: database and job folders, an uncompressed tar. One at a time."""
        if one.locked():
            raise RefusedError(409, "another backup is being made or sent: wait for its end, one is made at a time")
        config = context.config
        with contextlib.ExitStack() as kept:
            await one.acquire()
            kept.callback(one.release)
            file, label = await asyncio.to_thread(made, config, context.verifier)
            kept.callback(file.close)
            why = f"the state was given to the operator, up to record {label.audit_seq}"
            context.store.note(time.time(), "backup", why)
            name = f"{config.party}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(label.made_at))}.tar"
            return Outgoing(file, name, kept.pop_all().close)


def made(config: Config, verifier: Verifier) -> tuple[BinaryIO, Label]:
    """A new backup as an open file that has no name any more: its room is free again as soon as it is closed.

    Raises StoreError, DiskFullError.
    """
    folder = config.state_dir / OUTGOING
    try:
        if folder.exists():  # of a coordinator that was killed
            shutil.rmtree(folder)
        _check_room(config)
        folder.mkdir(0o700)
        try:
            label = backup(config, verifier, folder / "backup.tar")
            return (folder / "backup.tar").open("rb"), label
        finally:
            shutil.rmtree(folder)
    except OSError as e:
        raise StoreError(f"{folder}: no backup can be made: {e}") from e


def _check_room(config: Config) -> None:
    free, needed, left = shutil.disk_usage(config.state_dir).free, room_needed(config), config.limits.min_free_bytes
    if free < needed + left:
        raise DiskFullError(
            f"{config.party} makes no backup: {free} bytes are free for its state folder {config.state_dir}, a backup "
            f"takes {needed} for a while and {left} must stay free (min_free_bytes): make room there"
        )


class Outgoing(StreamingResponse):
    """A file that is sent and then let go of, whatever becomes of the client."""

    def __init__(self, file: BinaryIO, name: str, close: Callable[[], None]) -> None:
        size = file.seek(0, 2)
        file.seek(0)
        headers = {"content-length": str(size), "content-disposition": f'attachment; filename="{name}"'}
        super().__init__(iter(lambda: file.read(_PIECE), b""), 200, headers, "application/x-tar")
        self._close = close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send piece by piece. Raises TimeoutError when the client takes nothing more."""

        async def in_time(message: Message) -> None:
            async with asyncio.timeout(STALLED_S):
                await send(message)

        try:
            await super().__call__(scope, receive, in_time)
        finally:
            self._close()
