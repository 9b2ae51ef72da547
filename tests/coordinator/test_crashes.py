"""A crash at every failpoint of every role, then a restart: the job still ends in one agreed outcome, no driver is
launched twice, none stays behind, no slot leaks, the audit log verifies.

All of them run with parties in this process (crash_rig.py); a sample is killed for real, as processes of their own.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from coordinator_rig import Rig
from crash_rig import CrashRig

from coordinator.__main__ import main
from coordinator.audit import verify
from coordinator.failpoints import FAILPOINTS, Effect, Step
from coordinator.launcher import submission_id

Story = Callable[[CrashRig], Awaitable[str]]
PARTIES = ["alice", "bob"]
QUICK = {
    "heartbeat_s": 0.15,
    "peer_lost_after_s": 6,
    "promise_s": 6,
    "start_window_s": 10,
    "start_lead_s": 0.1,
    "peer_request_s": 1,
}


async def success(r: CrashRig) -> str:
    return await r.propose("alice")


async def second_attempt(r: CrashRig) -> str:
    """bob's driver crashes once; the other party's is stopped."""
    return await r.propose(
        "alice", parameters={"fails": {"bob": "crash-once"}, "seconds": {"alice": 2}}, max_attempts=2
    )


async def cancelled(r: CrashRig) -> str:
    """bob's person approves, and cancels while it runs; alice's would too."""
    job_id = await r.propose("alice", parameters={"seconds": 60})
    while not (await r.job("bob", job_id)).get("bundle_ready"):
        await asyncio.sleep(0.02)
    await r.insist("bob", f"jobs/{job_id}/approve", "yes")
    await r.until(job_id, {"running", "ending", "failed"})
    await r.insist(str(r.canceller), f"jobs/{job_id}/cancel", "no")
    return job_id


async def wrong(r: CrashRig) -> str:
    """A stale receiver listens at bob: a refusal that ends the job."""
    port = int(r.own["bob"]["fed"]["0"].rpartition(":")[2])
    server = await asyncio.start_server(lambda *_: None, "0.0.0.0", port)
    job_id = await r.propose("alice")
    await r.until(job_id, "failed")
    server.close()
    return job_id


async def busy(r: CrashRig) -> str:
    """bob's only slot is taken by a job of its own: a refusal after which alice asks again."""
    first = await r.submit("bob", parameters={"seconds": 1.5})
    await r.until(first, {"promised", "starting", "running"})
    r.arm_now()
    job_id = await r.propose("alice")
    await r.end(first, limit_s=40)
    return job_id


async def doubt(r: CrashRig) -> str:
    """alice goes away with bob's promise; bob lets the slot go and asks around; alice returns."""
    job_id = await r.propose("alice")
    await r.until(job_id, "promised", "bob")
    r.cut |= {("alice", "bob"), ("bob", "alice")}
    end = time.monotonic() + 10
    while (await r.job("bob", job_id)).get("slot") is not None and time.monotonic() < end:
        await asyncio.sleep(0.05)
    r.cut.clear()
    return job_id


STORIES: dict[Story, dict[str, Any]] = {
    success: {},
    second_attempt: {},
    cancelled: {"policy": lambda p: {"approve": "person"}},
    wrong: {},
    busy: {},
}

