"""The PSI job through gateways against the same program started by hand with direct connections; and start skew."""

from __future__ import annotations

import io
import json
import tarfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import docker
from docker.models.containers import Container
from docker.models.networks import Network

from benchmarks.result import Result, median_s
from consortium.demo import Demo

ROUNDS = 4
JOBS = "/var/lib/consortium-jobs"
PYTHON = "/opt/secretflow/bin/python"


def measure(demo: Demo) -> list[Result]:
    """Both ways in turn, on the same Ray clusters: only the way between the parties and the start differ."""
    demo.run_job("psi")  # the first job of a cluster pays for its processes
    through, direct, skews, totals = [], [], [], []
    with direct_network(demo) as heads:
        for _ in range(ROUNDS):
            began = time.time()
            job_id = str(demo.run_job("psi")["job_id"])
            totals.append(time.time() - began)
            status = demo.json("alice", "job", "status", job_id)
            through.append(duration(status))
            skews.append(float(status["skew_ms"]))
            direct.append(by_hand(demo, heads, job_id))
    how = f"entry of sf.init to the end of both drivers, 2 × 100,000 rows; median of {ROUNDS}, in turn"
    return [
        Result("PSI through gateways", median_s(through), "s", None, how, through),
        Result("PSI by hand, direct", median_s(direct), "s", None, how, direct),
        Result("PSI through gateways ÷ direct", median_s(through) / median_s(direct), "×", 1.15, how),
        Result("PSI, submit to outcome", median_s(totals), "s", None, "approval by command included", totals),
        Result("start skew", max(skews), "ms", 200, f"largest distance of entries of sf.init in {ROUNDS} jobs", skews),
    ]


def duration(status: dict[str, Any]) -> float:
    """Seconds from the first entry of sf.init to the last party's end, by the coordinators' signed outcomes."""
    outcomes = status["outcomes"].values()
    return float(max(o["ended_at"] for o in outcomes) - min(o["started_at"] for o in outcomes))


@contextmanager
def direct_network(demo: Demo) -> Iterator[dict[str, Container]]:
    """Stand every Ray node of both parties on one more network, where heads reach one another without a gateway."""
    engine = docker.from_env()
    network: Network = engine.networks.create(f"{demo.name}-direct", internal=True)
    nodes = [
        node
        for node in engine.containers.list(filters={"label": f"consortium.name={demo.name}"})
        if node.labels["consortium.role"] != "gateway"
    ]
    try:
        for node in nodes:
            network.connect(node, aliases=[f"direct-{node.attrs['Config']['Hostname']}"])
        heads = [node for node in nodes if node.labels["consortium.role"] == "head"]
        yield {head.labels["consortium.party"]: head for head in heads}
    finally:
        for node in nodes:
            network.disconnect(node, force=True)
        network.remove()


def by_hand(demo: Demo, heads: dict[str, Container], job_id: str) -> float:
    """Start the job's program at every head at once, peers addressed directly. Returns seconds as `duration` does."""
    name = f"by-hand-{job_id}-{time.monotonic_ns()}"
    folders = {party: prepare(head, party, list(heads), job_id, name) for party, head in heads.items()}
    ended: dict[str, tuple[int, float]] = {}

    def drive(party: str) -> None:
        command = ["sh", "-c", f"cd {folders[party]}/program && exec {PYTHON} main.py"]
        environment = {"CONSORTIUM_SESSION": f"{folders[party]}/session.json", "HOME": "/var/lib/ray"}
        code, _ = heads[party].exec_run(command, user="ray", environment=environment)
        ended[party] = int(code), time.time()

    threads = [threading.Thread(target=drive, args=(party,)) for party in heads]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed := {party: code for party, (code, _) in ended.items() if code}:
        raise RuntimeError(f"the program started by hand ended with {failed}")
    entered = [
        json.loads(read(head, f"{folders[party]}/output/session.json"))["sf_init_entered_at"]
        for party, head in heads.items()
    ]
    return max(at for _, at in ended.values()) - min(entered)


def prepare(head: Container, party: str, parties: list[str], job_id: str, name: str) -> str:
    """A copy of the job's folder whose session names the peers' heads instead of the own gateway."""
    source, folder = f"{JOBS}/{job_id}/1", f"{JOBS}/{name}"
    session = json.loads(read(head, f"{source}/session.json"))
    peers = [peer for peer in parties if peer != party]
    for service in ("fed", "spu"):
        port = session[service]["listen"].rpartition(":")[2]
        session[service]["peers"] = {peer: f"direct-{peer}-head:{port}" for peer in peers}
    session |= {"job_name": name, "go_file": "", "lease_file": "", "output_dir": f"{folder}/output"}
    run(head, "sh", "-c", f"mkdir -p {folder}/output && cp -r {source}/program {folder}/")
    write(head, f"{folder}/session.json", json.dumps(session))
    run(head, "chown", "-R", "ray:ray", folder)
    return folder


def run(node: Container, *command: str) -> bytes:
    code, output = node.exec_run(list(command))
    if code:
        raise RuntimeError(f"{node.name}: {' '.join(command)}: {output.decode(errors='replace')}")
    return bytes(output)


def read(node: Container, path: str) -> str:
    return run(node, "cat", path).decode()


def write(node: Container, path: str, text: str) -> None:
    data = text.encode()
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        member = tarfile.TarInfo(path.lstrip("/"))
        member.size = len(data)
        tar.addfile(member, io.BytesIO(data))
    node.put_archive("/", archive.getvalue())
