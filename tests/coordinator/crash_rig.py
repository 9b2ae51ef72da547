"""A rig whose coordinators can be crashed at a failpoint, each for itself, though they share this process.

A crash leaves what a `kill -9` leaves: what was committed, and the drivers, which belong to Ray. From the moment it is
hit, the crashed party passes no other failpoint, so it makes no durable step and no effect any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from coordinator import failpoints
from coordinator.app import Coordinator
from coordinator.audit_verify import verify
from coordinator.launcher import submission_id
from tests.coordinator.coordinator_rig import Rig, job_folder

RESTART_S = 0.2


class Crashed(BaseException):
    """This party is dead. No handler of errors may catch it, as none could catch a SIGKILL."""


class CrashRig(Rig):
    """`arm` a failpoint, and the party that passes it crashes there and comes back a moment later."""

    def __init__(self, folder: Path, parties: list[str], **overrides: Any) -> None:
        super().__init__(folder, parties, **overrides)
        self.armed: tuple[str, str] | None = None
        self.at: dict[tuple[str, str], Callable[[], object]] = {}  # (party, failpoint) -> done once when it is passed
        self.crashes: list[tuple[str, str]] = []
        self.restart_s = RESTART_S
        self.dead: set[str] = set()
        self._revivals: set[asyncio.Task[None]] = set()

    def arm(self, party: str, name: str) -> None:
        """Crash the party when it next passes the failpoint."""
        assert name in failpoints.FAILPOINTS + failpoints.KUSCIA_FAILPOINTS
        self.armed = (party, name)

    def _pass(self, party: str, name: str) -> None:
        if party in self.dead:
            raise Crashed
        if then := self.at.pop((party, name), None):
            then()
        if self.armed == (party, name):
            self.armed = None
            self.crashes.append((party, name))
            self.dead.add(party)
            self._revivals.add(asyncio.get_running_loop().create_task(self._crash(party)))
            raise Crashed

    async def _crash(self, party: str) -> None:
        coordinator = self.running.pop(party)
        await abandon(coordinator)
        await asyncio.sleep(self.restart_s)
        hang_up(coordinator)  # who came in the moment in which it died, and had not been seen yet
        self.dead.discard(party)
        await self.start(party)

    async def __aenter__(self) -> CrashRig:
        failpoints.hook = self._pass
        await super().__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        failpoints.hook = None
        await self.revived()
        await super().__aexit__(*error)

    async def revived(self) -> None:
        """Wait until every party that crashed is back."""
        await asyncio.gather(*self._revivals)

    async def job(self, party: str, job_id: str) -> dict[str, Any]:
        """As in a rig; a party that is down just now knows nothing."""
        try:
            return await super().job(party, job_id)
        except httpx.HTTPError:
            return {"phase": "unknown", "settled": False, "terminal": False}

    def part(self, party: str) -> None:
        """Cut a party off from all others."""
        self.cut |= {pair for other in self.parties if other != party for pair in ((party, other), (other, party))}

    async def insist(self, party: str, path: str, key: str, **more: Any) -> dict[str, Any]:
        """A POST as the command sends it: again, with the same key, until there is an answer."""
        for _ in range(100):
            try:
                answer = await self.call(party, "POST", path, headers={"idempotency-key": key}, **more)
            except httpx.HTTPError:
                await asyncio.sleep(0.05)
                continue
            if answer.status_code in (200, 201):
                return dict(answer.json())
            await asyncio.sleep(0.05)
        raise AssertionError(f"{party}: {path}: {answer.status_code} {answer.text}")

    async def propose(self, party: str, **fields: Any) -> str:
        """Submit a job folder, insisting; returns the job id."""
        files = {"bundle": ("job.tar", job_folder(self.parties, **fields))}
        return str((await self.insist(party, "jobs", "the-key", files=files))["job_id"])


async def abandon(coordinator: Coordinator) -> None:
    """End a coordinator as a kill of its process would: nothing is finished, nothing is said, sockets close."""
    worker = coordinator.worker
    worker._closing = worker._doer._closing = True
    tasks = [*coordinator._tasks, *coordinator._beats.values(), *worker._steps, *worker._doer._tasks.values()]
    for task in tasks:
        task.cancel()
    for server in coordinator._servers:
        for listener in getattr(server, "servers", []):
            listener.close()
    hang_up(coordinator)
    coordinator.context.ways.release_all()
    await asyncio.gather(*tasks, return_exceptions=True)
    coordinator.context.store._group.drop()  # what no COMMIT was begun for
    coordinator.context.store.close()
    await coordinator.context.peers.close()


def hang_up(coordinator: Coordinator) -> None:
    """End every connection to a coordinator."""
    for server in coordinator._servers:
        for connection in list(server.server_state.connections):
            connection.transport.abort()


async def everything_is_let_go(r: CrashRig, job_id: str) -> None:
    """No driver, slot or port is held, nothing was launched twice, nobody lied, every audit log verifies."""
    for party in r.parties:
        ray, context = r.rays[party], r.running[party].context
        assert ray.submits == len(ray.jobs)  # no attempt was launched twice
        assert set(ray.jobs) <= {submission_id(job, n) for job in context.store.job_ids() for n in (1, 2, 3)}
        assert ray.alive() == []
        assert context.store.used_slots() == {}
        assert context.ways._held == {}
        assert verify(context.store.records(), party, context.verifier).fault is None
        job = context.store.load(job_id)
        assert job is not None
        assert job.conflicts == ()
