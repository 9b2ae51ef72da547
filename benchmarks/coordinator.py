"""How fast coordinators agree, and how much they bear: start skew, proposal to start, a long queue, memory."""

from __future__ import annotations

import asyncio
import math
import statistics
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.field import Field, field
from benchmarks.result import Result
from tests.coordinator.coordinator_rig import job_folder

STARTS = 120
ROUNDS = 5
SIZES = (2, 5, 10)
QUEUED, SLOTS = 1000, 20
DRAIN_LIMIT_S = 1800


def skew(folder: Path) -> list[Result]:
    """Distance of the two drivers' entries of `sf.init`, job after job."""
    return asyncio.run(_skew(folder / "skew"))


async def _skew(folder: Path) -> list[Result]:
    samples = []
    async with field(folder, 2) as f:
        for n in range(STARTS):
            job_id = await f.submit(f.parties[n % 2])
            entered = await f.started(job_id)
            samples.append((max(entered) - min(entered)) * 1000)
            await _succeeded(f, job_id)
            if n % 20 == 19:
                print(f"  {n + 1} of {STARTS} starts", flush=True)
    how = f"distance of two drivers' entries of sf.init, {STARTS} jobs in turn"
    return [
        Result("start skew, p50", statistics.median(samples), "ms", None, how),
        Result("start skew, p99", percentile(samples, 99), "ms", 50, how, samples),
        Result("start skew, largest", max(samples), "ms", None, how),
    ]


def latency(folder: Path) -> list[Result]:
    """From the beginning of the submit call to the last driver's entry of `sf.init`."""
    return [r for n in SIZES for r in asyncio.run(_latency(folder / f"latency-{n}", n))]


async def _latency(folder: Path, parties: int) -> list[Result]:
    splits: list[dict[str, float]] = []
    async with field(folder, parties) as f:
        for n in range(1 + ROUNDS):
            began = time.time()
            job_id = await f.submit(f.parties[n % parties])
            entered = await f.started(job_id)
            await _succeeded(f, job_id)
            if n:  # the first one opens every connection
                splits.append(await _phases(f, job_id, began, max(entered)))
    how = f"submit call to the last entry of sf.init, automatic approval; median of {ROUNDS} in turn"
    samples = [sum(s.values()) for s in splits]
    whole = Result(f"proposal to start, {parties} parties", statistics.median(samples), "s", 1, how, samples)
    parts = []
    for name in splits[0]:
        taken = [s[name] for s in splits]
        parts.append(Result(f"  {name}, {parties} parties", statistics.median(taken), "s", None, "part of it", taken))
    return [whole, *parts]


async def _phases(f: Field, job_id: str, began: float, ended: float) -> dict[str, float]:
    """Seconds of each part, by the initiator's events and the files of all parties; they add up to the whole."""
    views = {p: await f.job(p, job_id) for p in f.parties}
    lead = views[views[f.parties[0]]["initiator"]]["events"]
    moments = [
        ("submit", min(e["at"] for e in lead)),
        ("every approval", next(e["at"] for e in lead if e["to"] == "approved")),
        ("every promise, decision", next(e["at"] for e in lead if "decision" in {s[0] for s in e["statements"]})),
        ("launch of every driver", max(f.file(p, job_id, "session.json").stat().st_mtime for p in f.parties)),
        ("every driver loaded", max(f.times(job_id, "ready_at") or [])),
        ("every ready, go", next(e["at"] for e in lead if "go" in {s[0] for s in e["statements"]})),
        ("every entry", ended),
    ]
    found, before = {}, began
    for name, at in moments:
        found[name] = at - before
        before = at
    return found


def queue(folder: Path) -> list[Result]:
    """A long queue, and what it leaves behind: slots, drivers, memory."""
    return asyncio.run(_queue(folder / "queue"))


async def _queue(folder: Path) -> list[Result]:
    async with field(folder, 2, slots=SLOTS, limits={"open_jobs": QUEUED}) as f:
        fresh = max(f.memory_mb(p, "VmRSS") for p in f.parties)
        program = job_folder(f.parties)
        began = time.monotonic()
        for _ in range(QUEUED):
            await f.submit(f.parties[0], program)
        queued_s = time.monotonic() - began
        print(f"  {QUEUED} submitted in {queued_s:.0f} s", flush=True)
        counts = await _drain(f, began)
        taken = time.monotonic() - began
        most = max(f.memory_mb(p, "VmHWM") for p in f.parties)
        left = [f"{p}: slot {slot}" for p in f.parties for slot in (await _status(f, p))["slots"]["used"]]
        left += [f"{p}: driver {driver}" for p in f.parties for driver in f.rays[p].alive()]
        again = sum(f.rays[p].submits for p in f.parties) - 2 * QUEUED
        bad = sum(n for party in counts.values() for phase, n in party.items() if phase != "succeeded")
        errors = f.errors()
        for line in [*await _reasons(f), *left, *errors][:40]:
            print(f"  {line}", flush=True)
    how = f"{QUEUED} jobs of two parties submitted at once, {SLOTS} slots, drivers that end at once"
    return [
        Result("queue drained", taken, "s", None, f"{how}; submitting them took {queued_s:.0f} s"),
        Result("jobs per second", QUEUED / taken, "1/s", None, how),
        Result("jobs that failed", bad, "jobs", 0, f"{how}; at both parties"),
        Result("attempts more than jobs", again, "drivers", None, how),
        Result("errors logged", len(errors), "lines", 0, how),
        Result("slots and drivers left", len(left), "", 0, how),
        Result("memory of a coordinator, most", most, "MB", 120, f"resident, after {QUEUED} jobs; the larger one"),
        Result("memory of a coordinator, fresh", fresh, "MB", None, "resident, before the first job; the larger one"),
    ]


async def _drain(f: Field, began: float) -> dict[str, Counter[str]]:
    """Wait until no job is open anywhere; tells how far it is on the way."""
    told = 0.0
    while True:
        counts = {p: Counter((await _status(f, p))["jobs"]) for p in f.parties}
        now = time.monotonic() - began
        ended = {p: c["succeeded"] + c["failed"] + c["cancelled"] + c["diverged"] for p, c in counts.items()}
        if now - told >= 10:
            told = now
            print(f"  {now:.0f} s: {' '.join(f'{p} {dict(c)}' for p, c in counts.items())}", flush=True)
        if all(n >= QUEUED for n in ended.values()):
            return counts
        if now > DRAIN_LIMIT_S:
            raise RuntimeError(f"not drained after {now:.0f} s: {counts}")
        await asyncio.sleep(1)


async def _reasons(f: Field) -> list[str]:
    """Why jobs did not succeed, by the initiator."""
    jobs = (await f.call(f.parties[0], "GET", "jobs", params={"limit": QUEUED})).json()["jobs"]
    return [
        f"{j['job_id']} {j['phase']} in attempt {j['attempt']}: {j['reason']}"
        for j in jobs
        if j["phase"] != "succeeded"
    ]


async def _status(f: Field, party: str) -> dict[str, Any]:
    found: dict[str, Any] = (await f.call(party, "GET", "status")).json()
    return found


async def _succeeded(f: Field, job_id: str) -> None:
    label = await f.end(job_id, limit_s=60)
    if label != "succeeded":
        raise RuntimeError(f"{job_id} ended as {label}")


def percentile(samples: Iterable[float], percent: int) -> float:
    """The smallest sample that at least so many percent do not exceed."""
    ranked = sorted(samples)
    return ranked[math.ceil(len(ranked) * percent / 100) - 1]
