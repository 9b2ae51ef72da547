"""Two coordinators in Kuscia mode, each before KusciaAPI with a real API server behind it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from tests.coordinator.kuscia_rig import Door, KusciaParties
from tests.kuscia.conformance import Node
from tests.kuscia.conformance_jobs import Play

pytestmark = pytest.mark.kubernetes
Nodes = dict[str, Node]


@contextlib.contextmanager
def playing(nodes: Nodes, fate: Callable[[str], str]) -> Iterator[Play]:
    """Kuscia's controllers: every job is carried, runs, and ends as `fate` says of its name ("" = not yet)."""
    play, ended = Play(*(node.jobs for node in nodes.values())), threading.Event()

    def work() -> None:
        while not ended.wait(0.05):
            for job in nodes["alice"].jobs.all():
                name, phase = job["metadata"]["name"], job.get("status", {}).get("phase", "")
                if phase not in ("Succeeded", "Failed", "Cancelled", "ApprovalReject"):
                    play.carry(name)
                if phase == "Pending":
                    play.goes(name, "Running")
                elif phase == "Running" and (end := fate(name)):
                    play.goes(name, end, message="exit code 1" if end == "Failed" else "")

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield play
    finally:
        ended.set()
        thread.join()


def run(home: Path, nodes: Nodes, fate: Callable[[str], str], body: Callable[[KusciaParties], Awaitable[None]]) -> None:
    async def work() -> None:
        doors = {party: Door(node.url, node.files, node.token) for party, node in nodes.items()}
        async with KusciaParties(home, doors) as rig:
            await rig.start()
            await body(rig)

    with playing(nodes, fate):
        asyncio.run(work())


def test_a_job_is_approved_fails_is_tried_again_and_succeeds(tmp_path: Path, nodes: Nodes) -> None:
    async def body(rig: KusciaParties) -> None:
        job_id = await rig.propose(max_attempts=2)
        for node in nodes.values():
            node.jobs.logs[f"{job_id}-2-0"] = ["42 rows\n"]
        assert await rig.end(job_id, limit_s=60) == "succeeded"
        for party in rig.parties:
            view = await rig.job(party, job_id)
            assert [a["outcomes"][party]["status"] for a in view["attempts"]] == ["failed", "succeeded"]
            assert "exit code 1" in view["attempts"][0]["outcomes"][party]["error"]
        assert "42 rows" in (await rig.call("bob", "GET", f"jobs/{job_id}/logs")).text

    run(tmp_path, nodes, lambda name: "Failed" if name.endswith("-1") else "Succeeded", body)


@pytest.mark.parametrize("who", ["alice", "bob"])
def test_suspended_restarted_cancelled(tmp_path: Path, nodes: Nodes, who: str) -> None:
    async def body(rig: KusciaParties) -> None:
        job_id = await rig.propose(max_attempts=2)
        await rig.until(job_id, "running", limit_s=60)
        assert (await rig.call(who, "POST", f"jobs/{job_id}/suspend")).status_code == 200
        await rig.until(job_id, "suspended", limit_s=60)
        assert (await rig.call("alice", "POST", f"jobs/{job_id}/restart")).status_code == 200
        await rig.until(job_id, "running", limit_s=60)
        await rig.call(who, "POST", f"jobs/{job_id}/cancel", data={"reason": "enough"})
        assert await rig.end(job_id, limit_s=60) == "cancelled"

    run(tmp_path, nodes, lambda _: "", body)


def test_a_node_that_does_not_answer_in_time_and_a_restart(tmp_path: Path, nodes: Nodes) -> None:
    async def body(rig: KusciaParties) -> None:
        nodes["alice"].trouble.broken.add("job/create")
        job_id = await rig.propose()
        await asyncio.sleep(1)
        assert (await rig.job("alice", job_id))["phase"] == "proposed"
        nodes["alice"].trouble.broken.clear()
        await rig.stop("bob")
        await rig.start("bob")
        assert await rig.end(job_id, limit_s=60) == "succeeded"

    run(tmp_path, nodes, lambda _: "Succeeded", body)
