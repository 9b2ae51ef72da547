"""A soak: jobs all the time, one fault after another, and checks that never stop."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import httpx

from benchmarks.soak.faults import Fault, Make, draw
from benchmarks.soak.jobs import FLOOD, KINDS, PLAIN, START_WITHIN_S, Kind, Known
from benchmarks.soak.series import Series, growth
from benchmarks.soak.watch import Watch
from tests.coordinator.coordinator_rig import job_folder
from tests.load.gateway_rig import GatewayRig

PAUSE_S = (2.0, 8.0)
HOLD_S = (1.0, 12.0)
RECOVER_S = 150.0
"""From a fault's undoing until a job of every party has succeeded: a queue of jobs may wait before it, a peer that was
away is tried again after 5 s, a coordinator that was killed is a process's start away."""
END_S = START_WITHIN_S + 180.0
"""From submission to the end with every signature: the wait for its start, twice start_window_s (20 s, two attempts), a
fault of HOLD_S in the middle of each, peer_lost_after_s, and a slow machine."""
SUBMIT_S = 60.0
OPEN = 4
FLOOD_MOST = 200
TIMEOUTS = {"start_window_s": 20, "heartbeat_s": 1, "peer_lost_after_s": 10, "message_s": 20, "job_s": 60}


class Broken(Exception):
    """What must not happen did."""


@dataclass
class Window:
    """When a fault was there: until a job of every party had succeeded again. Monotonic seconds."""

    fault: Fault
    begun: float
    undone: float | None = None
    over: float | None = None

    def touches(self, job: Known) -> bool:
        """True when the job may have met the fault."""
        assert job.ended is not None
        return not self.fault.harmless and self.begun <= job.ended and (self.over is None or self.over >= job.submitted)


