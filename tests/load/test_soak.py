"""The soak's harness: a minute of it from end to end, and that it notices what is wrong."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest

from benchmarks.soak.faults import FAULTS, Fault, nothing
from benchmarks.soak.jobs import PLAIN, Known
from benchmarks.soak.run import END_S, Broken, Soak, Window
from benchmarks.soak.series import LEAST_S, WARM_UP_S, Series, growth
from tests.load.gateway_rig import GatewayRig

ROOT = Path(__file__).parents[2]


@pytest.mark.long
@pytest.mark.timeout(1200)  # a slow machine may need long to get over a fault
def test_a_minute_of_soak(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.soak", "--minutes", "1", "--seed", "7", "--results", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1150)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-3000:]
    [path] = tmp_path.glob("soak-*.json")
    record = json.loads(path.read_text())
    assert record["problems"] == []
    assert len(record["faults"]) >= 1
    assert sum(j["jobs"] for j in record["jobs"] if j["label"] == "succeeded") >= 2
    assert {p["process"] for p in record["processes"]} == {
        f"{what} of {party}" for what in ("coordinator", "gateway") for party in ("alice", "bob")
    }


def soak_of(**fields: Any) -> Soak:
    rig: Any = type("Rig", (), {"parties": ["alice", "bob"], "rays": {}, "children": {}, "gateways": {}})()
    return Soak(rig, 60, 1, **fields)


def view(phase: str, **fields: Any) -> dict[str, Any]:
    return {"phase": phase, "terminal": True, "settled": True, "reason": "as the test says", **fields}


def job(**views: dict[str, Any]) -> Known:
    return Known("20261124-probe-abcdef", PLAIN, "alice", 100.0, views=views)


def window(begun: float, over: float | None, **fields: Any) -> Window:
    return Window(Fault("a fault", nothing, nothing, **fields), begun, over=over)


def test_a_job_that_ends_as_it_should_is_marked() -> None:
    one = job(alice=view("succeeded"), bob=view("succeeded"))
    soak_of().judge(one, 101.0)
    assert (one.ended, one.label) == (101.0, "succeeded")


@pytest.mark.parametrize(
    ("views", "now", "found"),
    [
        ({"alice": view("failed"), "bob": view("failed")}, 101, "ended as failed though no fault was near"),
        ({"alice": view("failed"), "bob": view("succeeded")}, 101, "ended as {'alice': 'failed', 'bob': 'succeeded'}"),
        ({"alice": view("diverged"), "bob": view("running", terminal=False)}, 101, "diverged"),
        ({"alice": view("failed"), "bob": view("failed", settled=False)}, 101 + END_S, "has not ended"),
        ({"alice": view("failed")}, 101 + END_S, "has not ended"),
    ],
)
def test_what_must_not_happen_is_noticed(views: dict[str, dict[str, Any]], now: float, found: str) -> None:
    with pytest.raises(Broken) as error:
        soak_of().judge(job(**views), now)
    assert found in str(error.value)


@pytest.mark.parametrize(
    ("fault", "excused"),
    [
        (window(50, 99), False),
        (window(50, 100.5), True),
        (window(100.5, None), True),
        (window(50, None), True),
        (window(102, None), False),
        (window(50, None, harmless=True), False),
    ],
)
def test_only_a_fault_nearby_excuses_a_job(fault: Window, excused: bool) -> None:
    soak, one = soak_of(windows=[fault]), job(alice=view("failed"), bob=view("failed"))
    if excused:
        soak.judge(one, 101.0)
        assert one.label == "failed"
    else:
        with pytest.raises(Broken):
            soak.judge(one, 101.0)


def series(mb_per_min: float, descriptors_per_min: float, seconds: float = WARM_UP_S + LEAST_S + 60) -> Series:
    made = Series("coordinator of alice", 1)
    noise = Random(0)
    for at in range(0, int(seconds), 2):
        wobble = noise.choice((-1, 0, 1))
        mb = 90 + min(at, WARM_UP_S) * 0.3 + at / 60 * mb_per_min + wobble
        made.add(at, mb, int(30 + at / 60 * descriptors_per_min) + wobble)
    return made


def test_growth_is_told_from_noise_and_from_warming_up() -> None:
    assert list(growth([series(0, 0)])) == []
    assert "MB a minute" in next(iter(growth([series(3, 0)])))
    assert "descriptors a minute" in next(iter(growth([series(0, 6)])))
    assert series(3, 6, WARM_UP_S + LEAST_S / 2).slopes() is None  # too short to tell


def test_every_fault_is_undone(tmp_path: Path) -> None:
    """Each once, with a job running: afterwards the very next job succeeds."""

    async def run() -> None:
        async with GatewayRig(tmp_path, ["alice", "bob"], links=True, slots=2) as rig:
            await rig.connected()
            await rig.submit("alice", parameters={"seconds": 30})
            for make, _ in FAULTS:
                fault = make(rig, Random(1))
                await fault.do()
                await asyncio.sleep(0.3)
                await fault.undo()
            # the last heartbeat may have measured a clock that has been set right since
            await asyncio.sleep(3 * rig.document("alice")["timeouts"]["heartbeat_s"])
            job_id = await rig.submit("bob", max_attempts=3)
            assert await rig.end(job_id, limit_s=180) == "succeeded", (await rig.job("bob", job_id))["reason"]

    asyncio.run(run())


def test_a_fault_that_is_never_got_over_ends_the_soak(tmp_path: Path) -> None:
    """The way from alice to bob stays cut: the run names the fault."""

    def stays(rig: GatewayRig, _chance: Random, _more: object) -> Fault:
        async def cut() -> None:
            rig.links["alice", "bob"].cut = True
            rig.links["alice", "bob"].break_all()

        return Fault("a cut that stays", cut, nothing)

    async def run() -> Soak:
        async with GatewayRig(tmp_path, ["alice", "bob"], links=True, slots=2) as rig:
            await rig.connected()
            soak = Soak(rig, 60, 1, recover_s=5, draw=stays)
            await soak.run()
            return soak

    soak = asyncio.run(run())
    assert [p for p in soak.problems if "after «a cut that stays» no job of" in p], soak.problems
