"""Many jobs and many parties: who comes first, who waits, what a cancel does at each step, and 2 to 10 parties."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from coordinator_rig import Rig, rig
from crash_rig import CrashRig, everything_is_let_go

from coordinator import submit as operations
from coordinator.failpoints import Step

QUICK = {"heartbeat_s": 0.15, "peer_lost_after_s": 8, "promise_s": 8, "start_window_s": 12, "peer_request_s": 2}
STEPS = (
    Step.APPROVED,
    Step.PREPARE,
    Step.PREPARING,
    Step.PROMISE,
    Step.DECIDE_START,
    Step.START,
    Step.LAUNCHED,
    Step.READY,
    Step.GO,
    Step.OUTCOME,
)
ONE_SIDED = {Step.PREPARE: "alice", Step.DECIDE_START: "alice", Step.GO: "alice", Step.PREPARING: "bob"}
CANCELS = [(p, step) for step in STEPS for p in ("alice", "bob") if ONE_SIDED.get(step, p) == p]


@pytest.mark.parametrize(("party", "step"), CANCELS, ids=[f"{p}-{s}" for p, s in CANCELS])
def test_cancel_at_every_step(tmp_path: Path, party: str, step: Step) -> None:
    async def run() -> None:
        async with CrashRig(tmp_path, ["alice", "bob"], timeouts=QUICK) as r:
            await r.start()
            wishes: list[str] = []

            def wish() -> None:
                context, worker = r.running[party].context, r.running[party].worker
                job_id = context.store.job_ids()[0]
                operations.cancel(context, job_id, "changed my mind")
                worker.enqueue(job_id)
                wishes.append(job_id)

            r.at[party, f"after-{step}"] = lambda: asyncio.get_running_loop().call_soon(wish)
            job_id = await r.propose("alice", parameters={"seconds": {"alice": 0.3, "bob": 0.3}})
            label = await r.end(job_id)
            assert wishes == [job_id]
            assert label == "cancelled" or (step is Step.OUTCOME and label == "succeeded")
            await everything_is_let_go(r, job_id)

    asyncio.run(run())


def test_the_queue_goes_by_priority_and_then_by_age(tmp_path: Path) -> None:
    async def run() -> None:
        async with rig(tmp_path, timeouts=QUICK) as r:
            first = await r.submit("alice", parameters={"seconds": 120})
            await r.until(first, "running")
            waiting = {
                name: await r.submit("alice", name=name, priority=priority)
                for name, priority in (("late", -5), ("older", 0), ("younger", 0), ("urgent", 5))
            }
            for job_id in waiting.values():
                await r.until(job_id, "approved")
            await r.call("alice", "POST", f"jobs/{first}/cancel")
            for job_id in waiting.values():
                assert await r.end(job_id, limit_s=40) == "succeeded"
            begun = list(r.rays["alice"].jobs)[1:]
            order = [name for sub in begun for name, job_id in waiting.items() if job_id in sub]
            assert order == ["urgent", "older", "younger", "late"]

    asyncio.run(run())


def test_the_ports_of_a_free_slot_are_free(tmp_path: Path) -> None:
    """Else the checks of the next job would take this party itself for a stale process, and end that job for good."""

    async def run() -> None:
        async with rig(tmp_path, timeouts=QUICK) as r:
            context = r.running["alice"].context
            durable, wrong = context.store.durable, []

            async def watched(*since: int) -> None:
                used = set(context.store.used_slots().values())
                wrong.extend(job for job in context.ways._held if job not in used)
                await durable(*since)

            context.store.durable = watched  # type: ignore[method-assign]
            job_id = await r.submit("alice", parameters={"load_seconds": {"alice": 60, "bob": 60}})
            await r.until(job_id, "running")
            while not context.ways._held:
                await asyncio.sleep(0.02)
            await r.call("alice", "POST", f"jobs/{job_id}/cancel")
            assert await r.end(job_id) == "cancelled"
            assert wrong == []

    asyncio.run(run())


def test_a_job_that_pauses_lets_others_pass(tmp_path: Path) -> None:
    """bob has one slot, taken by a job with carol: alice's first job waits for it, the one without bob does not."""

    async def run() -> None:
        async with rig(tmp_path, ["alice", "bob", "carol"], timeouts=QUICK, slots=1) as r:
            taken = await r.submit("bob", folder_of(["bob", "carol"], parameters={"seconds": 3}))
            await r.until(taken, "running", "bob", "carol")
            blocked = await r.submit("alice", folder_of(["alice", "bob"], priority=5))
            await r.until(blocked, {"preparing", "approved"}, "alice")
            assert await r.end(taken, "bob", "carol", limit_s=40) == "succeeded"
            assert await r.end(blocked, "alice", "bob", limit_s=40) == "succeeded"
            assert "every slot is in use" in str((await r.job("alice", blocked))["events"])

    asyncio.run(run())


def folder_of(parties: list[str], **fields: Any) -> bytes:
    from coordinator_rig import job_folder

    return job_folder(parties, **fields)


def test_jobs_on_separate_slots_run_at_the_same_time(tmp_path: Path) -> None:
    async def run() -> None:
        async with rig(tmp_path, slots=3, timeouts=QUICK) as r:
            jobs = [await r.submit(p, parameters={"seconds": 4}) for p in ("alice", "bob", "alice")]
            for job_id in jobs:
                await r.until(job_id, "running")
            slots = (await r.call("bob", "GET", "status")).json()["slots"]["used"]
            assert sorted(slots.values()) == sorted(jobs)
            for job_id in jobs:
                assert await r.end(job_id) == "succeeded"

    asyncio.run(run())


def test_a_job_not_started_in_its_time_is_given_up_everywhere(tmp_path: Path) -> None:
    async def run() -> None:
        async with rig(tmp_path, timeouts=QUICK) as r:
            first = await r.submit("alice", parameters={"seconds": 3})
            await r.until(first, "running")
            job_id = await r.submit("alice", start_within_s=1)
            assert await r.end(job_id) == "failed"
            assert "deadline" in (await r.job("bob", job_id))["reason"]
            assert await r.end(first) == "succeeded"

    asyncio.run(run())


NAMES = ["alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi", "ivan", "judy"]


@pytest.mark.parametrize("count", [2, 3, 5, 10])
def test_two_to_ten_parties(tmp_path: Path, count: int) -> None:
    async def run() -> None:
        # all coordinators share one loop here, so each has a small part of its time
        slow = {"heartbeat_s": 3, "peer_lost_after_s": 60, "peer_request_s": 30, "promise_s": 80, "start_window_s": 90}
        async with Rig(tmp_path, NAMES[:count], timeouts=slow) as r:
            await r.start()
            failing = {"fails": {NAMES[count - 1]: "crash-once"}}
            job_id = await r.submit("alice", parameters=failing, max_attempts=2)
            assert await r.end(job_id, limit_s=240) == "succeeded"
            signed = [
                {s["party"] for s in (await r.job(p, job_id))["statements"] if s["kind"] == "outcome"}
                for p in r.parties
            ]
            assert signed == [set(r.parties)] * count
            assert all(ray.submits == 2 and ray.alive() == [] for ray in r.rays.values())

    asyncio.run(run())
