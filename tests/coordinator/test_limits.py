"""What one peer, one program or one guesser may cost: requests, refusals on disk, the queue, logs, folders."""

from __future__ import annotations

import asyncio
import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from coordinator_rig import job_folder
from test_interfaces import FILES, FOLDER, HEADERS, Lone, play

from coordinator.accept import RefusedError, keep_bundle
from coordinator.buckets import Buckets, Refusals
from coordinator.config import Limits
from coordinator.driver_log import Log, LogReader
from coordinator.failpoints import Step
from coordinator.findings import CheckError, check_peer
from coordinator.limits import BodyLimit
from coordinator.model import Phase
from coordinator.peers import PeerError
from coordinator.retention import Retention


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_gives_a_burst_then_a_rate() -> None:
    clock = Clock()
    buckets = Buckets(2.0, 3, clock)
    assert [buckets.take("a") for _ in range(4)] == [0, 0, 0, 0.5]
    assert buckets.take("b") == 0  # each name has its own
    clock.now += 0.5
    assert [buckets.take("a") for _ in range(2)] == [0, 0.5]
    clock.now += 100
    assert [buckets.take("a") for _ in range(4)] == [0, 0, 0, 0.5]  # never more than the burst


def test_buckets_take_no_memory_for_ever() -> None:
    buckets = Buckets(1, 1)
    for n in range(5000):
        buckets.take(str(n))
    assert len(buckets._known) <= 1000


def test_half_a_body_is_no_message() -> None:
    """A peer that goes away in the middle said nothing: nobody may judge, refuse and record what it never sent."""
    parts = [
        {"type": "http.request", "body": b'{"half": ', "more_body": True},
        {"type": "http.disconnect"},
    ]
    asked: list[object] = []

    async def app(*_: object) -> None:
        asked.append("asked")

    async def receive() -> dict[str, Any]:
        return parts.pop(0)

    async def send(message: object) -> None:
        asked.append(message)

    asyncio.run(BodyLimit(app, lambda _: 100)({"type": "http", "path": "/", "headers": []}, receive, send))
    assert asked == []


def refused(lone: Lone) -> list[dict[str, Any]]:
    found = [json.loads(r.content) for r in lone.context.store.records()]
    return [e for e in found if e["kind"] == "refused"]


def test_a_peer_that_floods_is_answered_429_and_fills_no_disk(tmp_path: Path) -> None:
    async def body(lone: Lone) -> None:
        codes = []
        for _ in range(60):
            answer = await lone.peer.get("/peer/v1/time", headers=HEADERS)
            codes.append(answer.status_code)
        assert codes[:10] == [200] * 10
        assert set(codes[12:]) == {429}
        assert int(answer.headers["retry-after"]) >= 1
        assert "too many requests of alice: at most 0.01 requests a second" in answer.json()["detail"]
        other = await lone.peer.get("/peer/v1/time", headers=HEADERS | {"x-consortium-party": "carol"})
        assert other.status_code == 200  # one peer's flood is not another's
        assert len(refused(lone)) == 1
        lone.context.refusals.flush()  # by the same bound: a minute has not passed
        assert len(refused(lone)) == 1
        text = (await lone.operator.get("/metrics")).text
        assert 'consortium_messages_refused_total{peer="alice",status="429"} 50.0' in text

    play(tmp_path, body, limits={"peer_requests_per_s": 0.01, "peer_burst": 10})


def test_garbage_all_day_is_counted_not_kept(tmp_path: Path) -> None:
    async def body(lone: Lone) -> None:
        clock = Clock()
        lone.context.refusals = Refusals(lone.context.store, clock)
        strange = lone.sign("carol", lone.proposal().kind, lone.proposal().body)
        for _ in range(200):
            assert (await lone.send(strange, sender="alice")).status_code == 403  # carol's proposal from alice
        assert len(refused(lone)) == 20
        clock.now += 61
        assert (await lone.send(strange, sender="alice")).status_code == 403
        assert refused(lone)[-1]["left_out_before"] == 180
        for _ in range(5):
            await lone.send(strange, sender="alice")
        clock.now += 61
        lone.context.refusals.flush()
        assert refused(lone)[-1]["reason"] == "5 more messages"
        assert len(refused(lone)) == 22

    play(tmp_path, body)


