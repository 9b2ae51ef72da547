"""A configuration that changes while the coordinator runs: parties that come and go, wrong documents, terms that stay."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from coordinator_rig import OPERATOR_TOKEN, Rig, job_folder, rig

from coordinator.reload_command import NO_ANSWER, REFUSED, RESTART, TAKEN, ask_to_reload

pytestmark = pytest.mark.anyio
Edit = Callable[[dict[str, Any]], object]
THREE = "d" * 64
TWO = ["alice", "bob"]
PATIENT = {
    "timeouts": {
        "heartbeat_s": 0.3,
        "peer_lost_after_s": 10,
        "promise_s": 30,
        "start_window_s": 30,
        "peer_request_s": 8,
    }
}
"""A busy machine is no reason to lose a peer; nothing here waits for one of these to run out."""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def edit(r: Rig, party: str, change: Edit) -> None:
    """Change a party's file, as a converge does: by renaming."""
    path = r.config_path(party)
    document = json.loads(path.read_text())
    change(document)
    draft = path.with_suffix(".new")
    draft.write_text(json.dumps(document))
    draft.replace(path)


def without(r: Rig, gone: str) -> Edit:
    """The file before `gone` joined."""

    def change(document: dict[str, Any]) -> None:
        document["members"] = [m for m in document["members"] if m != gone]
        document["peers"].pop(gone, None)

    return change


def with_all(r: Rig, party: str) -> Edit:
    """The file of everybody, under a digest of its own."""

    def change(document: dict[str, Any]) -> None:
        whole = r.document(party)
        document |= {"members": whole["members"], "peers": whole["peers"], "left": {}, "consortium_digest": THREE}

    return change


def leaves(r: Rig, gone: str) -> Edit:
    def change(document: dict[str, Any]) -> None:
        document["peers"].pop(gone, None)
        document |= {"left": {gone: r.public(gone)}, "consortium_digest": "e" * 64}

    return change


async def reload(r: Rig, party: str, change: Edit = dict) -> dict[str, Any]:
    edit(r, party, change)
    answer = await r.call(party, "POST", "reload")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def records(r: Rig, party: str, kind: str) -> list[dict[str, Any]]:
    found = [json.loads(record.content) for record in r.running[party].context.store.records()]
    return [record for record in found if record["kind"] == kind]


async def running(r: Rig, job_id: str, *parties: str) -> None:
    await r.until(job_id, "running", *parties, limit_s=60)
    end = time.monotonic() + 60
    while not all((r.folder / p / "jobs" / job_id / "1" / "output" / "ran").exists() for p in parties):
        assert time.monotonic() < end, "the drivers do not begin"
        await asyncio.sleep(0.05)


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[Rig]:
    """alice and bob; carol is made, and known to nobody yet."""
    async with Rig(tmp_path, [*TWO, "carol"], slots=2, **PATIENT) as r:
        for party in TWO:
            edit(r, party, without(r, "carol"))
        edit(r, "carol", with_all(r, "carol"))
        await r.start(*TWO)
        yield r


@pytest.fixture
async def three(tmp_path: Path) -> AsyncIterator[Rig]:
    async with rig(tmp_path, [*TWO, "carol"], slots=2, **PATIENT) as r:
        yield r


async def test_a_third_party_joins_while_a_job_of_the_first_two_runs(two: Rig) -> None:
    tasks = dict(two.running["alice"]._beats)
    long = await two.submit("alice", job_folder(TWO, parameters={"seconds": 4}))
    await running(two, long, *TWO)
    before = two.rays["alice"].processes.copy()
    done = await reload(two, "alice", with_all(two, "alice"))
    assert {"members", "peers", "consortium_digest"} <= set(done["changed"])
    await reload(two, "bob", with_all(two, "bob"))
    await two.start("carol")
    new = await two.submit("carol", job_folder(two.parties))
    assert await two.end(new, limit_s=60) == "succeeded"
    assert await two.end(long, *TWO, limit_s=60) == "succeeded"
    assert two.running["alice"]._beats["bob"] is tasks["bob"], "the heartbeats of another peer began anew"
    assert (await two.job("alice", long))["attempt"] == 1
    assert before.items() <= two.rays["alice"].processes.items()
    (record,) = records(two, "alice", "reloaded")
    assert (record["consortium_files_before"], record["consortium_files"]) == ("c" * 64, THREE)
    assert record["settings_before"] == done["before"] != record["settings"] == done["after"]


