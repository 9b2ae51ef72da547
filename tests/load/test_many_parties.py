"""24 coordinators in one process: the protocol itself, at a size nobody starts by hand."""

from __future__ import annotations

import asyncio
import resource
from pathlib import Path

import pytest

from tests.coordinator.coordinator_rig import Rig

COUNT = 24
NAMES = [f"party-{k:02}" for k in range(COUNT)]
# All coordinators share one loop, so each has a small part of its time; heartbeats alone are 552 requests a round.
SLOW = {
    "heartbeat_s": 60,
    "peer_lost_after_s": 300,
    "peer_request_s": 120,
    "peer_transfer_s": 120,
    "promise_s": 300,
    "start_window_s": 300,
    "job_s": 600,
}
LIMIT_S = 400


@pytest.fixture
def many_descriptors() -> None:
    """Every pair has connections of its own, with both ends in this process."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@pytest.mark.usefixtures("many_descriptors")
def test_24_parties_succeed_together_and_fail_together(tmp_path: Path) -> None:
    async def run() -> None:
        async with Rig(tmp_path, NAMES, timeouts=SLOW) as r:
            await r.start()
            for party in NAMES:  # before that, each pair would have to prove its ways once more
                while not all(p["up"] for p in (await r.call(party, "GET", "status")).json()["peers"].values()):
                    await asyncio.sleep(1)
            r.messages.clear()
            job_id = await r.submit(NAMES[0])
            assert await r.end(job_id, limit_s=LIMIT_S) == "succeeded"
            few = dict(r.messages)
            for party in NAMES:
                signed = {s["party"] for s in (await r.job(party, job_id))["statements"] if s["kind"] == "outcome"}
                assert signed == set(NAMES)
            print(few)
            failing = await r.submit(NAMES[1], parameters={"fails": {NAMES[-1]: "error"}})
            assert await r.end(failing, limit_s=LIMIT_S) == "failed"
            print(dict(r.messages))

    asyncio.run(run())