def test_wrong_tokens_are_not_tried_for_ever(tmp_path: Path) -> None:
    async def body(lone: Lone) -> None:
        clock = Clock()
        lone.context.guard._wrong = Buckets(1 / 3, 20, clock)
        here, there = {"x-consortium-address": "192.0.2.7"}, {"x-consortium-address": "192.0.2.8"}
        codes = []
        for n in range(15):
            codes.append((await lone.api("GET", "status", headers=here | {"authorization": f"Bearer {n}"})).status_code)
            page = await lone.operator.post("/login", data={"token": str(n)}, headers=here)
            codes.append(page.status_code)
        assert (codes[:20], set(codes[20:])) == ([401] * 20, {429})
        right = await lone.api("GET", "status", headers=here)
        assert right.status_code == 429  # not even looked at: else guessing would go on
        assert "too many wrong tokens" in right.json()["detail"]
        assert (await lone.api("GET", "status", headers=there)).status_code == 200
        clock.now += 3
        assert (await lone.api("GET", "status", headers=here)).status_code == 200
        assert len(refused(lone)) == 3  # for thirty guesses: one at each door, one for being too many

    play(tmp_path, body)


def test_one_peer_cannot_fill_the_queue_of_all(tmp_path: Path) -> None:
    async def body(lone: Lone) -> None:
        def another(party: str, n: int) -> Any:
            return lone.sign(party, lone.proposal().kind, lone.proposal(party).body, job_id=f"20261124-n{n}-abcdef")

        for n in range(2):
            assert (await lone.send(another("alice", n))).status_code == 200
        answer = await lone.send(another("alice", 2))
        assert answer.status_code == 429  # try later: no refusal that ends the job
        assert "2 jobs of alice are open at bob, at most 2 (open_jobs_per_peer)" in answer.json()["detail"]
        assert (await lone.send(another("carol", 3), sender="carol")).status_code == 200
        answer = await lone.send(another("carol", 4), sender="carol")
        assert "3 jobs are open at bob, at most 3 (open_jobs)" in answer.json()["detail"]
        answer = await lone.api("POST", "jobs", files={"bundle": ("b.tar", FOLDER)})
        assert (answer.status_code, "open_jobs" in answer.json()["detail"]) == (429, True)

    play(tmp_path, body, limits={"open_jobs": 3, "open_jobs_per_peer": 2})


def test_one_peers_nonces_do_not_drown_those_of_another(tmp_path: Path) -> None:
    """A peer that brings nonces without end must not keep another's from counting, nor bring one for it."""

    async def body(lone: Lone) -> None:
        async def bring(party: str, nonce: str) -> None:
            headers = HEADERS | {"x-consortium-party": party}
            answer = await lone.peer.post("/peer/v1/reach-back", json={"nonce": nonce}, headers=headers)
            assert answer.status_code == 200

        for n in range(200):
            await bring("alice", f"{n:032x}")
        await bring("carol", "c" * 32)
        states = lone.context.peers.state
        assert "c" * 32 in states["carol"].nonces
        assert "c" * 32 not in states["alice"].nonces
        assert len(states["alice"].nonces) == 100

    play(tmp_path, body)


def test_a_body_costs_the_same_in_one_part_as_in_many_and_a_peer_a_bounded_share() -> None:
    """Parts of one byte behind a long one; and bodies of one peer that together are too much."""
    seen: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(len((await receive())["body"]))

    limited = BodyLimit(app, lambda _: 3_000_000, at_once=lambda: 4_000_000)

    async def post(party: str, parts: list[bytes], wait: asyncio.Event | None = None) -> int:
        left, said = list(parts), []

        async def receive() -> dict[str, Any]:
            if wait and len(left) == 1:
                await wait.wait()
            return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

        async def send(message: dict[str, Any]) -> None:
            said.append(message.get("status", 0))

        scope = {"type": "http", "path": "/", "headers": [], "state": {"party": party}}
        await limited(scope, receive, send)  # type: ignore[arg-type]
        return said[0] if said else 200

    async def run() -> None:
        begun = time.monotonic()
        assert await post("alice", [b"x" * 2_900_000, *[b"x"] * 50_000]) == 200
        assert time.monotonic() - begun < 10  # copied for each part it were 145 GB
        go = asyncio.Event()
        first = asyncio.create_task(post("alice", [b"x" * 2_000_000, b"x"], go))
        await asyncio.sleep(0)
        assert await post("alice", [b"x" * 2_500_000]) == 429
        assert await post("carol", [b"x" * 2_500_000]) == 200
        go.set()
        assert await first == 200
        assert await post("alice", [b"x" * 2_500_000]) == 200  # given back

    asyncio.run(run())
    assert seen == [2_950_000, 2_500_000, 2_000_001, 2_500_000]


