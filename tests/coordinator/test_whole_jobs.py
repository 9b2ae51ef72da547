"""Whole jobs over real HTTP between coordinators in this process, with drivers that are real processes."""

from __future__ import annotations

import asyncio
from pathlib import Path

from coordinator_rig import rig


def test_two_parties_run_a_job_to_an_agreed_success(tmp_path: Path) -> None:
    async def body() -> None:
        async with rig(tmp_path) as r:
            job_id = await r.submit("alice")
            assert await r.end(job_id) == "succeeded"
            for party in r.parties:
                seen = await r.job(party, job_id)
                assert set(seen["outcomes"]) == {"alice", "bob"}
                assert seen["skew_ms"] < 50
                result = (await r.call(party, "GET", f"jobs/{job_id}/result")).json()
                assert result["party"] == party
                assert r.rays[party].submits == 1

    asyncio.run(body())
