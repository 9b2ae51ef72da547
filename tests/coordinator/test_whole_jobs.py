"""Whole jobs over real HTTP between coordinators in this process, with drivers that are real processes."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from coordinator_rig import GATEWAY_TOKEN, HASTY, FakeRay, Rig, job_folder, rig

from coordinator.launcher import submission_id


def play(body: Callable[[Rig], Awaitable[None]], folder: Path, parties: list[str] | None = None, **more: Any) -> None:
    async def run() -> None:
        async with rig(folder, parties, **more) as r:
            await body(r)

    asyncio.run(run())


def no_drivers(r: Rig) -> bool:
    return not any(ray.alive() for ray in r.rays.values())


def test_two_parties_run_a_job_to_an_agreed_success(tmp_path: Path) -> None:
    async def body(r: Rig) -> None:
        job_id = await r.submit("alice", parameters={"x": 1.5}, datasets={"alice": ["table"], "bob": ["table"]})
        assert await r.end(job_id) == "succeeded"
        for party in r.parties:
            seen = await r.job(party, job_id)
            assert set(seen["outcomes"]) == {"alice", "bob"}
            assert 0 <= seen["skew_ms"] < 3000  # the measured figure is the business of `make bench`
            result = (await r.call(party, "GET", f"jobs/{job_id}/result")).json()
            assert result["party"] == party
            assert r.rays[party].submits == 1
            assert (await r.call(party, "GET", f"jobs/{job_id}/logs")).text.startswith("driver of")
            assert (await r.call(party, "GET", "status")).json()["slots"]["used"] == {}
        signed = [
            [s for s in (await r.job(party, job_id))["statements"] if s["kind"] in ("decision", "outcome")]
            for party in r.parties
        ]
        assert signed[0] == signed[1]
        assert len(signed[0]) == 3  # one decision, two outcomes, each with its author's signature

    play(body, tmp_path)


def test_five_parties_and_two_jobs_at_once(tmp_path: Path) -> None:
    async def body(r: Rig) -> None:
        jobs = [await r.submit("alice"), await r.submit("carol")]
        for job_id in jobs:
            assert await r.end(job_id, limit_s=60) == "succeeded", (await r.job("alice", job_id))["reason"]

    # five coordinators share one loop here, so each has a fifth of its time
    slow = {"heartbeat_s": 1, "peer_lost_after_s": 15, "peer_request_s": 10, "promise_s": 40, "start_window_s": 30}
    play(body, tmp_path, ["alice", "bob", "carol", "dave", "erin"], slots=2, timeouts=slow)


def test_jobs_queue_for_the_only_slot(tmp_path: Path) -> None:
    async def body(r: Rig) -> None:
        jobs = [await r.submit(p) for p in ("alice", "bob", "alice")]
        for job_id in jobs:
            assert await r.end(job_id, limit_s=60) == "succeeded", (await r.job("alice", job_id))["reason"]

    play(body, tmp_path)


def test_a_program_that_fails_at_one_party_fails_the_job_at_both(tmp_path: Path) -> None:
    async def body(r: Rig) -> None:
        job_id = await r.submit("alice", parameters={"fails": {"bob": "error"}, "seconds": {"alice": 60}})
        assert await r.end(job_id) == "failed"
        assert no_drivers(r)
        for party in r.parties:
            assert "bob: the program failed" in (await r.job(party, job_id))["reason"]
        # an error's text may quote data: it stays at its party
        assert "ValueError: as asked" in json.dumps((await r.job("bob", job_id))["events"])
        assert "as asked" not in json.dumps((await r.job("alice", job_id)) | {"proposal": None})
        assert (await r.call("alice", "GET", f"jobs/{job_id}/result")).status_code == 404

    play(body, tmp_path)


def test_a_crashed_driver_is_tried_again_under_a_new_name(tmp_path: Path) -> None:
    async def body(r: Rig) -> None:
        job_id = await r.submit("alice", parameters={"fails": {"bob": "crash-once"}}, max_attempts=2)
        assert await r.end(job_id) == "succeeded"
        assert list(r.rays["bob"].jobs) == [submission_id(job_id, 1), submission_id(job_id, 2)]

    play(body, tmp_path)


def test_no_result_is_no_success(tmp_path: Path) -> None:
    async def body(r: Rig) -> None:
        job_id = await r.submit("alice", parameters={"fails": {"bob": "no-result"}})
        assert await r.end(job_id) == "failed"
        assert "without a result" in (await r.job("alice", job_id))["reason"]

    play(body, tmp_path)


@pytest.mark.parametrize("canceller", ["alice", "bob"])
def test_cancel_while_running_ends_it_everywhere(tmp_path: Path, canceller: str) -> None:
    async def body(r: Rig) -> None:
        job_id = await r.submit("alice", parameters={"seconds": 60})
        await r.until(job_id, "running")
        for _ in range(2):  # the second is harmless
            answer = await r.call(canceller, "POST", f"jobs/{job_id}/cancel", data={"reason": "enough"})
            assert answer.status_code == 200
        assert await r.end(job_id) == "cancelled"
        assert no_drivers(r)
        assert f"cancelled by {canceller}: enough" in (await r.job("alice", job_id))["reason"]
        again = await r.call("alice", "POST", f"jobs/{job_id}/cancel")
        assert again.status_code == (200 if canceller == "alice" else 409)

    play(body, tmp_path)


def test_a_person_approves_or_denies(tmp_path: Path) -> None:
    async def body(r: Rig) -> None:
        job_id, other = await r.submit("alice"), await r.submit("alice")
        while not (seen := await r.job("bob", job_id)).get("bundle_ready"):
            await asyncio.sleep(0.05)
        assert seen["approval_wanted"]
        program = (await r.call("bob", "GET", f"jobs/{job_id}/program")).json()
        assert "CONSORTIUM_SESSION" in program["files"]["main.py"]
        for _ in range(2):
            assert (await r.call("bob", "POST", f"jobs/{job_id}/approve")).status_code == 200
        assert (await r.call("bob", "POST", f"jobs/{job_id}/deny")).status_code == 409
        await r.until(other, "proposed", "bob")
        assert (await r.call("bob", "POST", f"jobs/{other}/deny", data={"reason": "not ours"})).status_code == 200
        assert await r.end(other) == "cancelled"
        assert "bob denied the job: not ours" in (await r.job("alice", other))["reason"]
        assert await r.end(job_id) == "succeeded"
        assert (await r.call("bob", "POST", f"jobs/{other}/approve")).status_code == 409

    play(body, tmp_path, policy=lambda p: {"default": "person"})


REFUSALS: list[tuple[str, dict[str, Any], str]] = [
    ("versions", {"versions": lambda p: {"ray": "2.9.3", "spu": f"{len(p)}"}}, "spu differs: alice has 5, bob has 3"),
    ("dataset", {"datasets": lambda p: {"table": f"/nowhere/{p}.csv"}}, "/nowhere/bob.csv"),
]


@pytest.mark.parametrize(("code", "overrides", "words"), REFUSALS, ids=[r[0] for r in REFUSALS])
def test_prepare_refuses_and_names_both_values(
    tmp_path: Path, code: str, overrides: dict[str, Any], words: str
) -> None:
    async def body(r: Rig) -> None:
        job_id = await r.submit("alice", datasets={"bob": ["table"]})
        assert await r.end(job_id) == "failed"
        for party in r.parties:
            assert words in (await r.job(party, job_id))["reason"]
        assert sum(ray.submits for ray in r.rays.values()) == 0

    play(body, tmp_path, **overrides)


def test_prepare_refuses_other_consortium_files_for_as_long_as_they_differ(tmp_path: Path) -> None:
    async def body(r: Rig) -> None:
        job_id = await r.submit("alice")
        while "alice has alice, bob has bob" not in (await r.job("alice", job_id))["reason"]:
            await asyncio.sleep(0.05)
        await r.until(job_id, {"approved", "preparing", "promised"})  # it is asked again once both are at one
        assert (await r.call("alice", "POST", f"jobs/{job_id}/cancel")).status_code == 200
        assert await r.end(job_id) == "cancelled"
        assert sum(ray.submits for ray in r.rays.values()) == 0

    play(body, tmp_path, consortium_digest=lambda p: p)


def break_ray(r: Rig) -> None:
    r.rays["bob"].down = True


def break_ray_version(r: Rig) -> None:
    r.rays["bob"].version = "2.10.0"


@pytest.mark.parametrize(
    ("fault", "words"),
    [(break_ray, "Ray of bob does not answer"), (break_ray_version, "Ray of bob is 2.10.0")],
)
def test_prepare_refuses_a_ray_that_is_not_right(tmp_path: Path, fault: Callable[[Rig], None], words: str) -> None:
    async def body(r: Rig) -> None:
        fault(r)
        job_id = await r.submit("alice")
        assert await r.end(job_id) == "failed"
        assert words in (await r.job("alice", job_id))["reason"]

    play(body, tmp_path)


def test_prepare_refuses_a_port_where_a_stale_receiver_listens(tmp_path: Path) -> None:
    async def body(r: Rig) -> None:
        port = int(r.own["bob"]["fed"]["0"].rpartition(":")[2])
        server = await asyncio.start_server(lambda *_: None, "0.0.0.0", port)
        job_id = await r.submit("alice")
        assert await r.end(job_id) == "failed"
        assert f"port 0.0.0.0:{port} (fed of slot 0) of bob is in use" in (await r.job("alice", job_id))["reason"]
        server.close()

    play(body, tmp_path)


def lose_driver(r: Rig, job_id: str) -> None:
    r.rays["bob"].kill(submission_id(job_id, 1))


def lose_ray(r: Rig, job_id: str) -> None:
    r.rays["bob"].forget()


def cut_one_way(r: Rig, job_id: str) -> None:
    r.cut |= {("bob", "alice")}


def cut_both_ways(r: Rig, job_id: str) -> None:
    r.cut |= {("bob", "alice"), ("alice", "bob")}


@pytest.mark.parametrize("fault", [lose_driver, lose_ray, cut_one_way, cut_both_ways])
def test_every_party_ends_in_time_when_something_dies(tmp_path: Path, fault: Callable[[Rig, str], None]) -> None:
    async def body(r: Rig) -> None:
        job_id = await r.submit("alice", parameters={"seconds": 120})
        await r.until(job_id, "running")
        await asyncio.sleep(1)
        began = time.monotonic()
        fault(r, job_id)
        await r.until(job_id, {"ending", "failed"})
        while not no_drivers(r):
            await asyncio.sleep(0.05)
        assert time.monotonic() - began < 2 + 5  # peer_lost_after_s + 5
        r.cut.clear()
        assert await r.end(job_id) == "failed"
        reason = (await r.job("alice", job_id))["reason"]
        assert "bob" in reason

    play(body, tmp_path, timeouts=HASTY)


def test_a_dead_coordinator_ends_the_attempt_and_its_return_settles_it(tmp_path: Path) -> None:
    async def body(r: Rig) -> None:
        job_id = await r.submit("bob", parameters={"seconds": 120})
        await r.until(job_id, "running")
        gone = time.monotonic()
        await r.stop("bob")
        seen = await r.until(job_id, "failed", "alice")
        assert not seen["settled"]
        assert "bob is lost" in seen["reason"]
        assert r.rays["alice"].alive() == []
        while r.rays["bob"].alive():  # nobody is there to stop it: its lease runs out
            await asyncio.sleep(0.05)
        assert time.monotonic() - gone < 2 + 5  # peer_lost_after_s + 5
        await r.start("bob")
        assert await r.end(job_id) == "failed"
        assert no_drivers(r)

    play(body, tmp_path, timeouts=HASTY)


def test_a_lossy_network_changes_nothing(tmp_path: Path) -> None:
    async def body(r: Rig) -> None:
        r.lose = {("alice", "bob"): 3, ("bob", "alice"): 4}
        job_id = await r.submit("alice")
        assert await r.end(job_id) in ("succeeded", "failed")
        assert max(ray.submits for ray in r.rays.values()) <= 1

    play(body, tmp_path, timeouts=HASTY)


def test_a_launch_that_ray_refuses_fails_with_its_answer(tmp_path: Path) -> None:
    async def body(r: Rig) -> None:
        r.rays["bob"].refuse = "no room at the inn"
        job_id = await r.submit("alice")
        assert await r.end(job_id) == "failed"
        assert "bob: the driver was not launched" in (await r.job("alice", job_id))["reason"]
        assert "no room at the inn" in json.dumps((await r.job("bob", job_id))["events"])

    play(body, tmp_path)


@pytest.mark.parametrize("party", ["alice", "bob"])
def test_a_ray_that_stands_still_while_a_driver_is_launched_ends_the_attempt(tmp_path: Path, party: str) -> None:
    async def body(r: Rig) -> None:
        r.rays[party].stops_at_launch = True
        job_id = await r.submit("alice")
        seen = await r.until(job_id, "ending", party)
        assert f"the Ray of {party} does not answer" in seen["reason"]
        r.rays[party].stops_at_launch = False
        r.rays[party].goes_on.set()
        assert await r.end(job_id) == "failed"
        while not no_drivers(r):
            await asyncio.sleep(0.05)

    play(body, tmp_path, timeouts=HASTY)


def test_an_orphan_driver_is_stopped_at_start(tmp_path: Path) -> None:
    async def run() -> None:
        async with Rig(tmp_path, ["alice", "bob"]) as r:
            ray: FakeRay = r.rays["alice"]
            body = {"submission_id": submission_id("20261124-probe-aaaaaa", 1), "entrypoint": "exec sleep 60"}
            await r.http.post(f"http://127.0.0.1:{r.ray_ports['alice']}/api/jobs/", json=body)
            assert len(ray.alive()) == 1
            await r.start()
            while ray.alive():
                await asyncio.sleep(0.05)

    asyncio.run(run())


def test_a_missing_peer_leaves_the_job_proposed_until_it_comes(tmp_path: Path) -> None:
    async def run() -> None:
        async with Rig(tmp_path, ["alice", "bob"]) as r:
            await r.start("alice")
            job_id = await r.submit("alice", job_folder(["alice", "bob"]))
            await asyncio.sleep(0.5)
            assert (await r.job("alice", job_id))["phase"] == "proposed"
            await r.start("bob")
            assert await r.end(job_id) == "succeeded"

    asyncio.run(run())


def test_logs_can_be_followed_to_the_end(tmp_path: Path) -> None:
    async def body(r: Rig) -> None:
        job_id = await r.submit("alice", parameters={"seconds": 1})
        await r.until(job_id, "running", "bob")
        text = (await r.call("bob", "GET", f"jobs/{job_id}/logs?follow=true&attempt=1")).text
        assert text == "driver of bob attempt 1\n"
        assert (await r.job("bob", job_id))["terminal"]

    play(body, tmp_path)


def test_an_attempt_that_a_peer_no_longer_names_is_silent_from_then_on_only(tmp_path: Path) -> None:
    """The peer's driver has ended and its heartbeat overtakes its outcome: that is no silence since the start."""

    async def run() -> None:
        async with rig(tmp_path, timeouts=HASTY) as r:
            job_id = await r.submit("alice", parameters={"seconds": 4})
            await r.until(job_id, "running")
            await asyncio.sleep(2.5)  # longer than peer_lost_after_s
            url = f"http://127.0.0.1:{r.ports['bob'][1]}/peer/v1/heartbeat"
            headers = {"x-consortium-party": "alice", "x-consortium-gateway-token": GATEWAY_TOKEN}
            for _ in range(30):
                assert (await r.http.post(url, json={"alive": []}, headers=headers)).status_code == 200
                await asyncio.sleep(0.02)
            assert await r.end(job_id) == "succeeded"

    asyncio.run(run())


def test_the_status_names_the_job_that_holds_a_slot(tmp_path: Path) -> None:
    async def run() -> None:
        async with rig(tmp_path) as r:
            job_id = await r.submit("alice", parameters={"seconds": 1})
            await r.until(job_id, "running")
            assert (await r.call("alice", "GET", "status")).json()["slots"] == {"all": 1, "used": {"0": job_id}}
            assert await r.end(job_id) == "succeeded"

    asyncio.run(run())