def test_the_initiator_is_told_why_a_peer_does_not_take_a_job(tmp_path: Path) -> None:
    async def body(lone: Lone) -> None:
        job_id = (await lone.api("POST", "jobs", files={"bundle": ("b.tar", FOLDER)})).json()["job_id"]
        await lone.coordinator.worker.close()  # no tries but this one
        lone.context.undelivered.clear()
        lone.coordinator.worker._doer._failed(job_id, "alice", PeerError("alice answered HTTP 429: her queue", 429))
        assert (await lone.api("GET", f"jobs/{job_id}")).json()["undelivered"] == {
            "alice": "alice answered HTTP 429: her queue"
        }

    play(tmp_path, body)


@pytest.mark.parametrize(("status", "code"), [(429, "busy"), (0, "unreachable"), (502, "unreachable")])
def test_too_many_requests_is_no_refusal_that_ends_a_job(tmp_path: Path, status: int, code: str) -> None:
    """`busy` is asked again (before_start); `unreachable` ends the job."""

    async def body(lone: Lone) -> None:
        async def reach(peer: str) -> str:
            raise PeerError(f"{peer} answered HTTP {status}", status)

        lone.context.peers.reach = reach  # type: ignore[method-assign]
        with pytest.raises(CheckError) as found:
            await check_peer(lone.context, "alice")
        assert found.value.code == code

    play(tmp_path, body)


def test_a_full_disk_takes_no_new_jobs(tmp_path: Path) -> None:
    async def body(lone: Lone) -> None:
        answer = await lone.api("POST", "jobs", files={"bundle": ("b.tar", FOLDER)})
        assert answer.status_code == 507
        detail = answer.json()["detail"]
        for part in ("bytes are free", f"{10**17} are needed", str(lone.context.config.state_dir), "make room"):
            assert part in detail
        answer = await lone.send(lone.proposal())
        assert answer.status_code == 507
        assert str(tmp_path) not in answer.text  # a peer is told no paths
        assert list((lone.context.config.state_dir / "bundles").iterdir()) == []

    play(tmp_path, body, limits={"min_free_bytes": 10**17})


def test_a_job_folder_that_does_not_fit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    async def body(lone: Lone) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))  # the kernel refuses more in one file
        try:
            with pytest.raises(RefusedError, match="bob cannot keep the job folder: File too large") as found:
                keep_bundle(lone.context, FILES)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert found.value.status == 507
        assert list((lone.context.config.state_dir / "bundles").iterdir()) == []

    play(tmp_path, body)


def answer_of(text: str, **style: Any) -> bytes:
    return json.dumps({"logs": text}, **style).encode()


NASTY = 'one "quoted" \\ back\\\\slash\n\ttab é ü 😀 \x00 end\n'


@pytest.mark.parametrize("style", [{}, {"ensure_ascii": False, "separators": (",", ":")}], ids=["ray", "compact"])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 10**6])
def test_a_log_is_read_in_pieces_of_any_size(size: int, style: dict[str, Any]) -> None:
    raw = answer_of(NASTY * 5, **style)
    whole, short = LogReader(10**6), LogReader(10)
    for at in range(0, len(raw), size):
        whole.feed(raw[at : at + size])
        short.feed(raw[at : at + size])
    assert whole.log().text == NASTY * 5
    assert short.log().text == (NASTY * 5)[-10:]


def test_a_long_log_costs_no_memory_and_says_what_is_missing() -> None:
    reader = LogReader(1000)
    reader.feed(b'{"logs": "')
    for _ in range(1000):
        reader.feed(b"0123456789\\n" * 100)
        assert len(reader._raw) + len(reader._text) < 10_000
    reader.feed(b'"}')
    found = reader.log()
    assert found.total == 1_100_000
    assert found.shown().startswith("[1099000 characters before this were left out]\n")
    assert len(found.text) == 1000


@pytest.mark.parametrize(
    "raw", [b"", b"{}", b'{"logs": "never ends', b"<html>" * 50, b'{"logs": "a\\x41 no escape"}', b'{"logs": null}']
)
def test_what_is_no_log_is_refused(raw: bytes) -> None:
    reader = LogReader(100)
    with pytest.raises(ValueError, match="log"):
        reader.feed(raw)
        reader.log()


