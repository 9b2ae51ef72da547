"""200 jobs, 20 at a time, of two parties behind real gateways: nothing fails, nothing is left, nothing grows."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.coordinator.coordinator_rig import OPERATOR_TOKEN, job_folder
from tests.load.gateway_rig import GatewayRig
from tests.load.processes import descriptors, memory_mb

PARTIES = ["alice", "bob"]
SLOTS = 20
SECONDS = 0.5  # a driver's; with less, jobs end before twenty have begun
LIMIT_S = 900
MORE_MB, MORE_DESCRIPTORS = 15, 40
# Two late parties are no fault here: a driver's start takes long when twenty begin on two slow cores.
BUDGET = {"start_window_s": 300, "peer_lost_after_s": 60, "message_s": 240, "job_s": 900}


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("jobs", [60, pytest.param(200, marks=pytest.mark.long)])
def test_many_jobs_twenty_at_a_time(tmp_path: Path, jobs: int) -> None:
    """Memory and descriptors are compared with those after the first twenty jobs: by then every module is loaded, every
    connection open, and twenty jobs have run side by side.

    MORE_MB: a coordinator with 1,000 jobs behind it has 9 MB more than a fresh one (docs/benchmarks.md), most of it
    SQLite's page cache and the allocator's; a job's folder, statements and session kept in memory would be some 50 kB,
    for 180 of 200 jobs that and its like at the gateway is about as much again. MORE_DESCRIPTORS: each of twenty jobs
    may hold a connection more at the moment of the count; a descriptor lost per job would be 180.
    """
    asyncio.run(_load(tmp_path, jobs))


async def _load(folder: Path, jobs: int) -> None:
    async with GatewayRig(folder, PARTIES, consortium={"timeouts": BUDGET}, slots=SLOTS) as r:
        await r.connected()
        first = await submit(r, SLOTS)
        assert await drained(r, SLOTS) >= 1
        before = sizes(r)
        rest = await submit(r, jobs - SLOTS)
        assert await drained(r, jobs) == SLOTS, "twenty were never at work at the same time"
        for job_id in first + rest:
            await every_outcome_is_everywhere(r, job_id)
        await nothing_is_left(r, jobs)
        after = sizes(r)
        for name, (mb, count) in after.items():
            assert mb <= before[name][0] + MORE_MB, (name, before, after)
            assert count <= before[name][1] + MORE_DESCRIPTORS, (name, before, after)
        assert r.errors() == []
        audit_logs_agree(r, [await exported(r, p) for p in PARTIES])
    messages_are_accounted_for(r, jobs)


async def submit(r: GatewayRig, count: int) -> list[str]:
    """Submitted through the operators' doors of both gateways, in turn."""
    program = job_folder(PARTIES, parameters={"seconds": SECONDS})
    headers = {"authorization": f"Bearer {OPERATOR_TOKEN}"}
    found = []
    for n in range(count):
        url = f"{r.door(PARTIES[n % 2])}/api/v1/jobs"
        answer = await r.http.post(url, files={"bundle": ("job.tar", program)}, headers=headers)
        assert answer.status_code == 201, answer.text
        found.append(str(answer.json()["job_id"]))
    return found


async def drained(r: GatewayRig, ended: int) -> int:
    """Wait until so many jobs have ended everywhere; returns the most slots seen in use at one party."""
    end, most = time.monotonic() + LIMIT_S, 0
    while True:
        views = {p: await r.status(p) for p in PARTIES}
        counts = {p: Counter(v["jobs"]) for p, v in views.items()}
        most = max(most, *(len(v["slots"]["used"]) for v in views.values()))
        if all(c["succeeded"] >= ended for c in counts.values()):
            return most
        bad = [p for p, c in counts.items() if c["failed"] + c["cancelled"] + c["diverged"]]
        if bad or time.monotonic() > end:
            jobs = (await r.call((bad or PARTIES)[0], "GET", "jobs", params={"limit": 1000})).json()["jobs"]
            why = Counter((j["phase"], j["reason"]) for j in jobs if j["phase"] != "succeeded")
            raise AssertionError(sorted(why.items())[:20])
        await asyncio.sleep(0.25)


def sizes(r: GatewayRig) -> dict[str, tuple[float, int]]:
    """Process → memory in MB, open descriptors."""
    pids = {f"coordinator of {p}": r.children[p].pid for p in PARTIES}
    pids |= {f"gateway of {p}": g.process.pid for p, g in r.gateways.items() if g.process}
    return {name: (memory_mb(pid), descriptors(pid)) for name, pid in pids.items()}


async def every_outcome_is_everywhere(r: GatewayRig, job_id: str) -> None:
    for party in PARTIES:
        view = await r.job(party, job_id)
        signed = {s["party"]: s for s in view["statements"] if s["kind"] == "outcome"}
        assert (view["phase"], view["settled"], set(signed)) == ("succeeded", True, set(PARTIES)), (party, view)
        assert all(s["signature"] for s in signed.values())


async def nothing_is_left(r: GatewayRig, jobs: int) -> None:
    """No slot, no driver, no port of a slot."""
    for party in PARTIES:
        assert (await r.status(party))["slots"]["used"] == {}
        assert r.rays[party].alive() == []
        assert r.rays[party].submits == jobs
        assert listening_ports(r.children[party].pid, r.host(party)) == {8080, 8081}


def listening_ports(pid: int, host: str) -> set[int]:
    """Ports at which a process listens on an IPv4 address."""
    own = {f.readlink().name for f in Path(f"/proc/{pid}/fd").iterdir() if f.is_symlink()}
    reverse = "".join(f"{int(part):02X}" for part in reversed(host.split(".")))
    rows = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    listening = [row for row in rows if row[3] == "0A" and row[1].startswith(reverse) and f"socket:[{row[9]}]" in own]
    return {int(row[1].partition(":")[2], 16) for row in listening}


async def exported(r: GatewayRig, party: str) -> Path:
    path = r.folder / f"{party}.jsonl"
    path.write_bytes((await r.call(party, "GET", "audit")).content)
    return path


def audit_logs_agree(r: GatewayRig, exports: list[Path]) -> None:
    keys = [word for p in PARTIES for word in ("--key", f"{p}={r.public(p)}")]
    for what in (["verify", *map(str, exports)], ["compare", *map(str, exports)]):
        command = [sys.executable, "-m", "coordinator", "audit", *what, *keys]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def messages_are_accounted_for(r: GatewayRig, jobs: int) -> None:
    """What left one gateway came in at the other, request by request and connection by connection; every job's own."""
    for sender, receiver in (PARTIES, PARTIES[::-1]):
        out = [line for line in lines_of(r, sender) if line["direction"] == "out"]
        into = [line for line in lines_of(r, receiver) if line["direction"] == "in"]
        assert requests(out) == requests(into)
        assert all(line["peer"] == receiver for line in out)
        assert all(line["peer"] == sender for line in into)
        kinds = Counter(line["path"].split("/")[3] for line in into if line["path"] and line["code"] == 200)
        assert kinds["outcome"] >= jobs
        assert kinds["proposal"] >= jobs // 2
        for service in ("fed", "spu"):
            ways = [x for x in into if x["service"].startswith(f"{service}-")]
            assert len(ways) >= jobs
            assert {x["service"] for x in ways} == {f"{service}-{k}" for k in range(SLOTS)}


def lines_of(r: GatewayRig, party: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in r.gateways[party].access_log.read_text().splitlines()]


def requests(lines: list[dict[str, Any]]) -> Counter[tuple[str, str, int]]:
    return Counter((x["service"], x["method"], x["path"]) for x in lines if x["service"] == "coordinator")
