"""What happens to a running attempt when a part of one party fails, on real nodes: every party ends it within
`peer_lost_after_s` + 5 s, says which part of which party failed, and leaves no process, Ray job or slot behind."""

from __future__ import annotations

import io
import json
import re
import socket
import tarfile
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import docker
import pytest

from consortium.client import Coordinator, operator_token
from consortium.demo import Demo
from consortium.engine import engine_address
from consortium.workspace import Workspace
from testing import Party

PEER_LOST_AFTER_S = 10  # of the demo's consortium.yaml
LIMIT_S = PEER_LOST_AFTER_S + 5

JOB = {
    "job.yaml": """
        name: wait
        description: Is connected, and then does nothing for a long time.
        program: main.py
        parties: [alice, bob]
        max_attempts: 1
        """,
    "main.py": """
        import time

        from coordinator.session import session

        with session() as s:
            time.sleep(900)
        """,
}

GET = """
import sys, urllib.request
request = urllib.request.Request(sys.argv[1])
if sys.argv[2:]:
    request.add_header("Authorization", "Bearer " + open(sys.argv[2]).read().strip())
print(urllib.request.urlopen(request, timeout=4).read().decode())
"""


def bundle() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, text in JOB.items():
            data = textwrap.dedent(text).encode()
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return out.getvalue()


def until(look: Callable[[], Any], limit_s: float, what: Callable[[], str]) -> Any:
    """Ask until the answer is true."""
    end = time.monotonic() + limit_s
    while not (found := look()):
        assert time.monotonic() < end, f"not within {limit_s:.0f} s: {what()}"
        time.sleep(0.3)
    return found


@dataclass
class Attempt:
    """A running attempt, seen from inside the heads: the operator's way in leads through a gateway that may be down."""

    job_id: str
    heads: dict[str, Party]
    groups: dict[str, int]  # party -> process group of its driver

    def _get(self, party: str, *arguments: str) -> Any:
        """JSON from inside a head; None when nobody answers. Now and then an exec loses the begin of its output."""
        for _ in range(5):
            code, text = self.heads[party].node("head").run("python3", "-c", GET, *arguments)
            if code:
                return None
            with suppress(ValueError):
                return json.loads(text)
        raise AssertionError(f"{party}: no JSON: {text[:300]!r}")

    def view(self, party: str) -> dict[str, Any]:
        url = f"http://127.0.0.1:8080/api/v1/jobs/{self.job_id}"
        return self._get(party, url, "/etc/consortium/secrets/operator.token") or {}

    def ray_lives(self, party: str) -> bool:
        """Ray's own word on the driver. A Ray that was started anew knows nothing, and runs nothing."""
        found = self._get(party, "http://127.0.0.1:8265/api/jobs/")
        if found is None:
            return True
        jobs = {job["submission_id"]: job["status"] for job in found}
        return jobs.get(f"consortium-{self.job_id}-1") in ("PENDING", "RUNNING")

    def processes(self, party: str) -> list[str]:
        """The driver's process group, and the actors of rayfed that belong to it."""
        _, text = self.heads[party].node("head").run("ps", "-eo", "pgid=,args=")
        lines = [line.split(maxsplit=1) for line in text.splitlines() if line.strip()]
        return [what for group, what in lines if int(group) == self.groups[party] or "ProxyActor" in what]

    def ended(self, party: str) -> dict[str, Any]:
        """The party's own signed outcome once nothing of the attempt is left there."""
        view = self.view(party)
        own = view.get("outcomes", {}).get(party)
        gone = own and view["slot"] is None and not self.processes(party) and not self.ray_lives(party)
        return own if gone else {}


