"""24 coordinators in one process: the protocol itself, at a size nobody starts by hand."""

from __future__ import annotations

import asyncio
import resource
from pathlib import Path

import pytest

from tests.coordinator.coordinator_rig import Rig

COUNT = 24
NAMES = [f"party-{k:02}" for k in range(COUNT)]
# All coordinators share one loop, so each has a small part of its time: heartbeats alone are 552 requests a round.
SLOW = {
    "heartbeat_s": 15,
    "peer_lost_after_s": 300,
    "peer_request_s": 120,
    "peer_transfer_s": 120,
    "promise_s": 300,
    "start_window_s": 300,
    "job_s": 600,
}
LIMIT_S = 1200
ONCE = ("proposal", "bundle", "approval", "prepare", "promise", "decision", "ready", "go")


@pytest.fixture
def many_descriptors() -> None:
    """Every pair has connections of its own, with both ends in this process."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@pytest.mark.timeout(1500)
@pytest.mark.usefixtures("many_descriptors")
def test_24_parties_succeed_together_and_fail_together(tmp_path: Path) -> None:
    async def run() -> None:
        async with Rig(tmp_path, NAMES, timeouts=SLOW) as r:
            r.up_s = LIMIT_S
            await r.start()
            for party in NAMES:  # before that, each pair would have to prove its ways once more
                while not all(p["up"] for p in (await r.call(party, "GET", "status")).json()["peers"].values()):
                    await asyncio.sleep(1)
            r.messages.clear()
            await everyone_holds(r, await r.submit(NAMES[0]), "succeeded")
            others = COUNT - 1
            # all but outcomes in proportion to the parties, approvals twice; room for what a busy loop sends again
            assert all(others <= r.messages[kind] <= 3 * others for kind in ONCE), r.messages
            assert COUNT * others <= r.messages["outcome"] <= 2 * COUNT * others, r.messages
            await everyone_holds(r, await r.submit(NAMES[1], parameters={"fails": {NAMES[-1]: "error"}}), "failed")
            assert all(ray.alive() == [] for ray in r.rays.values())
            assert all(c.context.store.used_slots() == {} for c in r.running.values())

    asyncio.run(run())


async def everyone_holds(r: Rig, job_id: str, label: str) -> None:
    """The job ends alike everywhere, with all 24 signatures at everyone."""
    for party in NAMES:  # the store is asked: 24 detailed views thirty times a second would be most of the work
        store = r.running[party].context.store
        while not ((job := store.load(job_id)) and job.phase.terminal and job.settled):
            await asyncio.sleep(0.2)
        assert job.phase == label, (party, job.reason)
        assert set(job.outcomes(job.attempt)) == set(NAMES)
