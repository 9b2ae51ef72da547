"""Parties that come and go while the others work, and consortiums of more than two: nobody else is restarted."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from testing import Consortium, Node, Party, Run
from testing.members import admit, dismiss

pytestmark = pytest.mark.long

ROUNDS = """
import os
import time

import secretflow as sf
from coordinator.session import session

with session() as s:
    first, rounds = s.parties[0], 0
    say = s.pyu(first)(lambda value: value)
    # Data passes between the parties in every round, on the connections with which the job began.
    while sf.reveal(say(not os.path.exists(s.parameters["until"]))):
        rounds += 1
        sums = sf.reveal([s.pyu(p)(lambda a, b: a + b)(rounds, len(s.parties)) for p in s.parties])
        assert set(sums) == {rounds + len(s.parties)}, sums
        if rounds == 1:
            print("first round", flush=True)
        time.sleep(0.5)
    s.result({"rounds": rounds, "parties": len(s.parties)})
"""
STOP = "/tmp/members-stop"
SERVICES = r"""
{
    for service in /etc/service/*; do
        pid=$(cat "$service/supervise/pid" 2> /dev/null) && [ -n "$pid" ] && echo "$(basename "$service") $pid"
    done
    for name in raylet gcs_server envoy; do pgrep -x "$name" | sed "s/^/$name /"; done
} | {
    while read -r name pid; do echo "$name $pid $(sed 's/.*) //' "/proc/$pid/stat" | cut -d ' ' -f 20)"; done
    echo end
} | awk '{ print NR, $0 }'
"""


def job(*parties: str, until: str = STOP) -> dict[str, str]:
    text = f"name: rounds\nparties: [{', '.join(parties)}]\nparameters: {{until: {until}}}\n"
    return {"job.yaml": text, "main.py": ROUNDS}


def started(node: Node) -> dict[str, str]:
    """The container, and each of its service's processes with the moment it was started (clock ticks since boot)."""
    found = {"container": f"{node.container.id} {node.container.attrs['State']['StartedAt']}"}
    for _ in range(5):
        lines = [line.split() for line in node.check("sh", "-c", SERVICES).splitlines()]
        # now and then an exec loses the begin of its output
        if lines and lines[0][0] == "1" and lines[-1][-1] == "end":
            return found | {f"{name} {pid}": ticks for _, name, pid, ticks in lines[:-1]}
    raise AssertionError(f"{node.name}: {lines}")


def all_started(*parties: Party) -> dict[str, dict[str, str]]:
    return {node.name: started(node) for party in parties for node in party.nodes}


def volumes(consortium: Consortium, party: str) -> list[str]:
    return [volume.name for volume in consortium.engine.volumes.list(filters={"label": _labels(consortium, party)})]


def containers(consortium: Consortium, party: str) -> list[str]:
    return [
        one.name for one in consortium.engine.containers.list(all=True, filters={"label": _labels(consortium, party)})
    ]


def _labels(consortium: Consortium, party: str) -> list[str]:
    return [f"consortium.name={consortium.name}", f"consortium.party={party}"]


def begun(run: Run) -> None:
    """Wait until data has passed between the parties."""
    run.wait_for_phase("running", timeout_s=240)
    end = time.monotonic() + 240
    while "first round" not in run.logs():
        view = run.view()
        assert not view["terminal"], view["reason"]
        assert time.monotonic() < end, "the job does not come to its first round"
        time.sleep(1)


@pytest.fixture
def two() -> Iterator[Consortium]:
    """alice with a worker, bob without one. Patient: on a busy machine a gateway lets go of a party that leaves long
    before the coordinator beside it has reloaded, and `lost` would be the cause in place of `left`."""
    with Consortium(2, workers={"alice": 1, "bob": 0}, timeouts={"peer_lost_after_s": 60}) as made:
        yield made


def test_a_party_joins_and_leaves_and_nobody_else_notices(two: Consortium) -> None:
    alice, bob = two.party("alice"), two.party("bob")
    long = alice.submit(job("alice", "bob"))
    begun(long)
    before = all_started(alice, bob)
    kinds = {name.partition(" ")[0] for node in before.values() for name in node}
    assert kinds == {"container", "coordinator", "ray", "gateway", "raylet", "gcs_server", "envoy"}

    carol = admit(two, "carol", workers=2)
    assert all_started(alice, bob) == before
    assert long.view()["phase"] == "running"
    assert len(carol.workers) == 2
    together = bob.submit(job("alice", "bob", "carol", until="/proc/version"))
    assert together.wait().phase == "succeeded"
    assert together.result("carol") == {"rounds": 0, "parties": 3}

    # Slots are two: the long job holds one, this one the other, until carol is gone.
    last = carol.submit(job("alice", "carol", until="/nowhere"))
    begun(last)
    dismiss(two, "carol")
    assert all_started(alice, bob) == before
    last.wait_for_phase("failed", "alice")
    assert "carol has left the consortium" in last.view("alice")["reason"]
    status = bob.coordinator.get("/status")
    assert (status["left"], sorted(status["peers"])) == (["carol"], ["alice"])
    refused = carol.coordinator.wait(
        "/status", lambda s: all(not peer["up"] for peer in s["peers"].values()), 60, "carol to be shut out"
    )
    assert {name: peer["up"] for name, peer in refused["peers"].items()} == {"alice": False, "bob": False}

    # What carol's coordinator has signed outlives her nodes, until she says otherwise.
    carol.cli("down", "--yes")
    assert (len(volumes(two, "carol")), containers(two, "carol")) == (3, [])
    carol.up()
    assert carol.coordinator.get(f"/jobs/{together.job_id}")["phase"] == "succeeded"
    carol.cli("down", "--yes", "--remove-data")
    assert (volumes(two, "carol"), containers(two, "carol")) == ([], [])

    assert long.view()["phase"] == "running"
    alice.head.check("touch", STOP)
    outcome = long.wait()
    assert outcome.phase == "succeeded", outcome.reason
    assert long.view()["attempt"] == 1
    assert long.result("bob")["rounds"] > 10
    assert all_started(alice, bob) == before
    assert alice.cli("audit", "verify")  # with carol's signatures in it


@pytest.mark.timeout(2400)
def test_five_parties_with_none_one_and_two_workers() -> None:
    small = {"resources": {"head": {"memory_mb": 3072, "cpus": 2, "shm_mb": 256}}}
    names = ("alice", "bob", "carol", "dave", "erin")
    with Consortium(
        5,
        workers={"alice": 1, "bob": 0, "carol": 2, "dave": 0, "erin": 0},
        settings=dict.fromkeys(names, small),
        datasets={},
        timeouts={"start_window_s": 240, "peer_lost_after_s": 30},
    ) as five:
        assert [len(party.workers) for party in five.parties.values()] == [1, 0, 2, 0, 0]
        run = five.party("carol").submit(job(*names, until="/proc/version"))
        outcome = run.wait()
        assert outcome.phase == "succeeded", outcome.reason
        assert set(outcome.signed) == set(names)
        assert [run.result(name) for name in names] == [{"rounds": 0, "parties": 5}] * 5
