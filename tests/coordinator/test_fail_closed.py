"""What must not start: every case in which rayfed's own readiness barrier would pass, and some in which it would hang.

Each refusal names both values; nobody's driver enters SecretFlow.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from coordinator_rig import Rig
from crash_rig import CrashRig

from coordinator.ways import answer_of

SHORT = {"peer_lost_after_s": 5, "start_window_s": 15, "heartbeat_s": 0.2}


@asynccontextmanager
async def speaker(answer: bytes) -> AsyncIterator[str]:
    """Something that listens where bob's driver is expected, and says this."""

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(speak, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


def entered(r: Rig) -> list[Path]:
    """Session files of drivers that went into SecretFlow."""
    files = r.folder.glob("*/jobs/*/*/output/session.json")
    return [f for f in files if "sf_init_entered_at" in json.loads(f.read_text())]


STRANGERS = [
    ("gateway-404", b"HTTP/1.1 404 Not Found\r\n\r\n", "found 'HTTP/1.1 404 Not Found'"),
    ("gateway-401", b"HTTP/1.1 401 Unauthorized\r\n\r\n", "found 'HTTP/1.1 401 Unauthorized'"),
    (
        "stale-receiver-of-an-earlier-attempt",
        answer_of("20261123-probe-aaaaaa-1", "bob", "fed", 0).encode() + b"\n",
        "found 'consortium way 1 20261123-probe-aaaaaa-1 bob fed 0'",
    ),
    ("another-party", answer_of("x", "carol", "fed", 0).encode() + b"\n", "carol fed 0"),
    ("silence", b"", "found 'closed without a word'"),
]


WAYS = [("fed", *stranger) for stranger in STRANGERS] + [("spu", *STRANGERS[0])]


@pytest.mark.parametrize(
    ("service", "answer", "words"), [(w[0], *w[2:]) for w in WAYS], ids=[f"{w[0]}-{w[1]}" for w in WAYS]
)
def test_a_way_that_leads_elsewhere_ends_the_attempt_before_go(
    tmp_path: Path, service: str, answer: bytes, words: str
) -> None:
    async def run() -> None:
        async with speaker(answer) as address, Rig(tmp_path, ["alice", "bob"], timeouts=SHORT) as r:
            path = r.config_path("alice")
            document = json.loads(path.read_text())
            document["peers"]["bob"][service]["0"] = address
            path.write_text(json.dumps(document))
            await r.start()
            job_id = await r.submit("alice")
            assert await r.end(job_id) == "failed"
            for party in r.parties:
                reason = (await r.job(party, job_id))["reason"]
                assert f"alice to {service} of bob (slot 0)" in reason
                assert f"expected 'consortium way 1 {job_id}-1 bob {service} 0'" in reason
                assert words in reason
            assert entered(r) == []
            assert all(ray.alive() == [] for ray in r.rays.values())

    asyncio.run(run())


def test_a_port_taken_after_the_promise_ends_the_attempt(tmp_path: Path) -> None:
    async def run() -> None:
        async with Rig(tmp_path, ["alice", "bob"], timeouts=SHORT) as r:
            await r.start()
            hold = r.running["bob"].context.ways.hold

            async def late(*arguments: Any) -> None:
                port = int(r.own["bob"]["spu"]["0"].rpartition(":")[2])
                server = await asyncio.start_server(lambda *_: None, "0.0.0.0", port)
                try:
                    await hold(*arguments)
                finally:
                    server.close()

            r.running["bob"].context.ways.hold = late  # type: ignore[method-assign]
            job_id = await r.submit("alice")
            assert await r.end(job_id) == "failed"
            assert "the ports of slot 0 of bob cannot be held" in (await r.job("alice", job_id))["reason"]
            assert entered(r) == []

    asyncio.run(run())


def wrong_gateway(status: int) -> Callable[[CrashRig], None]:
    return lambda r: r.answers.update({("alice", "bob"): status})


def other_program(r: CrashRig) -> None:
    """bob's copy of the job folder is damaged after its approval."""
    for file in (r.folder / "bob" / "state" / "bundles").glob("*.tar"):
        file.write_bytes(file.read_bytes().replace(b"driver of", b"drover of"))


def wrong_clock(r: CrashRig) -> None:
    r.clocks["bob"] = 1.5


FAULTS: list[tuple[str, Callable[[CrashRig], None], tuple[str, ...]]] = [
    ("gateway-401", wrong_gateway(401), ("alice to bob: bob answered HTTP 401",)),
    ("gateway-404", wrong_gateway(404), ("alice to bob: bob answered HTTP 404",)),
    ("program", other_program, ("the program differs: proposed ", ", bob has ")),
    ("clock", wrong_clock, ("the clocks of", "differ by", "the bound is 250 ms")),
]


@pytest.mark.parametrize(("fault", "words"), [f[1:] for f in FAULTS], ids=[f[0] for f in FAULTS])
def test_prepare_refuses(tmp_path: Path, fault: Callable[[CrashRig], None], words: tuple[str, ...]) -> None:
    async def run() -> None:
        async with CrashRig(tmp_path, ["alice", "bob"], timeouts=SHORT) as r:
            await r.start()

            def strike() -> None:
                fault(r)
                for coordinator in r.running.values():  # what heartbeats proved a moment ago would still count
                    for state in coordinator.context.peers.state.values():
                        state.heard = state.reached = None
                        state.samples.clear()

            r.at["alice", "before-prepare"] = strike
            job_id = await r.submit("alice")
            await r.until(job_id, "failed", "alice")
            r.answers.clear()
            assert await r.end(job_id) == "failed"
            for party in r.parties:
                reason = (await r.job(party, job_id))["reason"]
                assert all(word in reason for word in words), reason
            assert sum(ray.submits for ray in r.rays.values()) == 0

    asyncio.run(run())


def test_a_clock_that_was_never_measured_starts_nothing(tmp_path: Path) -> None:
    """After a restart there is no measurement yet: the moment of `go` could be off by any amount."""

    async def run() -> None:
        async with CrashRig(tmp_path, ["alice", "bob"], timeouts=SHORT) as r:
            await r.start()

            def measure(most: int) -> None:  # of 0, also the answer to a heartbeat that is under way counts for nothing
                r.running["bob"].context.peers.state["alice"].samples = deque(maxlen=most)

            r.at["bob", "after-receive-go"] = lambda: measure(0)
            job_id = await r.submit("alice")
            await r.until(job_id, "running")
            await asyncio.sleep(1)
            assert not list(r.folder.glob("bob/jobs/*/1/go.json"))
            measure(16)
            assert await r.end(job_id) in ("succeeded", "failed")

    asyncio.run(run())
