"""The level-triggered loop: an event only enqueues a job id; the worker reads the record, looks, decides, acts.

Everything slow runs beside the loop, so that a dead peer never delays the end of an attempt.
"""

from __future__ import annotations

import asyncio
import time

import structlog

from coordinator import driver, policy, views
from coordinator.actions import Action, Commit
from coordinator.bundle import JOB_FILE
from coordinator.config import Config
from coordinator.context import Context
from coordinator.decide import decide, evolve
from coordinator.doing import BUNDLE, Doer
from coordinator.failpoints import Step
from coordinator.launcher import submission_id
from coordinator.metrics import Metrics
from coordinator.model import Driver, Job, Observed, Phase, Silence, Timing
from coordinator.store import StaleError

log = structlog.get_logger()
_WATCHED = frozenset({Phase.STARTING, Phase.RUNNING, Phase.ENDING})


def timing_of(config: Config) -> Timing:
    """What decisions depend on, of a configuration."""
    t = config.timeouts
    return Timing(
        promise_s=t.promise_s,
        start_lead_s=t.start_lead_s,
        start_window_s=t.start_window_s,
        peer_lost_after_s=t.peer_lost_after_s,
        job_s=t.job_s,
        retry_s=2 * t.heartbeat_s,
        prepare_rounds=config.limits.prepare_rounds,
    )


def of_the_other_mode(job: Job, now: float) -> list[Action]:
    """A job of the time before the consortium went over to another mode: nothing of it begins any more."""
    wanted = job.cancels() or now >= job.proposal.deadline
    if job.phase not in (Phase.PROPOSED, Phase.APPROVED) or not wanted:
        return []
    why = "the consortium is in another mode now: submit it anew"
    return [Commit(Step.CLOSED, why, phase=Phase.CANCELLED, changes={"settled": True})]