async def test_while_digests_differ_a_job_waits_and_says_why_and_then_starts_by_itself(two: Rig) -> None:
    await reload(two, "alice", with_all(two, "alice"))
    job_id = await two.submit("alice", job_folder(TWO))
    end = time.monotonic() + 60
    while "consortium files differ" not in (seen := await two.job("alice", job_id))["reason"]:
        assert time.monotonic() < end, seen
        await asyncio.sleep(0.05)
    assert THREE in seen["reason"]
    assert "c" * 64 in seen["reason"]
    assert not seen["terminal"]
    await reload(two, "bob", with_all(two, "bob"))
    assert await two.end(job_id, *TWO, limit_s=60) == "succeeded"


async def test_a_queued_job_outlives_a_change_that_all_take_over(two: Rig) -> None:
    """It was proposed under the old digest; what must agree is what the parties have when they promise."""
    for party in TWO:
        await reload(two, party, lambda d: d.update(policy={"default": "person"}))
    job_id = await two.submit("alice", job_folder(TWO))
    await two.until(job_id, "proposed", "bob", limit_s=60)
    for party in TWO:
        await reload(two, party, with_all(two, party))
    end = time.monotonic() + 60
    while not (await two.job("bob", job_id))["bundle_ready"]:
        assert time.monotonic() < end
        await asyncio.sleep(0.05)
    assert (await two.call("bob", "POST", f"jobs/{job_id}/approve")).status_code == 200
    assert await two.end(job_id, *TWO, limit_s=60) == "succeeded"


async def test_a_party_leaves_jobs_with_it_end_and_those_of_the_others_go_on(three: Rig) -> None:
    ours = await three.submit("alice", job_folder(TWO, parameters={"seconds": 5}))
    with_carol = await three.submit("bob", job_folder(three.parties, parameters={"seconds": 60}))
    await running(three, ours, *TWO)
    await running(three, with_carol, *three.parties)
    for party in TWO:
        edit(three, party, lambda d: d.update(policy={"default": "approve"}))
        await reload(three, party, leaves(three, "carol"))
    for party in TWO:
        seen = await three.until(with_carol, "failed", party, limit_s=60)
        assert "carol has left the consortium" in seen["reason"]
    assert await three.end(ours, *TWO, limit_s=60) == "succeeded"
    assert (await three.job("alice", ours))["attempt"] == 1
    for party in TWO:
        status = (await three.call(party, "GET", "status")).json()
        assert (status["left"], sorted(status["peers"])) == (["carol"], sorted(set(TWO) - {party}))
        assert "carol" not in three.running[party]._beats


@pytest.mark.parametrize("initiator", ["carol", "alice"])
async def test_an_open_job_of_a_party_that_left_ends_before_it_starts(three: Rig, initiator: str) -> None:
    for party in TWO:
        await reload(three, party, lambda d: d.update(policy={"default": "person"}))
    job_id = await three.submit(initiator, job_folder(three.parties))
    await three.until(job_id, "proposed", limit_s=60)
    for party in TWO:
        await reload(three, party, leaves(three, "carol"))
    for party in TWO:
        assert "carol has left the consortium" in (await three.until(job_id, "failed", party, limit_s=60))["reason"]
    assert not any(ray.submits for ray in three.rays.values())


async def test_whoever_left_is_neither_heard_nor_asked_and_its_signatures_stay_good(three: Rig) -> None:
    job_id = await three.submit("carol", job_folder(three.parties))
    assert await three.end(job_id, limit_s=60) == "succeeded"
    for party in TWO:
        await reload(three, party, leaves(three, "carol"))
    refused = await three.submit_refused("alice", job_folder(three.parties))
    assert "['carol'] have left the consortium" in refused
    late = await three.submit("carol", job_folder(three.parties))
    end = time.monotonic() + 60
    while "is not a peer" not in str((await three.job("carol", late))["undelivered"]):
        assert time.monotonic() < end, await three.job("carol", late)
        await asyncio.sleep(0.1)
    verifier = three.running["alice"].context.verifier
    old = three.running["alice"].context.store.load(job_id)
    assert old
    assert {s.party for s in old.statements.values()} == set(three.parties)
    for statement in old.statements.values():
        verifier.check(statement)


async def test_it_may_come_back_to_its_place(three: Rig) -> None:
    for party in TWO:
        await reload(three, party, leaves(three, "carol"))
    for party in three.parties:
        await reload(three, party, with_all(three, party))
    assert await three.end(await three.submit("alice", job_folder(three.parties)), limit_s=60) == "succeeded"


def revokes(gone: str, r: Rig, *, undo: bool = False) -> Edit:
    """What `consortium revoke` brings: the digest of the consortium files stays."""

    def change(document: dict[str, Any]) -> None:
        if undo:
            document |= {"revoked": {}, "peers": r.document(document["party"])["peers"]}
        else:
            document["peers"].pop(gone)
            document["revoked"] = {gone: r.public(gone)}

    return change


