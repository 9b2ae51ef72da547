"""What happens to a running attempt when a part of one party fails, on real nodes: every party ends it within
`peer_lost_after_s` + 5 s, says which part of which party failed, and leaves no process, Ray job or slot behind."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from consortium.demo import Demo
from testing import Consortium, Party, Run, faults
from testing.leftovers import Look

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

    run: Run
    parties: dict[str, Party]
    groups: dict[str, int]  # party -> process group of its driver

    def view(self, party: str) -> dict[str, Any]:
        return Look(self.parties[party], self.run).job or {}

    def left(self, party: str) -> list[str]:
        return Look(self.parties[party], self.run).left(self.groups[party])

    def ended(self, party: str) -> dict[str, Any]:
        """The party's own signed outcome once nothing of the attempt is left there."""
        look = Look(self.parties[party], self.run)
        own = (look.job or {}).get("outcomes", {}).get(party)
        return own if own and not look.left(self.groups[party]) else {}

    def ends(self, *parties: str) -> dict[str, dict[str, Any]]:
        """Outcome of each party, all within the limit from now on."""
        end = time.monotonic() + LIMIT_S
        found = {}
        for party in parties:
            found[party] = until(
                lambda p=party: self.ended(p),
                max(end - time.monotonic(), 0.1),
                lambda p=party: json.dumps([self.left(p), self.view(p)], indent=1),
            )
            print(f"{party}: {found[party]['cause']}: {found[party]['error']}")
        return found

    def agree(self) -> None:
        """Once all reach one another again: one label, with every signature."""
        for party in self.parties:
            view = until(lambda p=party: self._settled(p), 40, lambda p=party: str(self.view(p)))
            assert view["phase"] == "failed", view["reason"]

    def _settled(self, party: str) -> dict[str, Any]:
        view = self.view(party)
        return view if view and view["terminal"] and view["settled"] else {}


def connected(party: Party, run: Run) -> bool:
    path = f"/var/lib/consortium-jobs/{run.job_id}/1/output/session.json"
    return party.head.run("grep", "-q", "sf_init_done_at", path)[0] == 0 and run.view(party.name)["phase"] == "running"


@pytest.fixture
def attempt(consortium: Consortium) -> Attempt:
    """A job whose drivers are connected to one another and sleep."""
    run = consortium.party("alice").submit(JOB)
    groups = {}
    for party in consortium.parties.values():
        until(lambda p=party: connected(p, run), 90, lambda p=party: str(run.view(p.name)["events"]))
        groups[party.name] = Look(party, run).group
        assert groups[party.name], "the test itself must see what it says is gone afterwards"
    return Attempt(run, consortium.parties, groups)


def test_a_killed_driver(attempt: Attempt, bob: Party) -> None:
    with faults.kill(bob, "driver", attempt.run):
        found = attempt.ends("bob", "alice")
    assert found["bob"]["cause"] == "driver-failed"
    assert found["alice"]["error"].startswith("bob failed: the driver ended with an error"), found["alice"]
    attempt.agree()


def test_a_killed_ray_head(attempt: Attempt, bob: Party) -> None:
    with faults.kill(bob, "ray-head"):
        found = attempt.ends("alice", "bob")
    assert "Ray" in found["bob"]["error"], found["bob"]
    assert found["alice"]["error"].startswith("bob failed: "), found["alice"]
    assert "Ray" in found["alice"]["error"], found["alice"]
    attempt.agree()


def test_a_killed_coordinator_comes_back_to_its_attempt_and_one_that_stays_away_is_lost(
    attempt: Attempt, bob: Party
) -> None:
    with faults.kill(bob, "coordinator"):
        until(lambda: attempt.view("bob"), 10, lambda: "the coordinator did not come back")
        time.sleep(3)
        assert {attempt.view(p)["phase"] for p in ("alice", "bob")} == {"running"}, "the attempt is kept at both"

    with faults.kill(bob, "coordinator", stays=True):
        found = attempt.ends("alice")
        assert "bob is lost" in found["alice"]["error"]
        assert "bob's coordinator is down, its gateway answers" in found["alice"]["error"], found["alice"]
        assert "last heard" in found["alice"]["error"]
        alive = lambda: [what for what in attempt.left("bob") if "the coordinator" not in what]  # noqa: E731
        until(lambda: not alive(), 5, lambda: f"nobody is there to end bob's driver, its lease must: {alive()}")
    found = attempt.ends("bob")
    ways = ("alice failed: bob is lost", "alice is lost", "the driver ended itself: its coordinator was gone")
    assert found["bob"]["error"].startswith(ways), found["bob"]
    attempt.agree()


def test_a_paused_gateway(attempt: Attempt, bob: Party) -> None:
    with faults.pause(bob, "gateway"):
        found = attempt.ends("alice", "bob")
    for party, peer in (("alice", "bob"), ("bob", "alice")):
        error = found[party]["error"]
        assert f"{peer} is lost" in error, error
        assert "gateway" in error, error
        assert "last heard" in error, error
    attempt.agree()


def test_a_network_cut_both_ways(attempt: Attempt, consortium: Consortium) -> None:
    with faults.cut(consortium, "alice", "bob", ways="both"):
        found = attempt.ends("alice", "bob")
    for party, peer in (("alice", "bob"), ("bob", "alice")):
        error = found[party]["error"]
        assert f"{peer} is lost" in error, error
        assert f"{peer}'s gateway or the way to it is down" in error, error
    attempt.agree()


def test_a_network_cut_one_way(attempt: Attempt, consortium: Consortium, institutions: Demo) -> None:
    with faults.cut(consortium, "alice", "bob"):
        found = attempt.ends("alice", "bob")
    # who notices first tells the other: bob can still call alice
    seen = {
        "alice": "bob is lost: .*: the way to bob's gateway is down",
        "bob": "alice is lost: .*: its coordinator answers, but its own messages do not come through the gateways",
    }
    assert "peer-lost" in {outcome["cause"] for outcome in found.values()}, found
    for outcome in found.values():
        assert re.search("|".join(seen.values()), outcome["error"]), outcome
    attempt.agree()
    institutions.wait_until_connected()
    assert institutions.run_job("psi")["results"]["alice"]["result"]["intersection"] > 0