@dataclass
class Soak:
    """One run over a connected rig."""

    rig: GatewayRig
    seconds: float
    seed: int
    recover_s: float = RECOVER_S
    draw: Callable[[GatewayRig, Random, tuple[tuple[Make, int], ...]], Fault] = draw
    known: dict[str, Known] = field(default_factory=dict)
    windows: list[Window] = field(default_factory=list)
    series: list[Series] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)
    _keys: itertools.count[int] = field(default_factory=itertools.count)
    _closing: bool = False

    async def run(self) -> None:
        """Until the time is over or something broke; then see that everything comes to rest."""
        watch = Watch(self)
        works = (self._load, self._trouble, self._judge, *watch.all)
        tasks = [asyncio.create_task(self._guard(work)) for work in works]
        end = self.began + self.seconds
        while time.monotonic() < end and not self.problems:
            await asyncio.sleep(0.2)
        self._closing = True
        ending = asyncio.create_task(self._come_to_rest(tasks[:2]))
        while not ending.done() and not self.problems:
            await asyncio.sleep(0.2)
        ending.cancel()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if not self.problems:
            await self._guard(watch.at_the_end)
        self.problems += growth(self.series)

    async def _guard(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except Broken as e:
            self.problems.append(str(e))
        except Exception as e:  # the harness's own: the run is worth nothing then
            self.problems.append(f"{work.__qualname__}: {type(e).__name__}: {e}")
            raise

    def troubled(self) -> bool:
        """True while a fault is there, or its end was not yet seen."""
        return bool(self.windows) and self.windows[-1].over is None

    @property
    def open(self) -> list[Known]:
        return [job for job in self.known.values() if job.ended is None]

    async def _load(self) -> None:
        chance = Random(f"{self.seed} jobs")
        async with asyncio.TaskGroup() as people:
            while not self._closing:
                if len([j for j in self.open if j.kind is not FLOOD]) >= OPEN:
                    await asyncio.sleep(0.1)
                    continue
                kind = chance.choices(KINDS, [k.weight for k in KINDS])[0]
                job = await self.submit(chance.choice(self.rig.parties), kind, chance)
                if kind.does:
                    people.create_task(self._people(job, Random(chance.random())))

    async def submit(self, party: str, kind: Kind, chance: Random) -> Known:
        """Insist, as the command does, until the submission is acknowledged. Raises Broken when it never is."""
        folder = self._folder(kind, chance)
        key, end = f"soak-{self.seed}-{next(self._keys)}", time.monotonic() + SUBMIT_S + HOLD_S[1]
        while time.monotonic() < end:
            began = time.monotonic()
            answer = await self._try(party, "POST", "jobs", files={"bundle": ("job.tar", folder)}, key=key)
            if answer is not None and answer.status_code in (200, 201):
                job = Known(answer.json()["job_id"], kind, party, began)
                self.known[job.job_id] = job
                return job
            if answer is not None and answer.status_code not in (429, 503):
                raise Broken(f"{party} refused a job: {answer.status_code} {answer.text[:300]}")
            await asyncio.sleep(0.3)
        raise Broken(f"{party} took no job for {SUBMIT_S + HOLD_S[1]:g} s; last answer: {answer and answer.text[:300]}")

    def _folder(self, kind: Kind, chance: Random) -> bytes:
        parties = self.rig.parties
        return job_folder(parties, start_within_s=START_WITHIN_S, **kind.fields(parties, chance))

    async def _try(self, party: str, method: str, path: str, key: str = "", **more: Any) -> httpx.Response | None:
        """An answer, or None from a coordinator that gives none now."""
        headers = {"idempotency-key": key} if key else {}
        try:
            return await self.rig.call(party, method, path, headers=headers, timeout=5, **more)
        except httpx.HTTPError:
            return None

    async def _people(self, job: Known, chance: Random) -> None:
        """Whoever cancels, approves or denies does so once, and again until it is taken or the job has ended."""
        others = [p for p in self.rig.parties if p != job.initiator]
        if job.kind.does == "cancel":
            await asyncio.sleep(chance.uniform(0, 5))
            people = [chance.choice(self.rig.parties)]
        else:
            people = others
        for number, party in enumerate(people):
            what = "approve" if job.kind.does == "deny" and number < len(people) - 1 else str(job.kind.does)
            key = f"soak-{self.seed}-{next(self._keys)}"
            while job.ended is None:
                answer = await self._try(party, "POST", f"jobs/{job.job_id}/{what}", key=key, data={"reason": "soak"})
                if answer is not None and answer.status_code in (200, 409):
                    break
                await asyncio.sleep(0.3)

    async def _trouble(self) -> None:
        chance = Random(f"{self.seed} faults")
        more: tuple[tuple[Make, int], ...] = ((lambda _r, c: self._full_queue(c), 1),)
        while not self._closing:
            await asyncio.sleep(chance.uniform(*PAUSE_S))
            fault = self.draw(self.rig, chance, more)
            window = Window(fault, time.monotonic())
            self.windows.append(window)
            await fault.do()
            await asyncio.sleep(chance.uniform(*HOLD_S))
            await fault.undo()
            window.undone = time.monotonic()
            await self._recovered(window)
            window.over = time.monotonic()

    async def _recovered(self, window: Window) -> None:
        """Wait until a job of every party has succeeded that was submitted after the fault was undone."""
        chance, end = Random(0), time.monotonic() + self.recover_s
        for party in self.rig.parties:
            job = None
            while job is None or job.label != "succeeded":
                if time.monotonic() > end:
                    told = {p: (v.get("phase"), v.get("reason")) for p, v in job.views.items()} if job else {}
                    raise Broken(f"{self.recover_s:g} s after «{window.fault.name}» no job of {party} succeeds: {told}")
                if job is None or job.label:
                    job = await self.submit(party, PLAIN, chance)
                await asyncio.sleep(0.1)

    def _full_queue(self, chance: Random) -> Fault:
        """More jobs than a party takes; then they are cancelled."""
        party = chance.choice(self.rig.parties)
        flood: list[Known] = []

        async def do() -> None:
            for _ in range(FLOOD_MOST):
                began = time.monotonic()
                files = {"bundle": ("job.tar", self._folder(FLOOD, chance))}
                answer = await self._try(party, "POST", "jobs", files=files)
                if answer is None or answer.status_code == 429:
                    return
                flood.append(Known(answer.json()["job_id"], FLOOD, party, began))
                self.known[flood[-1].job_id] = flood[-1]
            raise Broken(f"{party} took {FLOOD_MOST} jobs at once, its bound is less")

        async def undo() -> None:
            for job in flood:
                await self._try(party, "POST", f"jobs/{job.job_id}/cancel")

        return Fault(f"queue of {party} full", do, undo)

    async def _judge(self) -> None:
        """Follow every open job: no divergence, no hang, the label that its kind asks for."""
        while True:
            for job in self.open:
                for party in self.rig.parties:
                    answer = await self._try(party, "GET", f"jobs/{job.job_id}")
                    if answer is not None and answer.status_code == 200:
                        job.views[party] = answer.json()
                self.judge(job, time.monotonic())
            await asyncio.sleep(0.2)

    def judge(self, job: Known, now: float) -> None:
        """Raises Broken. Marks a job that has ended everywhere with every signature."""
        views = job.views
        phases = {party: view["phase"] for party, view in views.items()}
        if "diverged" in phases.values():
            raise Broken(f"{job.job_id} ({job.kind.name}) diverged: {phases}")
        if len(views) < len(self.rig.parties) or not all(v["terminal"] and v["settled"] for v in views.values()):
            if now - job.submitted > END_S:
                told = {p: (v["phase"], v["settled"], v["reason"]) for p, v in views.items()}
                raise Broken(f"{job.job_id} ({job.kind.name}) has not ended {END_S:g} s after its submission: {told}")
            return
        if len(set(phases.values())) != 1:
            raise Broken(f"{job.job_id} ({job.kind.name}) ended as {phases}")
        job.ended, job.label = now, next(iter(phases.values()))
        if job.kind.ends in (None, job.label) or any(w.touches(job) for w in self.windows):
            return
        told = {p: v["reason"] for p, v in views.items()}
        raise Broken(f"{job.job_id} ({job.kind.name}) ended as {job.label} though no fault was near: {told}")

    async def _come_to_rest(self, busy: list[asyncio.Task[None]]) -> None:
        """The last fault is got over, every job ends; `_recovered` and `_judge` say when that takes too long."""
        await asyncio.wait(busy)
        while self.open:
            await asyncio.sleep(0.2)

    def labels(self) -> Counter[tuple[str, str]]:
        """(kind, label) → jobs."""
        return Counter((job.kind.name, job.label or "open") for job in self.known.values())
