"""An institution whose Ray is there already: a cluster that the stack did not make, and a real job of both parties."""

from __future__ import annotations

import time
from collections.abc import Iterator

import docker
import pytest

from consortium.image import image_name
from testing import Consortium

START = (
    "exec /opt/secretflow/bin/ray start --head --block --disable-usage-stats --port=6379 --num-cpus=4 "
    "--node-ip-address=$(hostname -i) --include-dashboard=true --dashboard-host=0.0.0.0 "
    "--object-store-memory=200000000"
)
PROGRAM = """
import os
import ray
import secretflow as sf
from coordinator.session import session

with session() as s:
    nodes = sorted(n["NodeName"] for n in ray.nodes() if n["Alive"])
    ran = {p: sf.reveal(s.pyu(p)(lambda value: value)(os.uname().nodename)) for p in s.parties}
    s.result({"ran": ran, "nodes": nodes, "party": s.settings.party})
"""


@pytest.fixture
def cluster() -> Iterator[str]:
    """The name of a network on which a Ray cluster with one node answers as `own-ray`."""
    engine, name = docker.from_env(), f"own-ray-{time.time_ns():x}"
    network = engine.networks.create(name, internal=True)
    container = engine.containers.create(
        image_name(), ["sh", "-c", START], entrypoint="", user="ray", hostname="own-ray", shm_size="512m",
        environment={"PATH": "/opt/secretflow/bin:/usr/local/bin:/usr/bin:/bin", "HOME": "/var/lib/ray"},
    )  # fmt: skip
    try:
        engine.networks.get("bridge").disconnect(container)
        network.connect(container, aliases=["own-ray"])
        container.start()
        yield name
    finally:
        container.remove(force=True)
        network.remove()


def test_a_job_runs_in_a_ray_that_the_stack_did_not_make(cluster: str) -> None:
    ray = {"address": "own-ray:6379", "jobs_url": "http://own-ray:8265", "network": cluster}
    with Consortium(2, workers=0, settings={"alice": {"ray": ray}}, datasets={}) as made:
        alice = made.party("alice")
        assert "gcs_server" not in alice.head.check("ps", "-e")
        run = alice.submit({"job.yaml": "name: own-ray\nparties: [alice, bob]\n", "main.py": PROGRAM})
        outcome = run.wait(300)
        assert outcome.phase == "succeeded", f"{outcome.reason}\n{run.logs()}"
        result = run.result()
        assert result["ran"]["alice"] in ("own-ray", "alice-head")
        assert len(result["nodes"]) == 2, result
        assert "alice-head" in result["nodes"], result