class Worker:
    """Brings every job forward."""

    def __init__(self, context: Context, metrics: Metrics) -> None:
        self._c, self._metrics = context, metrics
        self._pending: set[str] = set()
        self._running: set[str] = set()
        self._steps: set[asyncio.Task[None]] = set()
        self._wakes: dict[str, float] = {}  # job -> when to look again at the latest
        self._doer = self._make_doer()
        self._closing = False

    def _make_doer(self) -> Doer:
        return Doer(self._c, self.enqueue, self._wake)

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
        self._doer.forget_failures()
        for job_id in dict.fromkeys((*self._c.store.unfinished(), *self._c.store.job_ids(200))):
            self.enqueue(job_id)

    async def tick(self) -> None:
        """Wake jobs whose time has come; runs until cancelled."""
        while True:
            now = time.time()
            for job_id in [j for j, at in self._wakes.items() if at <= now]:
                del self._wakes[job_id]
                self.enqueue(job_id)
            await asyncio.sleep(min(0.1, self._c.config.timeouts.heartbeat_s / 4))

    async def close(self) -> None:
        """Stop looking; drivers go on."""
        self._closing = True
        await self._doer.close()
        tasks = list(self._steps)
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
        self._wakes.pop(job_id, None)
        structlog.contextvars.clear_contextvars()  # a task begins with those of whoever enqueued the job
        while job := self._c.store.load(job_id):
            self._c.keep_terms(job)
            before = self._c.store.failures
            ours = (job.proposal.program == JOB_FILE) is bool(self._c.kuscia)
            actions = await self._look(job) if ours else of_the_other_mode(job, time.time())
            if self._c.store.failures != before:
                continue  # what was read may never have been written
            for action in actions:
                if isinstance(action, Commit):
                    await self._commit(job, action)
                    break
                self._doer.act(job, action)
            else:
                now = time.time()
                if job.phase.active:
                    self._wake(job_id, now + self._c.config.timeouts.heartbeat_s)
                if pause_ends := self._doer.next_try(job, now):
                    self._wake(job_id, pause_ends)
                return

    async def _look(self, job: Job) -> list[Action]:
        return decide(job, await self._observe(job))

    async def _commit(self, job: Job, step: Commit) -> None:
        new = evolve(job, step, lambda draft: self._c.signer.statement(job.job_id, draft))
        try:
            self._c.store.save(step.step, job, new, time.time(), step.reason)
        except StaleError as e:
            log.info("record changed meanwhile", job_id=job.job_id, detail=str(e))
            return
        if job.slot is not None and new.slot is None:
            self._c.forget(job)  # at once: whoever finds the slot free must find its ports free
        await self._c.store.durable()
        log.info(step.reason, job_id=job.job_id, attempt=new.attempt, phase=new.phase, was=job.phase)
        ended = job.phase is Phase.ENDING and new.phase is not job.phase
        self._metrics.moved(job, new, views.skew_ms(self._c, new, new.attempt) if ended else None)
        if new.slot is None and (job.slot is not None or job.phase is Phase.PREPARING):
            free = self._c.config.slots - len(self._c.store.used_slots())
            for waiting in self._c.store.waiting(free, time.time()):
                self.enqueue(waiting)

    async def _observe(self, job: Job) -> Observed:
        c = self._c
        now = time.time()
        looked_at = Driver("absent")
        if job.phase in _WATCHED or not job.driver_gone:
            looked_at = await self._driver(job)
        mono = time.monotonic()  # after the look: a slow Ray is no sign of a silent peer
        receipts = c.store.receipts(job.job_id)
        judged = policy.judge(c.config, job, now)
        if judged.look_again_at:
            self._wake(job.job_id, judged.look_again_at)
        if hold := c.held(now):
            self._wake(job.job_id, hold.until)
        return Observed(
            now=now,
            timing=timing_of(c.terms_of(job)),
            consortium_digest=c.config.consortium_digest,
            left=c.config.departed(job.proposal.parties),
            revoked=c.config.shut_out(job.proposal.parties),
            held=hold.text if hold else "",
            maintenance=bool(c.config.maintenance and c.config.maintenance.open(now)),
            driver=looked_at,
            checks=c.checks.get(job.job_id),
            ways=c.ways_proved.get(job.job_id),
            told=looked_at.state != "absent" and driver.go_file(c, job).exists(),
            free_slot=c.free_slot(asking=job if job.phase is Phase.APPROVED and job.leads else None),
            silent=self._silent(job, mono) if job.phase in (Phase.STARTING, Phase.RUNNING) else {},
            ray_silent_s=mono - c.ray_failing_since if c.ray_failing_since else 0.0,
            initiator_offset=0.0 if job.leads else c.peers.offset_s(job.initiator),
            slowest_s=max((c.peers.state[p].delay_s for p in job.others), default=0.0),
            bundle_ready=c.bundle_path(job.proposal.program_digest).exists(),
            policy=judged.approval,
            receipts=receipts,
            due=self._doer.due(job, now),
            bundle_missing=frozenset(p for p in job.others if (BUNDLE, p) not in receipts),
        )

    async def _driver(self, job: Job) -> Driver:
        name = submission_id(job.job_id, job.attempt)
        if why := self._doer.launch_refused.get(name):
            return Driver("failed", why, "launch-refused")
        launching = self._doer.launching(job)
        found = await driver.observe(self._c, job)  # during a launch too: it may hang in a Ray that stands still
        return Driver("launching") if launching else found

    def _silent(self, job: Job, mono: float) -> dict[str, Silence]:
        """Since when each peer has not shown this attempt alive or has not answered us, whichever is longer ago."""
        since = self._c.watched_since.setdefault((job.job_id, job.attempt), mono)
        found = {}
        for peer in job.others:
            state = self._c.peers.state[peer]
            shown = max(state.alive.get((job.job_id, job.attempt), since), since)
            seconds = mono - min(shown, max(state.reached or since, since))
            found[peer] = Silence(seconds, state.account(peer, mono, self._c.terms_of(job).timeouts.peer_lost_after_s))
        return found

    def _wake(self, job_id: str, at: float) -> None:
        self._wakes[job_id] = min(at, self._wakes.get(job_id, at))
