"""The ways of a job's own data, proved before its drivers use them.

Rayfed's readiness barrier passes falsely: a receiver with another job's name (417), a gateway that answers 401 or
404, a stale receiver of an earlier attempt all look ready to it (docs/secretflow.md). So between the decision and
`go`, while the programs load, each party answers on the very ports its driver will use, and goes to the ports of every
peer through both gateways: the right party, slot and job name must answer. At `go` the ports are left to the drivers.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from coordinator.config import Config
from coordinator.model import Checks, Job
from coordinator.statements import DecisionBody, job_name

SERVICES = ("fed", "spu")
_LINE_BYTES = 500
_ANSWER_S = 3.0
_CLOSE_S = 3.0  # how long a caller may keep a connection open after its answer
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.03, 0.5
_MAX_CALLERS = 64


@dataclass
class _Held:
    """Ports of one attempt: who calls, what is answered."""

    attempt: int
    servers: list[asyncio.Server] = field(default_factory=list)
    callers: set[asyncio.StreamWriter] = field(default_factory=set)


def answer_of(name: str, party: str, service: str, slot: int) -> str:
    """The one line that a party answers on a port it holds for an attempt."""
    return f"consortium way 1 {name} {party} {service} {slot}"


class Ways:
    """This party's held ports, by job, and the walk to the peers'."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._held: dict[str, _Held] = {}

    def adopt(self, config: Config) -> None:
        """Take up another configuration; ports that are held stay held."""
        self._config = config

    async def hold(self, job: Job, slot: int) -> None:
        """Answer on the slot's ports until `release`. Harmless when held already. Raises OSError (port in use)."""
        held = self._held.get(job.job_id)
        if held and held.attempt == job.attempt:
            return
        self.release(job.job_id)
        self._held[job.job_id] = held = _Held(job.attempt)
        try:
            for service in SERVICES:
                address: str = getattr(self._config.own, service)[str(slot)]
                host, _, port = address.rpartition(":")
                line = answer_of(job_name(job.job_id, job.attempt), self._config.party, service, slot)
                # a driver binds all addresses; a listener on one of them would let a stale one on another pass
                held.servers.append(await self._listen(held, host, int(port), line))
        except OSError:
            self.release(job.job_id)
            raise

    async def _listen(self, held: _Held, host: str, port: int, line: str) -> asyncio.Server:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if len(held.callers) >= _MAX_CALLERS:
                writer.close()
                return
            held.callers.add(writer)
            try:
                writer.write(f"{line}\n".encode())
                # the caller closes first: whoever does keeps the address in TIME_WAIT, and the driver needs this port
                with contextlib.suppress(OSError, TimeoutError):
                    await asyncio.wait_for(reader.read(1), _CLOSE_S)
            finally:
                held.callers.discard(writer)
                writer.close()

        return await asyncio.start_server(answer, host, port, limit=_LINE_BYTES)

    def release(self, job_id: str) -> None:
        """Leave the job's ports at once; harmless when none is held."""
        held = self._held.pop(job_id, None)
        if held:
            for server in held.servers:
                server.close()
            for writer in held.callers:
                writer.transport.abort()

    def release_all(self) -> None:
        """Leave every port."""
        for job_id in list(self._held):
            self.release(job_id)

    async def prove(self, job: Job, limit_s: float) -> Checks:
        """Go every way of the attempt until each was gone once, for `limit_s` at most; the first that failed is named.

        A peer may take over the decision a little later than this party, so a way that fails is tried again.
        """
        decision = job.decision(job.attempt)
        assert isinstance(decision, DecisionBody)
        walks = [self._walk(job, peer, service, decision.slots, limit_s) for peer in job.others for service in SERVICES]
        failed = [why for why in await asyncio.gather(*walks) if why]
        return Checks(job.attempt, "way", failed[0]) if failed else Checks(job.attempt)

    async def _walk(self, job: Job, peer: str, service: str, slots: Mapping[str, int], limit_s: float) -> str:
        slot = slots[peer]
        wanted = answer_of(job_name(job.job_id, job.attempt), peer, service, slot)
        if peer not in self._config.peers:
            return f"{peer} has left the consortium"
        address: str = getattr(self._config.peers[peer], service)[str(slot)]
        end, pause_s = asyncio.get_running_loop().time() + limit_s, _FIRST_PAUSE_S
        while (found := await _ask(address)) != wanted:
            if asyncio.get_running_loop().time() >= end:
                where = f"{self._config.party} to {service} of {peer} (slot {slot}) through both gateways"
                return f"{where}, at {address}: expected {wanted!r}, found {found!r}"
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        return ""


async def _ask(address: str) -> str:
    """What answers at an address: its first line, or why there is none."""
    host, _, port = address.rpartition(":")
    try:
        opened = asyncio.open_connection(host.strip("[]"), int(port), limit=_LINE_BYTES)
        reader, writer = await asyncio.wait_for(opened, _ANSWER_S)
    except (OSError, TimeoutError) as e:
        return f"no connection: {e or type(e).__name__}"
    try:
        # an HTTP server speaks only when spoken to: this line makes it answer 400, 401 or 404
        writer.write(b"GET /consortium-way HTTP/1.0\r\n\r\n")
        line = await asyncio.wait_for(reader.readline(), _ANSWER_S)
        return line.decode("utf-8", "replace").strip()[:200] if line else "closed without a word"
    except (OSError, TimeoutError, ValueError) as e:
        return f"no answer: {str(e) or type(e).__name__}"
    finally:
        writer.close()
