"""Doing what was decided: everything slow runs beside the worker's loop, one task per (kind, job, peer).

Nothing here changes a record. A task that is lost in a crash is asked for again by the next look at the job.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine

import structlog

from coordinator import driver, prepare
from coordinator.accept import RefusedError as AcceptError
from coordinator.accept import accept_answer
from coordinator.actions import (
    Action,
    Ask,
    AwaitReady,
    Deliver,
    Launch,
    ProveWays,
    RunChecks,
    SendBundle,
    StopDriver,
    TellGo,
    Wake,
)
from coordinator.context import Context
from coordinator.failpoints import Effect, failpoint
from coordinator.launcher import LauncherError, RefusedError, submission_id
from coordinator.model import Checks, Job
from coordinator.peers import PeerError
from coordinator.statements import Key, Kind

log = structlog.get_logger()
_BACKOFF_S = (0.2, 0.5, 1.0, 2.0, 5.0)
BUNDLE = Key(0, Kind.PROPOSAL, "bundle")  # stands for the job folder among receipts


class Doer:
    """Carries out actions. `look_again` enqueues a job, `wake` does so at a time (own clock)."""

    def __init__(self, context: Context, look_again: Callable[[str], None], wake: Callable[[str, float], None]) -> None:
        self._c, self._look_again, self._wake = context, look_again, wake
        self._tasks: dict[tuple[str, ...], asyncio.Task[None]] = {}
        self._failures: dict[tuple[str, str], tuple[int, float]] = {}  # (job, peer) -> failures, next try
        self.launch_refused: dict[str, str] = {}  # submission -> why
        self._closing = False

    def due(self, job: Job, now: float) -> frozenset[str]:
        """Peers of the job that are in the consortium and not in a pause after a failure."""
        return frozenset(p for p in self._there(job) if self._failures.get((job.job_id, p), (0, 0.0))[1] <= now)

    def _there(self, job: Job) -> list[str]:
        return [p for p in job.others if p in self._c.config.peers]

    def next_try(self, job: Job, now: float) -> float | None:
        """When the next pause after a failure ends."""
        ends = (self._failures.get((job.job_id, p), (0, 0.0))[1] for p in self._there(job))
        return min((at for at in ends if at > now), default=None)

    def forget_failures(self) -> None:
        """A peer came back: no pause counts any more."""
        self._failures.clear()

    def launching(self, job: Job) -> bool:
        """True while a launch for the job is under way."""
        return ("launch", job.job_id) in self._tasks

    async def close(self) -> None:
        """Give up what is under way."""
        self._closing = True
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def act(self, job: Job, action: Action) -> None:
        """Begin an effect, unless the same is under way."""
        match action:
            case Wake(at):
                self._wake(job.job_id, at)
            case RunChecks(attempt):
                self._start(job, ("checks", job.job_id), self._checks(job, attempt))
            case Launch(_, slot):
                self._start(job, ("launch", job.job_id), self._launch(job, slot))
            case ProveWays(attempt, slot):
                if self._c.ways_proved.get(job.job_id, Checks(0)).attempt != attempt:
                    self._start(job, ("ways", job.job_id), self._prove_ways(job, slot))
            case AwaitReady():
                wait = driver.await_ready(self._c, job, self._c.config.timeouts.heartbeat_s)
                self._start(job, ("ready", job.job_id), wait)
            case TellGo(_, start_at):
                self._start(job, ("go", job.job_id), self._tell_go(job, start_at))
            case StopDriver(attempt):
                self._start(job, ("stop", job.job_id), self._stop(job, attempt))
            case Deliver(peer, keys):
                self._start(job, ("deliver", job.job_id, peer), self._deliver(job, peer, keys))
            case SendBundle(peer):
                self._start(job, ("deliver", job.job_id, peer), self._send_bundle(job, peer))
            case Ask(attempt):
                self._start(job, ("ask", job.job_id), self._ask(job, attempt))

    def _start(self, job: Job, key: tuple[str, ...], work: Coroutine[None, None, None]) -> None:
        if key in self._tasks:
            work.close()
            return

        def done(task: asyncio.Task[None]) -> None:
            del self._tasks[key]
            work.close()  # does nothing unless it never began
            if not task.cancelled() and (error := task.exception()):
                log.error("work failed", job_id=job.job_id, what=key[0], exc_info=error)
                self._wake(job.job_id, time.time() + 1)
            elif not self._closing:
                self._look_again(job.job_id)

        self._tasks[key] = asyncio.get_running_loop().create_task(self._once_durable(work, self._c.store.failures))
        self._tasks[key].add_done_callback(done)

    async def _once_durable(self, work: Coroutine[None, None, None], failures: int) -> None:
        await self._c.store.durable(failures)
        await work

    async def _checks(self, job: Job, attempt: int) -> None:
        try:
            limit_s = self._c.config.timeouts.promise_s
            self._c.checks[job.job_id] = await asyncio.wait_for(prepare.run_checks(self._c, job, attempt), limit_s)
        except TimeoutError:
            self._c.checks[job.job_id] = Checks(attempt, "checks-time", f"the checks took longer than {limit_s:g} s")

    async def _launch(self, job: Job, slot: int) -> None:
        failpoint(f"before-{Effect.LAUNCH}")
        try:
            with self._c.metrics.launch.time():
                await driver.launch(self._c, job, slot)
        except (RefusedError, OSError) as e:
            self.launch_refused[submission_id(job.job_id, job.attempt)] = f"the driver was not launched: {e}"[:2000]
        except LauncherError as e:
            log.warning("launch failed, will look again", job_id=job.job_id, error=str(e))
            await asyncio.sleep(self._c.config.timeouts.heartbeat_s / 2)
        failpoint(f"after-{Effect.LAUNCH}")

    async def _prove_ways(self, job: Job, slot: int) -> None:
        try:
            await self._c.ways.hold(job, slot)
            if self._c.store.used_slots().get(slot) != job.job_id:
                # given back meanwhile: the next job needs the ports
                self._c.ways.release(job.job_id)
                return
            # a peer that is silent for peer_lost_after_s ends the attempt by that name; this is the bound for the rest
            limit_s = 1.5 * self._c.config.timeouts.peer_lost_after_s
            self._c.ways_proved[job.job_id] = await self._c.ways.prove(job, limit_s)
        except OSError as e:
            why = f"the ports of slot {slot} of {self._c.config.party} cannot be held for this attempt: {e}"
            self._c.ways_proved[job.job_id] = Checks(job.attempt, "port", why)

    async def _tell_go(self, job: Job, start_at: float) -> None:
        failpoint(f"before-{Effect.TELL_GO}")
        self._c.ways.release(job.job_id)
        driver.tell_go(self._c, job, start_at)
        failpoint(f"after-{Effect.TELL_GO}")

    async def _stop(self, job: Job, attempt: int) -> None:
        failpoint(f"before-{Effect.STOP}")
        try:
            await self._c.launcher.stop(submission_id(job.job_id, attempt))
        except LauncherError as e:
            log.warning("stop failed, will try again", job_id=job.job_id, error=str(e))
        failpoint(f"after-{Effect.STOP}")
        await asyncio.sleep(0.2)

    async def _deliver(self, job: Job, peer: str, keys: tuple[Key, ...]) -> None:
        try:
            await self._c.peers.deliver(peer, [job.statements[k] for k in keys])
        except PeerError as e:
            self._failed(job.job_id, peer, e)
        else:
            self._failures.pop((job.job_id, peer), None)
            self._c.undelivered.pop((job.job_id, peer), None)
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
        self._c.metrics.undelivered.labels(peer).inc()
        count = self._failures.get((job_id, peer), (0, 0.0))[0] + 1
        at = time.time() + _BACKOFF_S[min(count, len(_BACKOFF_S)) - 1]
        self._failures[job_id, peer] = (count, at)
        self._c.undelivered[job_id, peer] = str(error)[:1000]
        self._wake(job_id, at)
        log.info("delivery failed", job_id=job_id, peer=peer, error=str(error), failures=count)

    async def _ask(self, job: Job, attempt: int) -> None:
        await asyncio.gather(*(self._ask_one(job, peer, attempt) for peer in self._there(job)))
        # a signature of a party that is gone for good is worth a question now and then, not more
        await asyncio.sleep(self._c.config.timeouts.heartbeat_s * (30 if job.phase.terminal else 1))

    async def _ask_one(self, job: Job, peer: str, attempt: int) -> None:
        try:
            for s in await self._c.peers.known(peer, job.job_id, attempt):
                accept_answer(self._c, peer, job.job_id, attempt, s)
        except (PeerError, AcceptError) as e:
            log.info("asked in vain", job_id=job.job_id, peer=peer, error=str(e))
