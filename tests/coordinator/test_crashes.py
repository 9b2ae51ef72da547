"""kill -9 of a real coordinator process right after or before a durable step, then a restart: the job still ends in
one agreed outcome, no driver is launched twice, none stays behind, no slot leaks."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest
from coordinator_rig import Rig

from coordinator.__main__ import main

CASES = [
    ("alice", "phase-promised:2"),  # the decision is durable, nobody has heard of it
    ("alice", "after-launch:1"),  # the driver runs, the record does not say so
    ("alice", "phase-ending:1"),  # the outcome is signed, nobody has it
    ("bob", "phase-promised:1"),  # promised, the initiator does not know
    ("bob", "before-launch:1"),
    ("bob", "after-launch:1"),
]


@pytest.mark.parametrize(("victim", "failpoint"), CASES, ids=[f"{v}-{f}" for v, f in CASES])
def test_kill_and_restart(tmp_path: Path, victim: str, failpoint: str, capsys: pytest.CaptureFixture[str]) -> None:
    slow = {"peer_lost_after_s": 15, "promise_s": 20, "start_window_s": 20, "heartbeat_s": 0.5, "start_lead_s": 1}

    async def run() -> str:
        async with Rig(tmp_path, ["alice", "bob"], timeouts=slow) as r:
            for party in r.parties:
                r.spawn(party, failpoint if party == victim else "")
            await r.wait_up(*r.parties)
            job_id = await r.submit("alice")
            child = r.children[victim]
            for _ in range(400):
                if child.poll() is not None:
                    break
                await asyncio.sleep(0.05)
            assert child.returncode == -signal.SIGKILL
            r.spawn(victim)
            await r.wait_up(victim)
            label = await r.end(job_id, limit_s=60)
            for party in r.parties:
                assert len(r.rays[party].processes) == r.rays[party].submits <= 1
                assert r.rays[party].alive() == []
                assert (await r.call(party, "GET", "status")).json()["slots"]["used"] == {}
            for party in r.parties:  # a polite end
                r.children[party].terminate()
                assert r.children[party].wait(10) == 0
            return label

    assert asyncio.run(run()) == "succeeded"
    for party in ("alice", "bob"):
        assert main(["audit", "verify", "--config", str(tmp_path / party / "coordinator.json")]) == 0
    assert '"fault": ""' in capsys.readouterr().out
