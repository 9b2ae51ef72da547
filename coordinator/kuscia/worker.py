"""The loop of Kuscia mode: the same as in Ray mode, woken by what the own node tells of its KusciaJobs."""

from __future__ import annotations

import asyncio
import time

import structlog

from coordinator.actions import Action
from coordinator.group_commit import StoreError
from coordinator.kuscia.act import KusciaDoer
from coordinator.kuscia.arrive import arrived, attempt_of
from coordinator.kuscia.decide import decide
from coordinator.kuscia.errors import KusciaError
from coordinator.kuscia.models import Event
from coordinator.kuscia.observe import observe
from coordinator.model import Job
from coordinator.worker import Worker, timing_of

log = structlog.get_logger()
_LONGEST_PAUSE_S = 15.0


class KusciaWorker(Worker):
    """Brings every job forward, and finds those of peers."""

    def _make_doer(self) -> KusciaDoer:
        return KusciaDoer(self._c, self.enqueue, self._wake)

    async def _look(self, job: Job) -> list[Action]:
        try:
            seen, look_again_at = await observe(self._c, job, timing_of(self._c.terms_of(job)))
        except KusciaError as e:
            self._failed(e)
            self._wake(job.job_id, time.time() + self._pause_s())
            return []
        self._answered()
        if look_again_at:
            self._wake(job.job_id, look_again_at)
        if seen.behind:
            self._c.undelivered[job.job_id, job.initiator] = seen.behind
        else:
            self._c.undelivered.pop((job.job_id, job.initiator), None)
        return decide(job, seen)

    def _pause_s(self) -> float:
        return min(5 * self._c.config.timeouts.heartbeat_s, _LONGEST_PAUSE_S)

    def _failed(self, error: KusciaError) -> None:
        if self._c.node.fails(error):
            log.warning("the own Kuscia does not answer as it should", error=str(error))
            self._c.store.note(time.time(), "kuscia-silent", str(error)[:1000])

    def _answered(self) -> None:
        if self._c.node.answers():
            log.info("the own Kuscia answers again")
            self._c.store.note(time.time(), "kuscia-answers", "the own Kuscia answers again")
            self.enqueue_all()

    async def watch(self) -> None:
        """Follow the node's KusciaJobs; runs until cancelled. Each watch begins with all that are there."""
        while True:
            try:
                async for event in self._c.node.api.watch():
                    self._answered()
                    await self._heard(event)
            except KusciaError as e:
                self._failed(e)
            except StoreError as e:
                log.warning("the state could not be written", error=str(e))
            await asyncio.sleep(self._pause_s())

    async def _heard(self, event: Event) -> None:
        if event.object is None or not (named := attempt_of(event.object.job_id)):
            return
        job_id = named[0]
        if self._c.store.load(job_id) or await arrived(self._c, event.object.job_id):
            await self._c.store.durable()
            self.enqueue(job_id)
