"""A hold keeps the queue: nothing begins, nothing is lost, and it ends by itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from coordinator_rig import Rig, job_folder, rig

from coordinator.config import Maintenance
from coordinator.release import source_digest

pytestmark = pytest.mark.anyio
BOTH = ["alice", "bob"]
PATIENT = {"heartbeat_s": 0.3, "peer_lost_after_s": 10, "promise_s": 30, "start_window_s": 30, "peer_request_s": 8}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[Rig]:
    async with rig(tmp_path, BOTH, timeouts=PATIENT) as r:
        yield r


async def hold(r: Rig, party: str, seconds: float = 600, reason: str = "an upgrade") -> dict[str, Any]:
    answer = await r.call(party, "POST", "hold", data={"until": time.time() + seconds, "reason": reason})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def status(r: Rig, party: str) -> dict[str, Any]:
    return dict((await r.call(party, "GET", "status")).json())


async def reason_of(r: Rig, party: str, job_id: str, text: str) -> None:
    """Until the job's reason at a party holds a text."""
    end = time.monotonic() + 30
    while text not in (why := (await r.call(party, "GET", f"jobs/{job_id}")).json()["reason"]):
        assert time.monotonic() < end, why
        await asyncio.sleep(0.05)


async def test_what_runs_goes_on_and_the_queue_waits_over_a_restart(two: Rig) -> None:
    runs = await two.submit("alice", job_folder(BOTH, parameters={"seconds": 2}))
    await two.until(runs, "running", *BOTH)
    assert "an upgrade" in (await hold(two, "alice"))["held"]
    waits = await two.submit("alice", job_folder(BOTH, name="waits"))
    await two.until(runs, "succeeded", *BOTH)
    await two.until(waits, "approved", *BOTH)
    await two.stop("alice")
    await two.start("alice")
    assert "an upgrade" in (await status(two, "alice"))["held"]
    await asyncio.sleep(1)
    assert (await two.call("alice", "GET", f"jobs/{waits}")).json()["attempt"] == 0

    assert (await two.call("alice", "POST", "resume", data={"reason": "healthy"})).json() == {"held": ""}
    await two.until(waits, "succeeded", *BOTH)
    kinds = [r.content for r in two.running["alice"].context.store.records() if '"kind":"hold"' in r.content]
    assert len(kinds) == 2
    assert "goes on: healthy" in kinds[1]


async def test_who_holds_refuses_by_that_name_and_is_asked_again(two: Rig) -> None:
    await hold(two, "bob")
    job = await two.submit("alice", job_folder(BOTH))
    await reason_of(two, "alice", job, "bob refused attempt 1: bob begins no attempt until ")
    await two.call("bob", "POST", "resume", data={"reason": "rolled back: no answer"})
    await two.until(job, "succeeded", *BOTH)


async def test_a_hold_ends_by_itself(two: Rig) -> None:
    await hold(two, "alice", 1.5)
    job = await two.submit("alice", job_folder(BOTH))
    await two.until(job, "succeeded", *BOTH)
    assert (await status(two, "alice"))["held"] == ""


@pytest.mark.parametrize("seconds", [-1, 8 * 86400])
async def test_a_hold_of_the_past_or_for_weeks_is_refused(two: Rig, seconds: float) -> None:
    answer = await two.call("alice", "POST", "hold", data={"until": time.time() + seconds, "reason": "x"})
    assert answer.status_code == 422
    assert "later than now" in answer.text


async def test_another_coordinator_than_the_agreed_one_promises_nothing(tmp_path: Path) -> None:
    agreed = {"alice": source_digest(), "bob": "0" * 64}
    async with rig(tmp_path, BOTH, timeouts=PATIENT, release=lambda party: agreed[party]) as r:
        job = await r.submit("alice", job_folder(BOTH))
        await reason_of(r, "alice", job, f"the coordinator of bob is {source_digest()}, agreed is {'0' * 64}")
        assert (await r.call("alice", "GET", f"jobs/{job}")).json()["phase"] == "approved"


async def test_a_party_that_is_away_in_the_window_does_not_end_a_job(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    window = {"from": (now - timedelta(hours=1)).isoformat(), "to": (now + timedelta(hours=1)).isoformat()}
    quick = {"heartbeat_s": 0.1, "peer_lost_after_s": 2, "promise_s": 1, "peer_request_s": 0.5}
    async with rig(tmp_path, BOTH, timeouts=quick, maintenance=window, limits={"prepare_rounds": 1}) as r:
        await hold(r, "alice")
        job = await r.submit("alice", job_folder(BOTH))
        await r.until(job, "approved", *BOTH)
        await r.stop("bob")
        await r.call("alice", "POST", "resume", data={"reason": "done"})
        end = time.monotonic() + 30
        while (seen := (await r.call("alice", "GET", f"jobs/{job}")).json())["attempt"] < 2:
            assert time.monotonic() < end, seen["reason"]
            await asyncio.sleep(0.05)
        await r.start("bob")
        await r.until(job, "succeeded", *BOTH)


def test_a_window_has_a_beginning_and_an_end() -> None:
    window = Maintenance.model_validate({"from": "2026-12-01T22:00:00Z", "to": "2026-12-01T23:00:00Z"})
    at = datetime(2026, 12, 1, 22, tzinfo=UTC).timestamp()
    assert [window.open(at + offset) for offset in (-1, 0, 3599, 3600)] == [False, True, True, False]
