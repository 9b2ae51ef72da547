"""Workers come and go while a job uses them: nobody is restarted, nothing is lost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from consortium.stackfile import StackFile
from consortium.subcommand import CommandFailed
from testing import Consortium, Party, Run

STOP = "/tmp/scaling-stop"
PROGRAM = """
import os
import time

import ray
import secretflow as sf
from coordinator.session import session


@ray.remote
def work(until):
    while not os.path.exists(until):
        time.sleep(0.2)
    # Too much to travel with the answer: it stays with the worker, which is drained by then, until somebody asks.
    return os.uname().nodename, bytes(2**20)


with session() as s:
    where, name = "", s.parameters["worker"]
    if name.startswith(s.settings.party):
        while not (there := [n for n in ray.nodes() if n["Alive"] and n["NodeName"] == name]):
            time.sleep(0.5)
        task = work.options(resources={f"node:{there[0]['NodeManagerAddress']}": 0.01}).remote(s.parameters["until"])
        print("at work", flush=True)
        ray.wait([task], fetch_local=False)
        time.sleep(3)  # nothing runs there any more, and nobody has fetched the answer yet
        where, _ = ray.get(task)
    s.result({"where": sf.reveal(s.pyu("alice")(lambda value: value)(where))})
"""


def scaling_job(until: str) -> dict[str, str]:
    """A job with one task on alice's second worker, which ends when a file is there."""
    parameters = f"{{worker: alice-worker-2, until: {until}}}"
    return {
        "job.yaml": f"name: scaling\nparties: [alice, bob]\nparameters: {parameters}\n",
        "main.py": PROGRAM,
    }


def at_work(run: Run) -> None:
    """Wait for the task."""
    end = time.monotonic() + 60
    while "at work" not in run.logs():
        assert time.monotonic() < end, run.view()["reason"] or run.logs()
        time.sleep(0.5)


def settings(party: Party, **changed: Any) -> None:
    file = StackFile(party.workspace.stack_file(party.name))
    file.update(settings={**file.config()["settings"], **changed})


def started(party: Party, *nodes: str) -> dict[str, str]:
    """Container and processes of services, for each node."""
    pids = "cat /etc/service/*/supervise/pid"
    return {name: f"{party.node(name).container.id} {party.node(name).run('sh', '-c', pids)[1]}" for name in nodes}


def containers(party: Party) -> set[str]:
    labels = [f"consortium.name={party.consortium.name}", f"consortium.party={party.name}", "consortium.role=worker"]
    found = party.consortium.engine.containers.list(all=True, filters={"label": labels})
    return {container.name.removeprefix(f"{party.consortium.name}-") for container in found}


@pytest.fixture
def one_worker(alice: Party) -> Iterator[None]:
    """As before, whatever happens in the test."""
    yield
    settings(alice, workers=1, drain={"wait_s": 0, "force": True})
    if containers(alice) != {"alice-worker-1"}:
        alice.up()


def test_a_worker_joins_a_running_job_and_finishes_its_task_before_it_goes(
    consortium: Consortium, alice: Party, one_worker: None
) -> None:
    before = started(alice, "head", "worker-1", "gateway")
    run = alice.submit(scaling_job(STOP))
    run.wait_for_phase("running")

    settings(alice, workers=2)
    alice.cli("up", "--yes", "--", "--skip-preview")
    worker = alice.node("worker-2")
    at_work(run)

    settings(alice, workers=1, drain={"wait_s": 4})
    with pytest.raises(CommandFailed) as refused:
        alice.cli("up", "--yes", "--", "--skip-preview")
    said = str(refused.value)
    assert f"alice-worker-2 is used by task work of job {run.job_id}, attempt 1" in said, said
    assert "Traceback" not in said
    assert containers(alice) == {"alice-worker-1", "alice-worker-2"}

    settings(alice, drain={"wait_s": 120})
    with ThreadPoolExecutor(1) as pool:
        up = pool.submit(alice.cli, "up", "--yes", "--", "--skip-preview")
        time.sleep(8)
        assert not up.done(), up.result()
        assert worker.container.status == "running"
        worker.check("touch", STOP)
        up.result(timeout=120)
    outcome = run.wait()
    assert outcome.phase == "succeeded", outcome.reason
    assert run.result() == {"where": "alice-worker-2"}
    assert containers(alice) == {"alice-worker-1"}
    assert started(alice, "head", "worker-1", "gateway") == before