class Liveness:
    """Starts attempts and waits for their ends."""

    def __init__(self, demo: Demo, heads: dict[str, Party]) -> None:
        self.heads = heads
        self._own = {
            p.name: Coordinator(
                f"http://127.0.0.1:{p.operator_port}", operator_token(Workspace.find(demo.workspace(p.name)), p.name)
            )
            for p in demo.parties
        }

    def start(self) -> Attempt:
        """A job whose drivers are connected to one another and sleep."""
        job_id = str(self._own["alice"].submit(bundle(), f"liveness-{time.time_ns()}")["job_id"])
        self._own["bob"].wait(f"/jobs/{job_id}", lambda job: bool(job["bundle_ready"]), 30, "the proposal's arrival")
        self._own["bob"].post(f"/jobs/{job_id}/approve")
        attempt = Attempt(job_id, self.heads, {})
        for party in self.heads:
            until(lambda p=party: self._connected(p, attempt), 90, lambda p=party: str(attempt.view(p).get("events")))
            attempt.groups[party] = self._group(party, job_id)
        return attempt

    def _connected(self, party: str, attempt: Attempt) -> bool:
        path = f"/var/lib/consortium-jobs/{attempt.job_id}/1/output/session.json"
        code, text = self.heads[party].node("head").run("cat", path)
        return code == 0 and "sf_init_done_at" in text and attempt.view(party).get("phase") == "running"

    def _group(self, party: str, job_id: str) -> int:
        _, text = self.heads[party].node("head").run("ps", "-u", "ray", "-o", "pgid=,args=")
        (found,) = {int(line.split()[0]) for line in text.splitlines() if f"/{job_id}/1/program/main.py" in line}
        return found

    def ends(self, attempt: Attempt, *parties: str) -> dict[str, dict[str, Any]]:
        """Outcome of each party, all within the limit from now on."""
        end = time.monotonic() + LIMIT_S
        found = {}
        for party in parties:
            found[party] = until(
                lambda p=party: attempt.ended(p),
                max(end - time.monotonic(), 0.1),
                lambda p=party: json.dumps([attempt.processes(p), attempt.ray_lives(p), attempt.view(p)], indent=1),
            )
            print(f"{party}: {found[party]['cause']}: {found[party]['error']}")
        return found

    def agree(self, attempt: Attempt) -> None:
        """Once all reach one another again: one label, with every signature."""
        for party in self.heads:
            view = until(lambda p=party: self._settled(attempt, p), 40, lambda p=party: str(attempt.view(p)))
            assert view["phase"] == "failed", view["reason"]

    @staticmethod
    def _settled(attempt: Attempt, party: str) -> dict[str, Any]:
        view = attempt.view(party)
        return view if view and view["terminal"] and view["settled"] else {}


@pytest.fixture(scope="module")
def liveness(institutions: Demo, alice: Party, bob: Party) -> Liveness:
    return Liveness(institutions, {"alice": alice, "bob": bob})


def test_a_killed_driver(liveness: Liveness, bob: Party) -> None:
    attempt = liveness.start()
    assert attempt.processes("bob"), "the test itself must see what it says is gone afterwards"
    bob.node("head").run("pkill", "-KILL", "-f", f"/{attempt.job_id}/1/program/main.py")
    found = liveness.ends(attempt, "bob", "alice")
    assert found["bob"]["cause"] == "driver-failed"
    assert found["alice"]["error"].startswith("bob failed: the driver ended with an error"), found["alice"]
    liveness.agree(attempt)


def test_a_killed_ray_head(liveness: Liveness, bob: Party) -> None:
    attempt = liveness.start()
    bob.node("head").run("pkill", "-KILL", "-u", "ray", "gcs_server")
    found = liveness.ends(attempt, "alice", "bob")
    assert "Ray" in found["bob"]["error"], found["bob"]
    assert found["alice"]["error"].startswith("bob failed: "), found["alice"]
    assert "Ray" in found["alice"]["error"], found["alice"]
    liveness.agree(attempt)
    until(lambda: bob.node("head").run("/usr/local/bin/node-health")[0] == 0, 60, lambda: "Ray did not come back")


