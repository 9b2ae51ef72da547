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
from crash_rig import CrashRig, everything_is_let_go

from coordinator.__main__ import main
from coordinator.failpoints import FAILPOINTS, Effect, Step
from coordinator.model import Draft
from coordinator.signing import Signer
from coordinator.statements import Kind, OutcomeBody

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
IMPATIENT = QUICK | {"promise_s": 1.5, "peer_lost_after_s": 2}


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
    # whoever is to crash in its own wish expresses it; else the other, so that the victim receives it
    victim, name = r.armed or ("", "")
    canceller = victim if name.endswith(f"-{Step.CANCEL}") and "receive" not in name else PARTIES[victim == "alice"]
    await r.insist(canceller, f"jobs/{job_id}/cancel", "no")
    return job_id


async def wrong(r: CrashRig) -> str:
    """A stale receiver listens at bob: a refusal that ends the job."""
    port = int(r.own["bob"]["fed"]["0"].rpartition(":")[2])
    server = await asyncio.start_server(lambda *_: None, "0.0.0.0", port)
    job_id = await r.propose("alice")
    await r.until(job_id, "failed")
    server.close()
    return job_id


async def unheard(r: CrashRig) -> str:
    """bob promises, and nobody hears of it: bob lets its slot go, alice aborts and asks again."""
    r.at["bob", "after-promise"] = lambda: r.part("bob")
    job_id = await r.propose("alice")
    await met(lambda: decided(r, "alice", job_id))
    await met(lambda: let_go(r, "bob", job_id))
    r.cut.clear()
    return job_id


async def absent(r: CrashRig) -> str:
    """alice goes away with bob's promise; carol, who was not even asked, settles it when bob asks around."""
    r.at["alice", "before-prepare"] = lambda: r.cut.add(("alice", "carol"))
    r.at["bob", "after-promise"] = lambda: r.part("alice")
    job_id = await r.propose("alice")
    await met(lambda: told(r, "bob", job_id))
    r.cut.clear()
    return job_id


async def hopeless(r: CrashRig) -> str:
    """alice goes away with bob's promise until long after the deadline."""
    r.at["bob", "after-promise"] = lambda: r.part("bob")
    job_id = await r.propose("alice", start_within_s=2.5)
    await met(lambda: ended(r, "bob", job_id))
    r.cut.clear()
    return job_id


async def apart(r: CrashRig) -> str:
    """Both run, the network goes, both end without the other's signature; then it comes back."""
    job_id = await r.propose("alice", parameters={"seconds": 60})
    await met(lambda: both_running(r, job_id))
    r.part("bob")
    for party in r.parties:
        await met(lambda name=party: ended(r, name, job_id))
    r.cut.clear()
    return job_id


async def met(condition: Callable[[], Awaitable[bool]], limit_s: float = 25) -> None:
    end = time.monotonic() + limit_s
    while not await condition():
        assert time.monotonic() < end, "the story does not get there"
        await asyncio.sleep(0.03)


async def decided(r: CrashRig, party: str, job_id: str) -> bool:
    attempts = (await r.job(party, job_id)).get("attempts", [])
    return bool(attempts) and attempts[0]["decision"] is not None


async def let_go(r: CrashRig, party: str, job_id: str) -> bool:
    return "in doubt" in str((await r.job(party, job_id)).get("events"))


async def told(r: CrashRig, party: str, job_id: str) -> bool:
    return "had not promised attempt" in str((await r.job(party, job_id)).get("events"))


async def ended(r: CrashRig, party: str, job_id: str) -> bool:
    return bool((await r.job(party, job_id))["terminal"])


async def both_running(r: CrashRig, job_id: str) -> bool:
    return all([(await r.job(p, job_id))["phase"] == "running" for p in r.parties])


STORIES: dict[Story, dict[str, Any]] = {
    success: {},
    second_attempt: {},
    cancelled: {"policy": lambda p: {"approve": "person"}},
    wrong: {},
    unheard: {"timeouts": IMPATIENT},
    absent: {"timeouts": IMPATIENT},
    hopeless: {"timeouts": IMPATIENT},
    apart: {"timeouts": IMPATIENT},
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
    unheard: {Step.IN_DOUBT: FOLLOWS, Step.ABORTED: FOLLOWS},
    absent: {Step.ABSENT: ("carol",)},
    hopeless: {Step.GIVE_UP: FOLLOWS},
    apart: {Step.SETTLE: BOTH},
}
CASES = [
    (story, party, f"{when}-{name}")
    for story, names in PASSED.items()
    for name, parties in names.items()
    for party in parties
    for when in ("before", "after")
]
DIVERGE = [f"{when}-{Step.DIVERGE}" for when in ("before", "after")]


def test_every_failpoint_is_crashed_at() -> None:
    assert {name for _, _, name in CASES} | set(DIVERGE) == set(FAILPOINTS)


@pytest.mark.parametrize(("story", "victim", "name"), CASES, ids=[f"{s.__name__}-{v}-{n}" for s, v, n in CASES])
def test_crash_and_restart(tmp_path: Path, story: Story, victim: str, name: str) -> None:
    async def run() -> None:
        parties = [*PARTIES, "carol"] if story is absent else PARTIES
        async with CrashRig(
            tmp_path, parties, **{"timeouts": QUICK, "limits": {"prepare_rounds": 30}} | STORIES[story]
        ) as r:
            await r.start()
            r.arm(victim, name)
            job_id = await story(r)
            label = await r.end(job_id, limit_s=40)
            assert r.crashes == [(victim, name)]
            await r.revived()
            expected = {cancelled: "cancelled", wrong: "failed", hopeless: "failed", apart: "failed"}
            assert label == expected.get(story, "succeeded"), (await r.job("alice", job_id))["reason"]
            await everything_is_let_go(r, job_id)

    asyncio.run(run())


@pytest.mark.parametrize("name", DIVERGE)
def test_crash_while_a_lie_is_recorded(tmp_path: Path, name: str) -> None:
    async def run() -> None:
        async with CrashRig(tmp_path, PARTIES, timeouts=QUICK) as r:
            await r.start()
            r.arm("alice", name)
            job_id = await r.propose("alice", parameters={"seconds": 60})
            await r.until(job_id, "running")
            liar = Signer("demo", "bob", r._keys["bob"])
            for status in ("failed", "cancelled"):
                body = OutcomeBody.model_validate({"status": status, "ended_at": 1})
                said = liar.statement(job_id, Draft(Kind.OUTCOME, 1, body))
                await r.running["bob"].context.peers.deliver("alice", [said])
            await met(lambda: phase_is(r, "alice", job_id, "diverged"))
            await r.revived()
            assert r.crashes == [("alice", name)]
            seen = await r.job("alice", job_id)
            assert [s["body"]["status"] for s in seen["conflicts"][0]] == ["failed", "cancelled"]
            await met(lambda: no_driver(r, "alice"))

    asyncio.run(run())


async def phase_is(r: CrashRig, party: str, job_id: str, phase: str) -> bool:
    return (await r.job(party, job_id))["phase"] == phase


async def no_driver(r: CrashRig, party: str) -> bool:
    return r.rays[party].alive() == [] and r.running[party].context.store.used_slots() == {}


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
    slow = {"peer_lost_after_s": 30, "promise_s": 30, "start_window_s": 60, "heartbeat_s": 0.5, "start_lead_s": 0.3}

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
            assert label == "succeeded", [e["reason"] for e in (await r.job("alice", job_id))["events"]]
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
