"""Each party in Kuscia mode is killed at every place that it passes, and goes on from its record and its node."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from coordinator import failpoints
from coordinator.audit_verify import verify
from coordinator.failpoints import KUSCIA_FAILPOINTS, Effect, KusciaEffect, KusciaStep, Step
from tests.coordinator.crash_rig import CrashRig
from tests.coordinator.kuscia_jobs import folder
from tests.coordinator.kuscia_nodes import Network
from tests.coordinator.kuscia_rig import KusciaRig

pytestmark = pytest.mark.long


class KusciaCrashRig(KusciaRig, CrashRig):
    """Coordinators that can be crashed, each with a node that lives on."""

    async def __aenter__(self) -> KusciaCrashRig:
        failpoints.hook = self._pass
        await KusciaRig.__aenter__(self)
        return self

    async def propose(self, party: str = "alice", **fields: Any) -> str:
        """Submit a pipeline, insisting; returns the job id."""
        files = {"bundle": ("job.tar", folder(**fields))}
        return str((await self.insist(party, "jobs", "the-key", files=files))["job_id"])


Story = Callable[[KusciaCrashRig, str], Awaitable[tuple[str, str]]]


async def again(r: KusciaCrashRig, _victim: str) -> tuple[str, str]:
    """The first attempt fails, the second succeeds."""
    r.network.fate = lambda name: "Failed" if name.endswith("-1") else "Succeeded"
    return await r.propose(max_attempts=2), "succeeded"


async def cancelled(r: KusciaCrashRig, victim: str) -> tuple[str, str]:
    job_id = await r.propose(max_attempts=2)
    await r.until(job_id, "running")
    await r.insist(victim, f"jobs/{job_id}/cancel", "enough")
    return job_id, "cancelled"


async def denied(r: KusciaCrashRig, _victim: str) -> tuple[str, str]:
    job_id = await r.propose()
    await r.until(job_id, "proposed", "bob")
    await r.insist("bob", f"jobs/{job_id}/deny", "no")
    return job_id, "cancelled"


async def suspended(r: KusciaCrashRig, _victim: str) -> tuple[str, str]:
    job_id = await r.propose()
    await r.until(job_id, "running")
    await r.insist("bob", f"jobs/{job_id}/suspend", "x")
    await r.until(job_id, "suspended")
    r.network.fate = lambda _: "Succeeded"
    await r.insist("alice", f"jobs/{job_id}/restart", "y")
    return job_id, "succeeded"


BOTH = ("alice", "bob")
COMMON = (Step.APPROVED, Step.START, Step.LAUNCHED, Step.OUTCOME, Step.RETRY, Step.END)
PASSED: dict[Story, dict[str, tuple[str, ...]]] = {
    again: {
        **dict.fromkeys(COMMON, BOTH),
        Step.SUBMIT: ("alice",),
        Step.APPROVAL: BOTH,
        Step.RECEIVE_PROPOSAL: ("bob",),
        Effect.KEEP_BUNDLE: BOTH,
        KusciaEffect.CREATE: ("alice",),
        KusciaEffect.ANSWER: ("bob",),
    },
    cancelled: {Step.CANCEL: BOTH, KusciaEffect.CANCEL: BOTH},
    denied: {Step.VERDICT: ("bob",), Step.CLOSED: BOTH, Step.DRIVER_GONE: BOTH},
    suspended: {KusciaStep.SUSPEND: BOTH, KusciaStep.RESUME: BOTH},
}
CASES = [
    (story, victim, f"{when}-{name}")
    for story, places in PASSED.items()
    for name, victims in places.items()
    for victim in victims
    for when in ("before", "after")
    if when == "after" or isinstance(name, KusciaEffect)  # before a step nothing is there that was not after the last
]


def test_nothing_of_this_mode_is_left_out() -> None:
    tried = {name for _, _, name in CASES}
    assert {n for n in KUSCIA_FAILPOINTS if n.startswith("after-")} <= tried
    assert {f"before-{effect}" for effect in KusciaEffect} <= tried


@pytest.mark.parametrize(("story", "victim", "name"), CASES, ids=[f"{s.__name__}-{v}-{n}" for s, v, n in CASES])
def test_crash_and_restart(tmp_path: Path, story: Story, victim: str, name: str) -> None:
    async def run() -> None:
        network = Network(["alice", "bob"], fate=lambda _: "")
        policy = {"default": "person" if story is denied else "approve"}
        async with KusciaCrashRig(tmp_path, network=network, policy=policy) as r:
            r.restart_s = 0.05
            await r.start()
            r.arm(victim, name)
            job_id, expected = await story(r, victim)
            assert await r.end(job_id) == expected
            await r.revived()
            assert r.crashes == [(victim, name)]
            tries = 2 if story is again else 1
            for party in r.parties:
                assert sorted(network.nodes[party].jobs) == [f"{job_id}-{n + 1}" for n in range(tries)]
                context = r.running[party].context
                assert verify(context.store.records(), party, context.verifier).fault is None

    asyncio.run(run())
