"""What is looked at all the time during a soak, and once more at its end."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import httpx

from benchmarks.soak.series import Series
from tests.coordinator.coordinator_rig import OPERATOR_TOKEN
from tests.load.processes import descriptors, memory_mb

if TYPE_CHECKING:
    from benchmarks.soak.run import Soak

SAMPLE_S, POLL_S, TELL_S, AUDIT_S = 2.0, 3.0, 5.0, 30.0
REST_S = 30.0
COMMAND_S = 300.0
"""A hang: a backup takes a second or two, and two minutes where forty processes want each core."""
_PAGES = ("/", "/metrics", "/healthz", "/api/v1/status", "/api/v1/jobs")


class Watch:
    """Tasks beside a soak; `all` of them run until cancelled."""

    def __init__(self, soak: Soak) -> None:
        self._soak, self._rig = soak, soak.rig
        self.all: tuple[Callable[[], Awaitable[None]], ...] = (self._sample, self._poll, self._audit, self._tell)

    def _pids(self) -> dict[str, int]:
        pids = {f"coordinator of {p}": self._rig.children[p].pid for p in self._rig.parties}
        return pids | {f"gateway of {p}": g.process.pid for p, g in self._rig.gateways.items() if g.process}

    async def _sample(self) -> None:
        """A new process begins a new series."""
        running: dict[str, Series] = {}
        while True:
            for name, pid in self._pids().items():
                with contextlib.suppress(OSError, StopIteration):  # killed in this moment
                    found = time.monotonic() - self._soak.began, memory_mb(pid), descriptors(pid)
                    if name not in running or running[name].pid != pid:
                        running[name] = Series(name, pid)
                        self._soak.series.append(running[name])
                    running[name].add(*found)
            await asyncio.sleep(SAMPLE_S)

    async def _poll(self) -> None:
        """The page, metrics and the API through the operator's door; every one answers while no fault is near."""
        headers = {"authorization": f"Bearer {OPERATOR_TOKEN}"}
        async with httpx.AsyncClient(trust_env=False, timeout=10, headers=headers, follow_redirects=True) as http:
            while True:
                for party in self._rig.parties:
                    for page in _PAGES:
                        troubled = self._soak.troubled()
                        try:
                            answer = await http.get(self._rig.door(party) + page)
                            why = "" if answer.status_code == 200 else f"{answer.status_code} {answer.text[:200]}"
                        except httpx.HTTPError as e:
                            why = f"{type(e).__name__}: {e}"
                        if why and not troubled and not self._soak.troubled():
                            self._soak.problems.append(f"{party}: {page} through the operator's door: {why}")
                await asyncio.sleep(POLL_S)

    async def _audit(self) -> None:
        """Every log verifies, exports compare, a backup is made, whatever is going on."""
        while True:
            await asyncio.sleep(AUDIT_S)
            await self._look_at_logs()
            for party in self._rig.parties:
                target = self._rig.folder / f"{party}.backup"
                await self._command("backup", str(target), party=party)
                target.unlink()

    async def _look_at_logs(self) -> None:
        exports = []
        for party in self._rig.parties:
            await self._command("audit", "verify", party=party)
            exports.append(self._rig.folder / f"{party}.jsonl")
            exports[-1].unlink(missing_ok=True)
            await self._command("audit", "export", str(exports[-1]), party=party)
        for other in exports[1:]:
            await self._command("audit", "compare", str(exports[0]), str(other), party=self._rig.parties[0])

    async def _command(self, *words: str, party: str) -> None:
        command = [sys.executable, "-m", "coordinator", *words, "--config", str(self._rig.config_path(party))]
        done = await asyncio.to_thread(
            subprocess.run, command, capture_output=True, text=True, check=False, timeout=COMMAND_S
        )
        if done.returncode:
            said = (done.stdout + done.stderr)[-1500:]
            self._soak.problems.append(f"{party}: {' '.join(words)} ended with {done.returncode}: {said}")

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(TELL_S)
            print(self.line(), flush=True)

    def line(self) -> str:
        """How it goes, in one line."""
        s = self._soak
        labels = Counter(label for (_, label), n in s.labels().items() for _ in range(n))
        newest: dict[str, Series] = {one.name: one for one in s.series}
        sizes = " ".join(f"{one.mb[-1]:.0f}/{one.descriptors[-1]}" for one in newest.values())
        fault = s.windows[-1].fault.name if s.troubled() else "none now"
        jobs = " ".join(f"{label} {n}" for label, n in sorted(labels.items()))
        return f"{time.monotonic() - s.began:5.0f} s  {jobs}; fault {len(s.windows)}: {fault}; MB/fds {sizes}"

    async def at_the_end(self) -> None:
        """Nothing is held, nothing lives, nothing is forgotten, every log agrees, no error was logged."""
        problems, end = self._soak.problems, time.monotonic() + REST_S
        while (left := await self._left()) and time.monotonic() < end:
            await asyncio.sleep(0.5)
        problems += left
        for party in self._rig.parties:
            known = (await self._rig.call(party, "GET", "status")).json()["jobs"]
            if sum(known.values()) != len(self._soak.known):
                problems.append(f"{party} knows {known}, {len(self._soak.known)} jobs were acknowledged")
        await self._look_at_logs()
        problems += [f"logged: {line[:1000]}" for line in self._rig.errors()[:10]]

    async def _left(self) -> list[str]:
        left = []
        for party in self._rig.parties:
            used = (await self._rig.call(party, "GET", "status")).json()["slots"]["used"]
            left += [f"{party}: slot {slot} is held by {job}" for slot, job in used.items()]
            left += [f"{party}: the driver {driver} lives" for driver in self._rig.rays[party].alive()]
        return left
