"""A relay on the way from one gateway to another; it runs by itself, in a container, with nothing but Python.

    python3 relay.py PORT HOST:PORT

It reads `/tmp/settings.json` anew whenever that changes:
`delay_s` each way, `loss` (the share of pieces that need another sending), `bytes_per_s` each way (0: no limit),
`mode`: `pass`; or `deaf`: takes connections and bytes and gives nothing; or `answer`: says `status` to whoever speaks.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from pathlib import Path

SETTINGS = Path("/tmp/settings.json")  # noqa: S108 alone in its container
PIECE = 16 * 1024
RESEND_S = 0.2  # Linux waits at least so long before it sends a lost segment again, and twice as long each time after
MOST_RESENDS = 6
LOOK_S = 0.02


class Settings:
    """What the relay does now."""

    delay_s = 0.0
    loss = 0.0
    bytes_per_s = 0.0
    mode = "pass"
    status = 401

    def __init__(self) -> None:
        self._changed_ns = 0
        self.changed = asyncio.Event()

    async def watch(self) -> None:
        """Follow the file for ever."""
        while True:
            if SETTINGS.exists() and (now := SETTINGS.stat().st_mtime_ns) != self._changed_ns:
                self._changed_ns = now
                for name, value in json.loads(SETTINGS.read_text()).items():
                    setattr(self, name, value)
                before, self.changed = self.changed, asyncio.Event()
                before.set()
            await asyncio.sleep(LOOK_S)


class Line:
    """One direction of all connections: they share its bandwidth."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._free_at = settings, 0.0

    def arrives_at(self, size: int) -> float:
        """When (monotonic) a piece that is sent now comes out at the other end."""
        s, now = self._settings, time.monotonic()
        self._free_at = max(now, self._free_at) + (size / s.bytes_per_s if s.bytes_per_s else 0.0)
        resent = 0
        while resent < MOST_RESENDS and random.random() < s.loss:  # noqa: S311
            resent += 1
        waited: float = RESEND_S * (2**resent - 1)
        return self._free_at + s.delay_s + waited


async def carry(source: asyncio.StreamReader, target: asyncio.StreamWriter, line: Line) -> None:
    """Bytes of one connection in one direction, in order, each piece at its time."""
    pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(64)

    async def read() -> None:
        last, data = 0.0, b"-"
        while data:
            data = await source.read(PIECE)
            last = max(last, line.arrives_at(len(data)))  # TCP keeps the order: one lost piece holds up what follows
            await pieces.put((last, data))

    reading = asyncio.ensure_future(read())
    try:
        while True:
            at, data = await pieces.get()
            if (left := at - time.monotonic()) > 0:
                await asyncio.sleep(left)
            if not data:
                target.write_eof()
                return
            target.write(data)
            await target.drain()
    finally:
        reading.cancel()


async def swallow(reader: asyncio.StreamReader) -> None:
    """Take what comes and say nothing, for ever."""
    while await reader.read(PIECE):
        pass
    await asyncio.Event().wait()


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, status: int) -> None:
    """Say one HTTP status to each request, or to whatever else it is."""
    while await reader.read(PIECE):
        body = b'{"detail": "this is a fault on purpose"}'
        head = f"HTTP/1.1 {status} Fault\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()


async def unless(work: list[asyncio.Task[None]], settings: Settings, mode: str) -> None:
    """Wait for the end of some work, or for a change to another mode; then nothing of the work goes on."""
    try:
        while settings.mode == mode and not any(task.done() and task.exception() for task in work):
            changed = asyncio.ensure_future(settings.changed.wait())
            left = [task for task in work if not task.done()]
            if not left:
                changed.cancel()
                return
            await asyncio.wait([*left, changed], return_when=asyncio.FIRST_COMPLETED)
            changed.cancel()
    finally:
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)


async def serve(port: int, host: str, target_port: int) -> None:
    """Relay until killed."""
    settings = Settings()
    there, back = Line(settings), Line(settings)

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if settings.mode == "answer":
                await unless([asyncio.ensure_future(answer(reader, writer, settings.status))], settings, "answer")
            if settings.mode == "pass":
                far_reader, far = await asyncio.open_connection(host, target_port)
                ways = [
                    asyncio.ensure_future(carry(reader, far, there)),
                    asyncio.ensure_future(carry(far_reader, writer, back)),
                ]
                try:
                    await unless(ways, settings, "pass")
                finally:
                    far.close()
            if settings.mode == "deaf":
                await unless([asyncio.ensure_future(swallow(reader))], settings, "deaf")
        except OSError:
            return
        finally:
            writer.close()

    server = await asyncio.start_server(accept, "0.0.0.0", port)
    async with server:
        await settings.watch()


if __name__ == "__main__":
    target_host, _, target = sys.argv[2].rpartition(":")
    asyncio.run(serve(int(sys.argv[1]), target_host, int(target)))
