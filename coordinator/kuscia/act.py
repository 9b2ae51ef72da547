"""Doing what was decided: calls to the own node, each beside the worker's loop, each harmless when it comes twice."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from coordinator.actions import Action, AnswerKusciaJob, CancelKusciaJob, CreateKusciaJob, Wake
from coordinator.bundle import BundleError
from coordinator.doing import Doer
from coordinator.failpoints import KusciaEffect, failpoint
from coordinator.kuscia.compile import compiled
from coordinator.kuscia.errors import KusciaError, KusciaForbidden, KusciaRefused, KusciaUnreachable
from coordinator.kuscia.node import Node
from coordinator.kuscia.observe import agreed_of, difference
from coordinator.model import Job
from coordinator.statements import job_name

log = structlog.get_logger()
_NEVER = 11100
"""Kuscia's code for a request that it will not understand better the next time."""


class KusciaDoer(Doer):
    """Carries out actions in Kuscia mode."""

    def act(self, job: Job, action: Action) -> None:
        """Begin an effect, unless the same is under way."""
        match action:
            case Wake(at):
                self._wake(job.job_id, at)
            case CreateKusciaJob(attempt):
                self._start(job, ("create", job.job_id), self._create(job, attempt))
            case AnswerKusciaJob(attempt, accept):
                self._start(job, ("answer", job.job_id), self._answer(job, attempt, accept))
            case CancelKusciaJob(attempt):
                self._start(job, ("cancel", job.job_id), self._cancel(job, attempt))
            case _:
                raise AssertionError(f"no action of Kuscia mode: {action}")

    async def _create(self, job: Job, attempt: int) -> None:
        name = job_name(job.job_id, attempt)

        async def call(node: Node) -> None:
            try:
                await node.api.create_job(compiled(agreed_of(self._c, job), attempt))
            except (OSError, BundleError) as e:
                node.refused[name] = f"its job.yaml cannot be read: {e}"[:1000]
            except (KusciaUnreachable, KusciaForbidden):
                raise
            except KusciaError as e:  # another job of this name, or a request that is not understood
                if isinstance(e, KusciaRefused) and e.code != _NEVER:
                    raise
                node.refused[name] = str(e)[:1000]

        await self._tell(job, KusciaEffect.CREATE, call)

    async def _answer(self, job: Job, attempt: int, accept: bool) -> None:
        name = job_name(job.job_id, attempt)

        async def call(node: Node) -> None:
            there = await node.api.job(name)  # what is answered is what is there now, not what was a moment ago
            if there is None or (accept and difference(agreed_of(self._c, job), attempt, there)):
                return
            said = job.approvals().get(job.me)
            await node.api.approve(name, accept=accept, reason=said.reason if said else f"the job is {job.phase} here")

        await self._tell(job, KusciaEffect.ANSWER, call)

    async def _cancel(self, job: Job, attempt: int) -> None:
        wish = job.cancels().get(job.me)
        reason = wish.reason if wish else job.reason

        async def call(node: Node) -> None:
            await node.api.cancel(job_name(job.job_id, attempt), reason[:500])

        await self._tell(job, KusciaEffect.CANCEL, call)

    async def _tell(self, job: Job, effect: KusciaEffect, call: Callable[[Node], Awaitable[None]]) -> None:
        failpoint(f"before-{effect}")
        try:
            await call(self._c.node)
        except KusciaError as e:
            log.warning("the own Kuscia did not do it, will ask again", job_id=job.job_id, what=effect, error=str(e))
        failpoint(f"after-{effect}")
        await asyncio.sleep(self._c.config.timeouts.heartbeat_s)  # its controllers need a moment to show it
