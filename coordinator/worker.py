"""The level-triggered loop: an event only enqueues a job id; the worker reads the record, looks, decides, acts.

Everything slow runs beside the loop, so that a dead peer never delays the end of an attempt.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Coroutine

import structlog

from coordinator import driver, policy, prepare
from coordinator.accept import RefusedError as AcceptError
from coordinator.accept import accept_answer
from coordinator.actions import Action, AskDecision, Commit, Deliver, Launch, RunChecks, SendBundle, StopDriver, Wake
from coordinator.context import Context
from coordinator.decide import decide, evolve
from coordinator.failpoints import failpoint
from coordinator.launcher import LauncherError, RefusedError, submission_id
from coordinator.metrics import Metrics
from coordinator.model import Checks, Driver, Job, Observed, Phase, Timing
from coordinator.peers import PeerError
from coordinator.statements import Key, Kind
from coordinator.store import StaleError

log = structlog.get_logger()
_ACTIVE = frozenset({Phase.PREPARING, Phase.PROMISED, Phase.STARTING, Phase.RUNNING, Phase.ENDING})
_WATCHED = frozenset({Phase.STARTING, Phase.RUNNING, Phase.ENDING})
_BACKOFF_S = (0.2, 0.5, 1.0, 2.0, 5.0)
BUNDLE = Key(0, Kind.PROPOSAL, "bundle")  # stands for the job folder among receipts


class Worker:
    """Brings every job forward."""

    def __init__(self, context: Context, metrics: Metrics) -> None:
        self._c, self._metrics = context, metrics
        t, limits = context.config.timeouts, context.config.limits
        self._timing = Timing(
            promise_s=t.promise_s,
            start_lead_s=t.start_lead_s,
            start_window_s=t.start_window_s,
            peer_lost_after_s=t.peer_lost_after_s,
            job_s=t.job_s,
            retry_s=2 * t.heartbeat_s,
            prepare_rounds=limits.prepare_rounds,
        )
        self._pending: set[str] = set()
        self._running: set[str] = set()
        self._beside: dict[tuple[str, ...], asyncio.Task[None]] = {}  # slow work under way
        self._steps: set[asyncio.Task[None]] = set()
        self._failures: dict[tuple[str, str], tuple[int, float]] = {}  # (job, peer) -> failures, next try
        self._wakes: list[tuple[float, str]] = []
        self._refused: dict[str, str] = {}  # submission -> why it was refused
        self._closing = False

    def enqueue(self, job_id: str) -> None:
        """Look at a job soon."""
        self._pending.add(job_id)
        if job_id not in self._running and not self._closing:
            self._running.add(job_id)
            task = asyncio.get_running_loop().create_task(self._run(job_id))
            self._steps.add(task)
            task.add_done_callback(self._steps.discard)

    def enqueue_all(self) -> None:
        """Look at every job that may need a step or a delivery; after a start and when a peer came back."""
        self._failures.clear()
        for job_id in dict.fromkeys((*self._c.store.unfinished(), *self._c.store.job_ids(200))):
            self.enqueue(job_id)

    async def tick(self) -> None:
        """Wake jobs whose time has come; runs until cancelled."""
        while True:
            now = time.time()
            while self._wakes and self._wakes[0][0] <= now:
                self.enqueue(heapq.heappop(self._wakes)[1])
            await asyncio.sleep(min(0.1, self._c.config.timeouts.heartbeat_s / 4))

    async def close(self) -> None:
        """Stop looking; drivers go on."""
        self._closing = True
        tasks = [*self._steps, *self._beside.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, job_id: str) -> None:
        try:
            while job_id in self._pending:
                self._pending.discard(job_id)
                await self._step(job_id)
        except Exception:
            log.exception("step failed", job_id=job_id)
            self._wake(job_id, time.time() + 1)
        finally:
            self._running.discard(job_id)

    async def _step(self, job_id: str) -> None:
        while job := self._c.store.load(job_id):
            seen = await self._observe(job)
            for action in decide(job, seen):
                if isinstance(action, Commit):
                    self._commit(job, action)
                    break
                self._act(job, action)
            else:
                if job.phase in _ACTIVE:
                    self._wake(job_id, seen.now + self._c.config.timeouts.heartbeat_s)
                return

    def _commit(self, job: Job, step: Commit) -> None:
        new = evolve(job, step, lambda draft: self._c.signer.statement(job.job_id, draft))
        try:
            self._c.store.save(job, new, time.time(), step.reason)
        except StaleError as e:
            log.info("record changed meanwhile", job_id=job.job_id, detail=str(e))
            return
        log.info(step.reason, job_id=job.job_id, attempt=new.attempt, phase=new.phase, was=job.phase)
        self._metrics.moved(job, new)
        failpoint(f"phase-{new.phase}")

    async def _observe(self, job: Job) -> Observed:
        c, n = self._c, job.attempt
        now, mono = time.time(), time.monotonic()
        looked_at = Driver("absent")
        if job.phase in _WATCHED or not job.driver_gone:
            looked_at = await self._driver(job)
        since = c.watched_since.setdefault((job.job_id, n), mono)
        silent = {}
        for peer in job.others:
            state = c.peers.state[peer]
            shown = max(state.alive.get((job.job_id, n), since), since)
            answered = max(state.reached or state.since, since)
            silent[peer] = mono - min(shown, answered)
        offset = 0.0 if job.leads else getattr(c.peers.state[job.initiator].best, "offset_s", 0.0)
        receipts = c.store.receipts(job.job_id)
        return Observed(
            now=now,
            timing=self._timing,
            driver=looked_at,
            checks=c.checks.get(job.job_id),
            free_slot=c.free_slot(),
            silent=silent if job.phase in (Phase.STARTING, Phase.RUNNING) else {},
            ray_silent_s=mono - c.ray_answered if looked_at.state == "unreachable" else 0.0,
            initiator_offset=offset,
            bundle_ready=c.bundle_path(job.proposal.program_digest).exists(),
            policy=policy.judge(c.config, job),
            receipts=receipts,
            due=frozenset(p for p in job.others if self._failures.get((job.job_id, p), (0, 0.0))[1] <= now),
            bundle_missing=frozenset(p for p in job.others if (BUNDLE, p) not in receipts),
        )

    async def _driver(self, job: Job) -> Driver:
        name = submission_id(job.job_id, job.attempt)
        if ("launch", job.job_id) in self._beside:
            return Driver("launching")
        if why := self._refused.get(name):
            return Driver("failed", why, "launch-refused")
        before = self._c.ray_answered
        found = await driver.observe(self._c, job)
        if found.state != "unreachable" and self._c.ray_answered == before:
            self._c.ray_answered = time.monotonic()
        return found

    def _wake(self, job_id: str, at: float) -> None:
        heapq.heappush(self._wakes, (at, job_id))

    def _act(self, job: Job, action: Action) -> None:
        match action:
            case Wake(at):
                self._wake(job.job_id, at)
            case RunChecks(attempt):
                self._start(job, ("checks", job.job_id), self._checks(job, attempt))
            case Launch(_, slot, start_at):
                self._start(job, ("launch", job.job_id), self._launch(job, slot, start_at))
            case StopDriver(attempt):
                self._start(job, ("stop", job.job_id), self._stop(job, attempt))
            case Deliver(peer, keys):
                self._start(job, ("deliver", job.job_id, peer), self._deliver(job, peer, keys))
            case SendBundle(peer):
                self._start(job, ("deliver", job.job_id, peer), self._send_bundle(job, peer))
            case AskDecision(attempt):
                self._start(job, ("ask", job.job_id), self._ask(job, attempt))

    def _start(self, job: Job, key: tuple[str, ...], work: Coroutine[None, None, None]) -> None:
        if key in self._beside:
            work.close()
            return

        def done(task: asyncio.Task[None]) -> None:
            del self._beside[key]
            if not task.cancelled() and (error := task.exception()):
                log.error("work failed", job_id=job.job_id, what=key[0], error=repr(error))
                self._wake(job.job_id, time.time() + 1)
            else:
                self.enqueue(job.job_id) if not self._closing else None

        self._beside[key] = asyncio.get_running_loop().create_task(work)
        self._beside[key].add_done_callback(done)

    async def _checks(self, job: Job, attempt: int) -> None:
        try:
            limit_s = self._c.config.timeouts.promise_s
            self._c.checks[job.job_id] = await asyncio.wait_for(prepare.run_checks(self._c, job, attempt), limit_s)
        except TimeoutError:
            self._c.checks[job.job_id] = Checks(attempt, "checks-time", f"the checks took longer than {limit_s:g} s")

    async def _launch(self, job: Job, slot: int, start_at: float) -> None:
        failpoint("before-launch")
        try:
            await driver.launch(self._c, job, slot, start_at)
        except (RefusedError, OSError) as e:
            self._refused[submission_id(job.job_id, job.attempt)] = f"the driver was not launched: {e}"[:2000]
        except LauncherError as e:
            log.warning("launch failed, will look again", job_id=job.job_id, error=str(e))
            await asyncio.sleep(self._c.config.timeouts.heartbeat_s / 2)
        failpoint("after-launch")

    async def _stop(self, job: Job, attempt: int) -> None:
        try:
            await self._c.launcher.stop(submission_id(job.job_id, attempt))
        except LauncherError as e:
            log.warning("stop failed, will try again", job_id=job.job_id, error=str(e))
        await asyncio.sleep(0.2)

    async def _deliver(self, job: Job, peer: str, keys: tuple[Key, ...]) -> None:
        try:
            await self._c.peers.deliver(peer, [job.statements[k] for k in keys])
        except PeerError as e:
            self._failed(job.job_id, peer, e)
        else:
            self._failures.pop((job.job_id, peer), None)
            self._c.store.add_receipts(job.job_id, [(k, peer) for k in keys])

    async def _send_bundle(self, job: Job, peer: str) -> None:
        try:
            data = self._c.bundle_path(job.proposal.program_digest).read_bytes()
            await self._c.peers.send_bundle(peer, job.job_id, data)
        except PeerError as e:
            self._failed(job.job_id, peer, e)
        else:
            self._c.store.add_receipts(job.job_id, [(BUNDLE, peer)])

    def _failed(self, job_id: str, peer: str, error: PeerError) -> None:
        count = self._failures.get((job_id, peer), (0, 0.0))[0] + 1
        at = time.time() + _BACKOFF_S[min(count, len(_BACKOFF_S)) - 1]
        self._failures[job_id, peer] = (count, at)
        self._wake(job_id, at)
        log.info("delivery failed", job_id=job_id, peer=peer, error=str(error), failures=count)

    async def _ask(self, job: Job, attempt: int) -> None:
        await asyncio.gather(*(self._ask_one(job, peer, attempt) for peer in job.others))
        await asyncio.sleep(self._c.config.timeouts.heartbeat_s)

    async def _ask_one(self, job: Job, peer: str, attempt: int) -> None:
        try:
            for s in await self._c.peers.known(peer, job.job_id, attempt):
                accept_answer(self._c, peer, job.job_id, attempt, s)
        except (PeerError, AcceptError) as e:
            log.info("asked in vain", job_id=job.job_id, peer=peer, error=str(e))