def test_following_a_log_goes_on_where_it_was() -> None:
    assert Log("abcdef", 6).since(4) == "ef"
    assert Log("xyz", 10).since(7) == "xyz"
    assert Log("xyz", 10).since(0) == "[7 characters before this were left out]\nxyz"
    assert Log("xyz", 10).since(5) == "[2 characters before this were left out]\nxyz"


def ended(lone: Lone, job_id: str, **changes: Any) -> None:
    """A job with folders, as it is after its end."""
    context = lone.context
    found = context.store.load(job_id)
    assert found is not None
    changes = {"phase": Phase.FAILED, "settled": True, "driver_gone": True} | changes
    context.store.save(Step.END, found, replace(found, version=found.version + 1, **changes), time.time(), "test")
    (context.attempt_dir(job_id, 1) / "output").mkdir(parents=True)
    (context.attempt_dir(job_id, 1) / "output" / "result.json").write_text("{}")


async def jobs(lone: Lone, *programs: str) -> list[str]:
    ids = []
    for main in programs:
        tar = job_folder(["alice", "bob", "carol"], main=main)
        ids.append((await lone.api("POST", "jobs", files={"bundle": ("b.tar", tar)})).json()["job_id"])
    await lone.coordinator.worker.close()  # the test alone moves them
    return ids


def test_old_folders_are_removed_and_recorded(tmp_path: Path) -> None:
    async def body(lone: Lone) -> None:
        context = lone.context
        old, shares, unsettled, live, open_ = await jobs(lone, "a", "b", "c", "d", "b")
        for job_id in (old, shares):
            ended(lone, job_id)
        ended(lone, unsettled, settled=False)
        ended(lone, live, driver_gone=False)
        bundles = {j: context.bundle_path(context.store.load(j).proposal.program_digest) for j in (old, shares, open_)}  # type: ignore[union-attr]
        retention = Retention(context)
        assert await retention.sweep() == []  # nothing is old yet
        await asyncio.sleep(0.05)
        context.config = context.config.model_copy(
            update={"limits": context.config.limits.model_copy(update={"keep_jobs_days": 0.01 / 86400})}
        )
        assert await retention.sweep() == [old, shares]
        assert sorted(p.name for p in context.config.jobs_dir.iterdir()) == sorted([unsettled, live])
        assert [bundles[j].exists() for j in (old, shares, open_)] == [False, True, True]  # one program, two jobs
        last = [json.loads(r.content) for r in context.store.records()][-1]
        assert (last["kind"], last["jobs"]) == ("removed", [old, shares])
        assert await retention.sweep() == []
        assert (await lone.api("GET", f"jobs/{old}")).json()["phase"] == "failed"  # records stay
        assert (await lone.api("GET", f"jobs/{old}/result")).status_code == 404

    play(tmp_path, body)


def test_what_cannot_be_removed_is_left_and_not_recorded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program's folders may be of another user; root, under whom tests may run, is refused by the call itself."""

    def unlink(path: Any, **_: Any) -> None:  # a bundle too: another program may have taken the folder's rights away
        raise PermissionError(13, "Permission denied", path)

    async def body(lone: Lone) -> None:
        (job_id,) = await jobs(lone, "a")
        ended(lone, job_id)
        folder = lone.context.attempt_dir(job_id, 1) / "output"
        monkeypatch.setattr(os, "unlink", unlink)
        lone.context.config = lone.context.config.model_copy(
            update={"limits": lone.context.config.limits.model_copy(update={"keep_jobs_days": 1e-9})}
        )
        await asyncio.sleep(0.05)
        retention = Retention(lone.context)
        assert await retention.sweep() == [job_id]
        assert (folder / "result.json").exists()
        assert await retention.sweep() == []

    play(tmp_path, body)


def test_the_bounds_do_not_reach_ten_parties_at_work() -> None:
    """Heartbeats of the shortest interval, and twenty requests for each of ten jobs a second, from one peer."""
    assert Limits().peer_requests_per_s >= 1 / 0.2 + 20 * 10


def test_the_stack_hands_over_the_limits_with_the_same_defaults() -> None:
    from consortium.settings import LocalLimits

    local = LocalLimits().model_dump()
    assert local == {name: value for name, value in Limits().model_dump().items() if name in local}