async def test_a_peer_is_revoked_by_one_party_alone_and_trusted_again(three: Rig) -> None:
    ours = await three.submit("alice", job_folder(TWO, parameters={"seconds": 5}))
    with_carol = await three.submit("bob", job_folder(three.parties, parameters={"seconds": 60}))
    await running(three, ours, *TWO)
    await running(three, with_carol, *three.parties)
    await reload(three, "alice", revokes("carol", three))
    for party in TWO:
        seen = await three.until(with_carol, "failed", party, limit_s=60)
        assert "alice has revoked carol" in seen["reason"]
    await three.until(with_carol, "failed", "carol", limit_s=60)  # bob is no party to it, and tells her
    assert await three.end(ours, *TWO, limit_s=60) == "succeeded"
    (record,) = records(three, "alice", "revoked")
    assert (record["peer"], "carol is trusted no more" in record["reason"]) == ("carol", True)
    assert records(three, "bob", "revoked") == []
    status = (await three.call("alice", "GET", "status")).json()
    assert (status["revoked"], sorted(status["peers"])) == (["carol"], ["bob"])

    refused = await three.submit_refused("alice", job_folder(three.parties))
    assert "alice has revoked ['carol']" in refused
    late = await three.submit("carol", job_folder(["alice", "carol"]))
    end = time.monotonic() + 60
    while "is not a peer" not in str((await three.job("carol", late))["undelivered"]):
        assert time.monotonic() < end, await three.job("carol", late)
        await asyncio.sleep(0.1)
    assert await three.end(await three.submit("bob", job_folder(["bob", "carol"])), "bob", "carol") == "succeeded"

    await reload(three, "alice", revokes("carol", three, undo=True))
    assert [record["peer"] for record in records(three, "alice", "unrevoked")] == ["carol"]
    assert await three.end(await three.submit("alice", job_folder(three.parties)), limit_s=60) == "succeeded"


async def test_the_last_peer_may_be_revoked(tmp_path: Path) -> None:
    async with rig(tmp_path, TWO, slots=2, **PATIENT) as r:
        job_id = await r.submit("bob", job_folder(TWO, parameters={"seconds": 60}))
        await running(r, job_id, *TWO)
        await reload(r, "alice", revokes("bob", r))
        assert "alice has revoked bob" in (await r.until(job_id, {"ending", "failed"}, "alice", limit_s=60))["reason"]
        assert (await r.call("alice", "GET", "status")).json()["peers"] == {}
        await r.stop("alice")
        await r.start("alice")
        assert records(r, "alice", "started")[-1]["revoked"] == ["bob"]
        assert not r.running["alice"]._beats


def _moved(document: dict[str, Any]) -> None:
    document["members"] = ["bob", "alice", "carol"]


def _gone(document: dict[str, Any]) -> None:
    document["members"] = TWO
    document["peers"].pop("carol")


# ruff: noqa: E501 a table is read by columns
WRONG: dict[str, tuple[Edit, int, str]] = {
    "unknown field": (lambda d: d.update(peer={}), 422, "Extra inputs are not permitted"),
    "wrong value": (lambda d: d["limits"].update(max_attempts=99), 422, "limits.max_attempts"),
    "peer without a key": (lambda d: d["peers"]["bob"].update(signing_key="x"), 422, "signing_key of bob"),
    "left and still a peer": (lambda d: d.update(left={"bob": "x"}), 422, "they must be the other members"),
    "left and no member": (lambda d: d.update(left={"dave": "x"}), 422, "left names ['dave']"),
    "left is this party": (lambda d: d.update(left={"alice": "x"}), 422, "alice has left"),
    "revoked and still a peer": (lambda d: d.update(revoked={"bob": "x"}), 422, "they must be the other members"),
    "revoked and no member": (lambda d: d.update(revoked={"dave": "x"}), 422, "revoked names ['dave']"),
    "revoked is this party": (lambda d: d.update(revoked={"alice": "x"}), 422, "a party revokes others"),
    "another order": (_moved, 422, "a member's place decides port numbers"),
    "a member is gone": (_gone, 422, "whoever leaves is named in `left`"),
    "another port": (lambda d: d["ports"].update(peer=1), 409, "ports: another value takes a restart"),
    "one slot less": (
        lambda d: (d.update(slots=1), d["own"]["fed"].pop("1"), d["own"]["spu"].pop("1")),
        409,
        "own: another",
    ),
    "another name": (lambda d: d.update(consortium="other"), 409, "consortium: another"),
}


