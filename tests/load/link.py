"""The network on the way to one gateway, which can be made slow, cut, or go quiet."""

from __future__ import annotations

import asyncio
import contextlib

from consortium.ports import GATEWAY_PUBLIC_PORT

_PIECE = 65536


class Link:
    """Passes connections on from `address` to the gateway at `target`, both on the public port.

    `delay_s`: each piece is so much later, in each direction. `cut`: connections break and new ones are closed.
    `quiet`: connections stay and nothing passes, as behind a firewall that forgot them.
    """

    def __init__(self, address: str, target: str) -> None:
        self.address, self.target = address, target
        self.delay_s = 0.0
        self.cut = False
        self._speaks = asyncio.Event()
        self._speaks.set()
        self._server: asyncio.Server | None = None
        self._passing: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._pass, self.address, GATEWAY_PUBLIC_PORT)

    async def close(self) -> None:
        assert self._server
        self._server.close()
        self.break_all()
        await asyncio.gather(*self._passing, return_exceptions=True)

    def break_all(self) -> None:
        """Break the connections that are open."""
        for task in self._passing:
            task.cancel()

    @property
    def quiet(self) -> bool:
        return not self._speaks.is_set()

    @quiet.setter
    def quiet(self, yes: bool) -> None:
        if yes:
            self._speaks.clear()
        else:
            self._speaks.set()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._passing.add(task)
        ends = [writer]
        try:
            if self.cut:
                return
            onward, back = await asyncio.open_connection(self.target, GATEWAY_PUBLIC_PORT)
            ends.append(back)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pump(reader, back))
                both.create_task(self._pump(onward, writer))
        except* (OSError, asyncio.CancelledError):
            pass  # an end went away, or the link was cut: either way both ends are closed now
        finally:
            self._passing.discard(task)
            for end in ends:
                end.transport.abort()

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(_PIECE):
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            await self._speaks.wait()
            sink.write(data)
            await sink.drain()
        with contextlib.suppress(OSError):
            sink.write_eof()