BOTH, LEADS, FOLLOWS = ("alice", "bob"), ("alice",), ("bob",)
PASSED: dict[Story, dict[Step | Effect, tuple[str, ...]]] = {
    success: {
        Step.SUBMIT: LEADS,
        Step.RECEIVE_PROPOSAL: FOLLOWS,
        Step.RECEIVE_APPROVAL: BOTH,
        Step.RECEIVE_PREPARE: FOLLOWS,
        Step.RECEIVE_PROMISE: LEADS,
        Step.RECEIVE_DECISION: FOLLOWS,
        Step.RECEIVE_READY: LEADS,
        Step.RECEIVE_GO: FOLLOWS,
        Step.RECEIVE_OUTCOME: BOTH,
        Step.RECEIPT: BOTH,
        Step.APPROVAL: BOTH,
        Step.APPROVED: BOTH,
        Step.PREPARE: LEADS,
        Step.PREPARING: FOLLOWS,
        Step.PROMISE: BOTH,
        Step.DECIDE_START: LEADS,
        Step.START: BOTH,
        Step.LAUNCHED: BOTH,
        Step.READY: BOTH,
        Step.GO: LEADS,
        Step.OUTCOME: BOTH,
        Step.DRIVER_GONE: BOTH,
        Step.END: BOTH,
        Effect.KEEP_BUNDLE: BOTH,
        Effect.LAUNCH: BOTH,
        Effect.TELL_GO: BOTH,
    },
    second_attempt: {Step.RETRY: BOTH, Effect.STOP: LEADS},
    cancelled: {Step.VERDICT: FOLLOWS, Step.CANCEL: BOTH, Step.RECEIVE_CANCEL: BOTH, Effect.STOP: FOLLOWS},
    wrong: {Step.REFUSE: FOLLOWS, Step.DECIDE_ABORT: LEADS, Step.CLOSED: FOLLOWS},
    busy: {Step.ABORTED: FOLLOWS},
}
CASES = [
    (story, party, f"{when}-{name}")
    for story, names in PASSED.items()
    for name, parties in names.items()
    for party in parties
    for when in ("before", "after")
]
ELSEWHERE = {Step.ABSENT, Step.IN_DOUBT, Step.GIVE_UP, Step.SETTLE, Step.DIVERGE}
"""Passed only when something else has gone wrong before: the tests below the large one."""


def test_every_failpoint_is_crashed_at() -> None:
    covered = {name for _, _, name in CASES} | {f"{w}-{s}" for s in ELSEWHERE for w in ("before", "after")}
    assert covered == set(FAILPOINTS)


@pytest.mark.parametrize(("story", "victim", "name"), CASES, ids=[f"{s.__name__}-{v}-{n}" for s, v, n in CASES])
def test_crash_and_restart(tmp_path: Path, story: Story, victim: str, name: str) -> None:
    async def run() -> None:
        async with CrashRig(tmp_path, PARTIES, timeouts=QUICK, **STORIES[story]) as r:
            await r.start()
            r.canceller = victim if name.endswith("-cancel") and "receive" not in name else _other(victim)
            r.arm_now = lambda: r.arm(victim, name)
            if story is not busy:
                r.arm_now()
            job_id = await story(r)
            label = await r.end(job_id, limit_s=40)
            assert r.crashes == [(victim, name)]
            await r.revived()
            expected = {success: {"succeeded"}, second_attempt: {"succeeded"}, cancelled: {"cancelled"}}
            assert label in expected.get(story, {"failed", "succeeded"})
            await everything_is_let_go(r, job_id)

    asyncio.run(run())


def _other(party: str) -> str:
    return PARTIES[1 - PARTIES.index(party)]


async def everything_is_let_go(r: CrashRig, job_id: str) -> None:
    for party in r.parties:
        ray, context = r.rays[party], r.running[party].context
        assert ray.submits == len(ray.jobs)  # no attempt was launched twice
        assert set(ray.jobs) <= {submission_id(job, n) for job in context.store.job_ids() for n in (1, 2, 3)}
        assert ray.alive() == []
        assert context.store.used_slots() == {}
        assert context.ways._held == {}
        assert verify(context.store.records(), party, context.verifier).fault == ""
        job = context.store.load(job_id)
        assert job is not None
        assert job.conflicts == ()


REAL = [
    ("alice", "after-decide-start:1"),  # the decision is durable, nobody has heard of it
    ("alice", "after-launch:1"),  # the driver runs, the record does not say so
    ("alice", "before-go:1"),
    ("alice", "after-outcome:1"),  # the outcome is signed, nobody has it
    ("bob", "after-promise:1"),  # promised, the initiator does not know
    ("bob", "before-launch:1"),
    ("bob", "after-tell-go:1"),
]


@pytest.mark.parametrize(("victim", "failpoint"), REAL, ids=[f"{v}-{f}" for v, f in REAL])
def test_kill_a_process_and_restart(
    tmp_path: Path, victim: str, failpoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    slow = {"peer_lost_after_s": 15, "promise_s": 20, "start_window_s": 20, "heartbeat_s": 0.5, "start_lead_s": 0.3}

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