async def test_a_wrong_document_is_refused_with_a_record_and_the_old_one_stays(three: Rig) -> None:
    text, config = three.config_path("alice").read_text(), three.running["alice"].context.config
    for name, (change, status, said) in WRONG.items():
        edit(three, "alice", change)
        answer = await three.call("alice", "POST", "reload")
        assert (answer.status_code, said in answer.text) == (status, True), f"{name}: {answer.text}"
        assert three.running["alice"].context.config is config, name
        record = records(three, "alice", "reload-refused")[-1]
        assert said in record["reason"], name
        assert record["consortium_files"] == "c" * 64
        three.config_path("alice").write_text(text)
    three.config_path("alice").write_text(text[:-20])
    assert (await three.call("alice", "POST", "reload")).status_code == 422
    three.config_path("alice").write_text(text)
    assert (await three.call("alice", "POST", "reload")).json()["changed"] == []
    assert records(three, "alice", "reloaded") == []
    assert await three.end(await three.submit("alice", job_folder(three.parties)), limit_s=60) == "succeeded"


async def test_an_attempt_keeps_the_terms_it_began_with(tmp_path: Path) -> None:
    async with rig(tmp_path, TWO, slots=2, **PATIENT) as r:
        first = await r.submit("alice", job_folder(TWO, parameters={"seconds": 4}))
        await running(r, first, *TWO)
        for party in TWO:
            await reload(r, party, lambda d: d["timeouts"].update(job_s=1.5))
        second = await r.submit("alice", job_folder(TWO, parameters={"seconds": 30}))
        assert await r.end(second, limit_s=60) == "failed"
        assert "ran longer than 1.5 s" in (await r.job("alice", second))["reason"]
        assert await r.end(first, limit_s=60) == "succeeded"
        session = json.loads((tmp_path / "alice" / "jobs" / first / "1" / "session.json").read_text())
        assert session["timeouts"]["job_s"] == 60


async def test_limits_and_policy_count_from_the_next_request_on(tmp_path: Path) -> None:
    async with rig(tmp_path, TWO, **PATIENT) as r:
        await reload(r, "bob", lambda d: d.update(policy={"default": "deny"}))
        assert await r.end(await r.submit("alice", job_folder(TWO)), limit_s=60) == "cancelled"
        await reload(r, "bob", lambda d: d.update(policy={"default": "approve"}))
        edit(r, "bob", lambda d: d["limits"].update(peer_requests_per_s=0.001, peer_burst=1))
        await r.call("bob", "POST", "reload")
        end = time.monotonic() + 60
        while "429" not in (error := (await r.call("alice", "GET", "status")).json()["peers"]["bob"]["error"]):
            assert time.monotonic() < end, error
            await asyncio.sleep(0.05)


async def test_the_command_and_the_signal_reach_a_coordinator_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with Rig(tmp_path, TWO) as r:
        path = r.config_path("alice")
        assert await asyncio.to_thread(ask_to_reload, path, 0.0) == NO_ANSWER
        process = r.spawn("alice")
        await r.wait_up("alice")
        ask = [sys.executable, "-m", "coordinator", "reload", "--config", str(path)]
        edit(r, "alice", lambda d: d["limits"].update(log_bytes=5000))
        done = await asyncio.create_subprocess_exec(*ask, stdout=asyncio.subprocess.PIPE)
        out, _ = await done.communicate()
        assert (done.returncode, b'"changed":["limits"]' in out) == (TAKEN, True), out
        edit(r, "alice", lambda d: d.update(bind="127.0.0.2"))
        assert await asyncio.to_thread(ask_to_reload, path) == RESTART
        edit(r, "alice", lambda d: d.update(bind="127.0.0.1", slots=0))
        assert await asyncio.to_thread(ask_to_reload, path) == REFUSED
        assert "slots" in capsys.readouterr().err
        edit(r, "alice", lambda d: d.update(slots=1, policy={"default": "deny"}))
        os.kill(process.pid, signal.SIGHUP)
        end = time.monotonic() + 60
        while (await r.call("alice", "GET", "status")).json()["policy"]["default"] != "deny":
            assert time.monotonic() < end
            await asyncio.sleep(0.05)
        assert process.poll() is None
        path.write_text("{")
        assert await asyncio.to_thread(ask_to_reload, path) == REFUSED


async def test_only_the_operator_may_ask_for_it(tmp_path: Path) -> None:
    async with Rig(tmp_path, TWO) as r:
        await r.start("alice")
        url = f"http://127.0.0.1:{r.ports['alice'][0]}/api/v1/reload"
        assert (await r.http.post(url)).status_code == 401
        assert (await r.http.post(url, headers={"authorization": f"Bearer {OPERATOR_TOKEN}"})).status_code == 200


async def test_a_coordinator_may_start_with_a_party_that_has_left(three: Rig) -> None:
    job_id = await three.submit("carol", job_folder(three.parties))
    assert await three.end(job_id, limit_s=60) == "succeeded"
    await three.stop("alice")
    edit(three, "alice", leaves(three, "carol"))
    await three.start("alice")
    assert (await three.job("alice", job_id))["phase"] == "succeeded"
    assert three.running["alice"].context.config.present == ("alice", "bob")
