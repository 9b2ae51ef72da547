"""Settings, clock measurement, the client to peers, Ray's Jobs API, the command line: each with what can go wrong."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import builders
import httpx
import pytest
from coordinator_rig import FakeRay, Rig, tar_of
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding

from coordinator import driver, failpoints, views
from coordinator.__main__ import main
from coordinator.app import _listen
from coordinator.config import ConfigError, load_config
from coordinator.context import open_context, read_secret
from coordinator.driver_log import Log
from coordinator.launcher import LauncherError, RayLauncher, RefusedError, State, Submission
from coordinator.messages import Heartbeat, Times
from coordinator.model import Phase
from coordinator.peers import PeerError, Peers, PeerState, Sample, measure
from coordinator.session import load as load_session


def deny(**fields: Any) -> dict[str, Any]:
    """A policy of one rule."""
    return {"rules": [{"name": "r", "verdict": "deny", **fields}]}


PROBLEMS: list[tuple[str, Callable[[dict[str, Any]], object], str]] = [
    ("misspelt", lambda d: d.update(slot=1), "slot: "),
    ("not a member", lambda d: d.update(party="carol"), "it must be one of them"),
    ("peer missing", lambda d: d.update(peers={}), "they must be the other members ['bob']"),
    ("slot without port", lambda d: d.update(slots=2), "own.fed"),
    ("too few heartbeats", lambda d: d["timeouts"].update(heartbeat_s=5), "at least two heartbeats"),
    ("rule with a stranger", lambda d: d.update(policy=deny(initiators=["carol"])), "rule 'r' names ['carol']"),
    ("rule with a stranger's part", lambda d: d.update(policy=deny(parties=["dave"])), "rule 'r' names ['dave']"),
    ("rule on unknown data", lambda d: d.update(policy=deny(datasets=["tabel"])), "own datasets ['table']"),
    ("rule that names nothing", lambda d: d.update(policy=deny(programs=[])), "policy.rules.0.programs"),
    ("wrong url", lambda d: d["ray"].update(jobs_url="ftp://x"), "ray.jobs_url"),
    ("no timeout", lambda d: d["timeouts"].pop("promise_s"), "timeouts.promise_s"),
]


@pytest.mark.parametrize(("spoil", "words"), [p[1:] for p in PROBLEMS], ids=[p[0] for p in PROBLEMS])
def test_settings_name_field_and_value(tmp_path: Path, spoil: Callable[[Any], object], words: str) -> None:
    rig = Rig(tmp_path, ["alice", "bob"])
    document = rig.document("alice")
    spoil(document)
    rig.config_path("alice").write_text(json.dumps(document))
    with pytest.raises(ConfigError) as caught:
        load_config(rig.config_path("alice"))
    assert words in str(caught.value)
    assert main(["serve", "--config", str(rig.config_path("alice"))]) == 2


def test_settings_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / "none.json")
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(ConfigError, match="is not JSON"):
        load_config(tmp_path / "x.json")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_secret(tmp_path / "none")
    (tmp_path / "short").write_text("abc\n")
    with pytest.raises(ConfigError, match="holds 3 characters"):
        read_secret(tmp_path / "short")


def test_clock_offset_is_taken_from_the_shortest_way() -> None:
    # the peer is 5 s ahead; 0.1 s there, 0.3 s back, 1 s of work: the error is half the difference
    slow = measure(100.0, Times(received_at=105.1, sent_at=106.1), 101.4)
    assert slow.offset_s == pytest.approx(4.9)
    assert slow.delay_s == pytest.approx(0.4)
    assert abs(slow.offset_s - 5) <= slow.delay_s / 2 + 1e-9
    state = PeerState(0.0)
    assert state.best is None
    now = slow.at
    state.samples.extend([slow, Sample(5.0, 0.01, now), Sample(5.3, 0.7, now), Sample(9.0, 0.001, now - 500)])
    assert state.best == Sample(5.0, 0.01, now)  # a clock may have been set since the oldest


def test_a_clock_that_was_set_is_seen_with_the_next_measurement() -> None:
    """Two measurements that cannot both be true: the older one, however short its way, is of another time."""
    state = PeerState(0.0)
    state.samples.extend([Sample(0.0, 0.001, 100.0), Sample(3.0, 0.2, 101.0)])
    assert state.best == Sample(3.0, 0.2, 101.0)
    state.samples.append(Sample(3.05, 0.002, 102.0))
    assert state.best == Sample(3.05, 0.002, 102.0)


def test_a_peer_counts_as_lost_when_either_direction_fails() -> None:
    assert PeerState(0.0).lost_for(3) == 3
    assert PeerState(0.0, heard=8.0, reached=2.0).lost_for(10) == 8
    assert PeerState(0.0, heard=2.0, reached=8.0).lost_for(10) == 8


@pytest.mark.parametrize(
    ("heard", "reached", "words"),
    [
        (99.0, 99.0, "its coordinator lives, but does not say that the attempt does"),
        (90.0, 99.0, "its coordinator answers, but its own messages do not come through the gateways"),
        (99.0, 90.0, "the way to bob's gateway is down: refused"),
        (90.0, 90.2, "bob's gateway or the way to it is down: refused"),
        (90.2, 90.0, "bob's gateway or the way to it is down: refused"),
        (None, None, "(last heard never, last answered never)"),
    ],
)
def test_which_part_of_a_silent_peer_is_to_blame(heard: float | None, reached: float | None, words: str) -> None:
    state = PeerState(0.0, heard=heard, reached=reached, error="refused")
    assert words in state.account("bob", 100.1, 10)


def test_what_a_peer_may_answer(tmp_path: Path) -> None:
    answers = {
        "/peer/v1/time": httpx.Response(200, content=b"x" * 2_000_000),
        "/peer/v1/heartbeat": httpx.Response(200, json={"received_at": 1, "sent_at": 1, "more": 1}),
        "/peer/v1/reach": httpx.Response(200, json={"nonce": "0" * 32}),
        "/peer/v1/bundle/x": httpx.Response(404, text="no such place"),
    }

    async def run() -> None:
        peers = Peers(load_config(Rig(tmp_path, ["alice", "bob"]).config_path("alice")), "token")

        def answer(request: httpx.Request) -> httpx.Response:
            return answers["/peer/v1/" + request.url.path.partition("/peer/v1/")[2]]

        peers._http["bob"] = httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="http://x")
        with pytest.raises(PeerError, match="longer than"):
            await peers.measure_clock("bob")
        with pytest.raises(PeerError, match="not understood"):
            await peers.heartbeat("bob", Heartbeat())
        with pytest.raises(PeerError, match="nonce"):
            await peers.reach("bob")
        with pytest.raises(PeerError, match=r"HTTP 404 .*no such place") as caught:
            await peers.send_bundle("bob", "x", b"")
        assert caught.value.status == 404
        await peers.close()

    asyncio.run(run())


def test_ray_jobs_api(tmp_path: Path) -> None:
    async def run() -> None:
        ray = FakeRay()
        launcher = RayLauncher("http://ray:8265/")
        launcher._http = httpx.AsyncClient(transport=httpx.ASGITransport(ray.app()), base_url="http://ray:8265")
        program = tmp_path / "main.py"
        program.write_text("import os, time; print(os.environ['CONSORTIUM_SESSION'], flush=True); time.sleep(60)")
        one = Submission("consortium-a-1", sys.executable, program, tmp_path / "a file with spaces")
        assert await launcher.version() == "2.9.3"
        assert await launcher.status("consortium-a-1") == (State.UNKNOWN, "")
        assert await launcher.logs("consortium-a-1") == Log("", 0)
        await launcher.submit(one)
        await launcher.submit(one)  # an answer that was lost: no second driver
        assert ray.submits == 1
        assert await launcher.live() == ["consortium-a-1"]
        end = time.monotonic() + 10
        while "spaces" not in (await launcher.logs("consortium-a-1")).text and time.monotonic() < end:
            await asyncio.sleep(0.02)
        assert (await launcher.logs("consortium-a-1")).text.strip() == str(one.session)
        await launcher.stop("consortium-a-1")
        assert ray.alive() == []
        assert (await launcher.status("consortium-a-1"))[0] is State.STOPPED
        await launcher.stop("consortium-none-1")
        ray.refuse = "bad entrypoint"
        with pytest.raises(RefusedError, match="bad entrypoint"):
            await launcher.submit(replace(one, submission_id="consortium-b-1"))
        ray.down = True
        with pytest.raises(LauncherError, match="HTTP 503"):
            await launcher.live()
        await launcher.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"<html>", "not JSON"), (b"[1]", "not an object"), (b'{"status": "ODD"}', "unknown status 'ODD'")],
)
def test_odd_answers_of_ray(content: bytes, words: str) -> None:
    async def run() -> None:
        launcher = RayLauncher("http://ray:8265")
        transport = httpx.MockTransport(lambda _: httpx.Response(200, content=content))
        launcher._http = httpx.AsyncClient(transport=transport, base_url="http://ray:8265")
        with pytest.raises(LauncherError, match=words):
            await launcher.status("consortium-a-1")

    asyncio.run(run())


@pytest.mark.parametrize(("failures", "good"), [(1, True), (2, False)])
def test_a_connection_that_ray_had_closed_is_tried_once_more(failures: int, good: bool) -> None:
    left = [httpx.RemoteProtocolError("disconnected")] * failures

    def answer(_: httpx.Request) -> httpx.Response:
        if left:
            raise left.pop()
        return httpx.Response(200, json={"ray_version": "2.9.3"})

    async def run() -> str:
        launcher = RayLauncher("http://ray:8265")
        launcher._http = httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="http://ray:8265")
        return await launcher.version()

    if good:
        assert asyncio.run(run()) == "2.9.3"
    else:
        with pytest.raises(LauncherError, match="disconnected"):
            asyncio.run(run())


def certificate(days: float) -> bytes:
    key, now = Ed25519PrivateKey.generate(), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "alice")])
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(now - timedelta(1)).not_valid_after(now + timedelta(days))
    return made.sign(key, None if isinstance(key, Ed25519PrivateKey) else hashes.SHA256()).public_bytes(Encoding.PEM)


def test_days_left_of_the_certificate(tmp_path: Path) -> None:
    path = tmp_path / "gateway.crt"
    context = open_context(Rig(tmp_path, ["alice", "bob"], certificate_file=str(path)).config_path("alice"))
    assert views.certificate_days(context) is None
    path.write_bytes(b"nonsense")
    assert views.certificate_days(context) is None
    path.write_bytes(certificate(10))
    assert views.certificate_days(context) == pytest.approx(10, abs=0.1)


def test_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rig = Rig(tmp_path, ["alice", "bob"])
    config = ["--config", str(rig.config_path("alice"))]
    context = open_context(rig.config_path("alice"))
    context.store.note(1.0, "test", "one")
    assert main(["backup", str(tmp_path / "copy.tar"), *config]) == 0
    assert main(["serve", *config]) == 2  # the state is in use
    assert "another coordinator" in capsys.readouterr().err


def test_failpoints_are_off(monkeypatch: pytest.MonkeyPatch) -> None:
    killed: list[int] = []
    monkeypatch.setattr("os.kill", lambda _, number: killed.append(number))
    failpoints.failpoint("x")
    monkeypatch.setenv("CONSORTIUM_FAILPOINT", "probe:2")
    for _ in range(3):
        failpoints.failpoint("probe")
        failpoints.failpoint("other")
    assert killed == [9]


def test_the_driver_reads_what_the_coordinator_writes(tmp_path: Path) -> None:
    """The session file is the contract with coordinator.session: a field too many or too few ends every job."""
    from builders import PROMISED, job, start

    from coordinator.driver import session_document
    from coordinator.model import Phase

    rig = Rig(tmp_path, ["alice", "bob"])
    context = open_context(rig.config_path("bob"))
    record = job("bob", Phase.STARTING, *PROMISED, start(), attempt=1, slot=0)
    document = session_document(context, record, 0)
    (tmp_path / "session.json").write_text(json.dumps(document))
    settings = load_session(tmp_path / "session.json")
    assert (settings.party, settings.job_name) == ("bob", "20261124-probe-abcdef-1")
    assert settings.go_file == str(context.attempt_dir(record.job_id, 1) / "go.json")
    assert settings.fed.peers == {"alice": rig.way("alice", "fed", "0")}


@pytest.mark.parametrize("kept", [{"main.py": "print('another program')"}, None], ids=["another", "damaged"])
def test_no_program_is_launched_but_the_one_that_was_approved(tmp_path: Path, kept: dict[str, str] | None) -> None:
    """The checks before the promise saw the right one: what lies there now may have been changed since."""
    from builders import PROMISED, job, start

    from coordinator import driver
    from coordinator.model import Phase

    context = open_context(Rig(tmp_path, ["alice", "bob"]).config_path("bob"), FakeRay())
    record = job("bob", Phase.STARTING, *PROMISED, start(), attempt=1, slot=0)
    path = context.bundle_path(record.proposal.program_digest)
    path.write_bytes(tar_of(kept) if kept else b"nonsense")
    with pytest.raises(RefusedError, match=f"proposed {record.proposal.program_digest}"):
        asyncio.run(driver.launch(context, record, 0))
    assert not context.attempt_dir(record.job_id, 1).exists()


def test_answers_do_not_wait_for_an_acknowledgement() -> None:
    """Small writes leave at once on what `_listen` accepts; otherwise each answer would take 40 ms more."""

    async def run() -> int:
        found: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def accepted(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            found.set_result(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        async with await asyncio.start_server(accepted, sock=_listen("127.0.0.1", 0)) as server:
            _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.close()
            return await found

    assert asyncio.run(run()) == 1


def test_a_ray_that_stands_still_is_silent_from_the_question_on(tmp_path: Path) -> None:
    """A stopped process takes the connection and gives no answer: the wait for it counts."""

    class StandsStill(RayLauncher):
        async def status(self, name: str) -> tuple[State, str]:
            await asyncio.sleep(0.3)
            raise LauncherError("no answer")

    async def run() -> None:
        path = Rig(tmp_path, ["alice", "bob"]).config_path("alice")
        context = open_context(path, StandsStill("http://127.0.0.1:1"))
        asked_at = time.monotonic()
        found = await driver.observe(context, builders.job("alice", Phase.RUNNING, builders.start(), attempt=1))
        assert found.state == "unreachable"
        assert context.ray_failing_since is not None
        assert context.ray_failing_since < asked_at + 0.2

    asyncio.run(run())