def test_a_killed_coordinator_comes_back_to_its_attempt_and_one_that_stays_away_is_lost(
    liveness: Liveness, bob: Party
) -> None:
    attempt = liveness.start()
    bob.node("head").run("pkill", "-KILL", "-u", "coordinator", "-f", "coordinator serve")
    until(lambda: attempt.view("bob"), 10, lambda: "the coordinator did not come back")
    time.sleep(3)
    assert {attempt.view(p)["phase"] for p in ("alice", "bob")} == {"running"}, "the attempt is kept at both"

    bob.node("head").run("sv", "down", "/etc/service/coordinator")
    try:
        found = liveness.ends(attempt, "alice")
        assert "bob is lost" in found["alice"]["error"]
        assert "bob's coordinator is down, its gateway answers" in found["alice"]["error"], found["alice"]
        assert "last heard" in found["alice"]["error"]
        left = lambda: attempt.processes("bob") or attempt.ray_lives("bob")  # noqa: E731
        until(
            lambda: not left(), 5, lambda: f"nobody is there to end bob's driver: its lease must have run out: {left()}"
        )
    finally:
        bob.node("head").run("sv", "up", "/etc/service/coordinator")
    found = liveness.ends(attempt, "bob")
    ways = ("alice failed: bob is lost", "alice is lost", "the driver ended itself: its coordinator was gone")
    assert found["bob"]["error"].startswith(ways), found["bob"]
    liveness.agree(attempt)


def test_a_paused_gateway(liveness: Liveness, bob: Party) -> None:
    attempt = liveness.start()
    bob.node("gateway").container.pause()
    try:
        found = liveness.ends(attempt, "alice", "bob")
    finally:
        bob.node("gateway").container.unpause()
    for party, peer in (("alice", "bob"), ("bob", "alice")):
        error = found[party]["error"]
        assert f"{peer} is lost" in error, error
        assert "gateway" in error, error
        assert "last heard" in error, error
    liveness.agree(attempt)


ROUTE = """
import socket, struct, sys
new, delete, request, acknowledge, create = 24, 25, 1, 4, 0x400
message = new if sys.argv[1] == "add" else delete
route = struct.pack("BBBBBBBBI", socket.AF_INET, 32, 0, 0, 254, 3, 0, 6, 0)  # main table, blackhole
route += struct.pack("HH4s", 8, 1, socket.inet_aton(sys.argv[2]))
link = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
link.send(struct.pack("IHHII", 16 + len(route), message, request | acknowledge | create, 1, 0) + route)
sys.exit(-struct.unpack_from("i", link.recv(4096), 16)[0])
"""


@contextmanager
def no_way_out(engine: docker.DockerClient, party: Party) -> Iterator[None]:
    """The gateway of a party cannot call its peers; they can call it, and get answers."""
    gateway = party.gateway.container

    def route(verb: str) -> None:
        engine.containers.run(
            gateway.attrs["Config"]["Image"],
            ["-c", ROUTE, verb, socket.gethostbyname(engine_address())],
            entrypoint="/usr/bin/python3",
            network_mode=f"container:{gateway.id}",
            cap_add=["NET_ADMIN"],
            remove=True,
        )

    route("add")
    try:
        yield
    finally:
        with suppress(docker.errors.NotFound):
            route("delete")


def test_a_network_cut_both_ways(liveness: Liveness, engine: docker.DockerClient, alice: Party, bob: Party) -> None:
    attempt = liveness.start()
    with no_way_out(engine, alice), no_way_out(engine, bob):
        found = liveness.ends(attempt, "alice", "bob")
    for party, peer in (("alice", "bob"), ("bob", "alice")):
        error = found[party]["error"]
        assert f"{peer} is lost" in error, error
        assert f"{peer}'s gateway or the way to it is down" in error, error
    liveness.agree(attempt)


def test_a_network_cut_one_way(
    liveness: Liveness, engine: docker.DockerClient, alice: Party, institutions: Demo
) -> None:
    attempt = liveness.start()
    with no_way_out(engine, alice):
        found = liveness.ends(attempt, "alice", "bob")
    # who notices first tells the other: bob can still call alice
    seen = {
        "alice": "bob is lost: .*: the way to bob's gateway is down",
        "bob": "alice is lost: .*: its coordinator answers, but its own messages do not come through the gateways",
    }
    assert "peer-lost" in {outcome["cause"] for outcome in found.values()}, found
    for outcome in found.values():
        assert re.search("|".join(seen.values()), outcome["error"]), outcome
    liveness.agree(attempt)
    institutions.wait_until_connected()
    assert institutions.run_job("psi")["results"]["alice"]["result"]["intersection"] > 0
