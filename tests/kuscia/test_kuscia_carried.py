"""Two coordinators, each before Kuscia's own KusciaAPI and controllers; only how a task goes is played.

Kuscia makes the tasks; `played` writes into them what Kuscia's controller of tasks would write. It runs by
`make kuscia-live KUSCIA_SOURCE=…`; elsewhere it says that it was skipped.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import anyio
import pytest

from tests.coordinator.kuscia_rig import Door, KusciaParties
from tests.kuscia import live
from tests.kuscia.api_server import ApiServer
from tests.kuscia.real_node import Endpoint
from tests.kuscia.tls_files import TlsFiles

pytestmark = pytest.mark.kubernetes
TASKS = "/apis/kuscia.secretflow/v1alpha1/namespaces/cross-domain/kusciatasks"
Nodes = dict[str, Endpoint]


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    source = os.environ.get(live.SOURCE)
    if not source:
        pytest.skip(f"no source of Kuscia: set {live.SOURCE}=CHECKOUT")
    with live.from_source(live.program(source), tmp_path_factory.mktemp("carried"), tasks=False) as found:
        anyio.run(live.introduce, found)
        yield found


@contextlib.contextmanager
def played(nodes: Nodes, fate: Callable[[str], str]) -> Iterator[None]:
    """Every task goes, at every party, to the phase that `fate` says of its job's name."""
    over = threading.Event()

    def work() -> None:
        while not over.wait(0.1):
            for node in nodes.values():
                assert node.kubernetes
                for task in node.kubernetes.call("GET", TASKS)["items"]:
                    job = task["metadata"].get("annotations", {}).get("kuscia.secretflow/job-id", "")
                    _set(node.kubernetes, task, fate(job))

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _set(store: ApiServer, task: dict[str, object], phase: str) -> None:
    was = task.get("status") or {}
    if was.get("phase") in (phase, "Succeeded", "Failed"):  # type: ignore[attr-defined]
        return
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    status = {"phase": phase, "startTime": now, "message": "exit code 1" if phase == "Failed" else ""}
    if phase in ("Succeeded", "Failed"):
        status["completionTime"] = now
    path = f"{TASKS}/{task['metadata']['name']}/status"  # type: ignore[index]
    headers = {"Content-Type": "application/merge-patch+json"}
    answer = store.client.patch(path, content=json.dumps({"status": status}), headers=headers)
    assert answer.status_code in (200, 404), answer.text


def _stage(node: Endpoint, job: str) -> str:
    assert node.kubernetes
    found = node.kubernetes.call("GET", f"{TASKS.replace('kusciatasks', 'kusciajobs')}/{job}")
    return str(found["metadata"]["labels"]["kuscia.secretflow/job-stage"])


def run(home: Path, nodes: Nodes, fate: Callable[[str], str], body: Callable[[KusciaParties], Awaitable[None]]) -> None:
    async def work() -> None:
        doors = {
            party: Door(node.url, TlsFiles(node.ca, node.certificate, node.key, node.certificate, node.key), node.token)
            for party, node in nodes.items()
        }
        async with KusciaParties(home, doors) as rig:
            await rig.start()
            await body(rig)

    with played(nodes, fate):
        asyncio.run(work())


def test_a_job_is_approved_fails_is_tried_again_and_succeeds(tmp_path: Path, nodes: Nodes) -> None:
    async def body(rig: KusciaParties) -> None:
        job_id = await rig.propose(max_attempts=2)
        assert await rig.end(job_id, limit_s=60) == "succeeded"
        for party in rig.parties:
            view = await rig.job(party, job_id)
            assert [a["outcomes"][party]["status"] for a in view["attempts"]] == ["failed", "succeeded"]

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
        # While Kuscia still goes from its stage Restart to Start, a cancel of the initiator's peer is lost in it.
        with anyio.fail_after(30):
            while {_stage(node, f"{job_id}-1") for node in nodes.values()} != {"Start"}:
                await asyncio.sleep(0.1)
        await rig.call(who, "POST", f"jobs/{job_id}/cancel", data={"reason": "enough"})
        assert await rig.end(job_id, limit_s=60) == "cancelled"

    run(tmp_path, nodes, lambda _: "Running", body)


def test_a_coordinator_that_was_away_goes_on(tmp_path: Path, nodes: Nodes) -> None:
    async def body(rig: KusciaParties) -> None:
        job_id = await rig.propose()
        await rig.until(job_id, "running", limit_s=60)
        await rig.stop("bob")
        await rig.start("bob")
        ended.append(job_id)
        assert await rig.end(job_id, limit_s=60) == "succeeded"

    ended: list[str] = []
    run(tmp_path, nodes, lambda name: "Succeeded" if any(map(name.startswith, ended)) else "Running", body)
