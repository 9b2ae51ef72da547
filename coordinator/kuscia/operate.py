"""What an operator asks of a job in Kuscia mode beside yes, no and cancel: its output, to stop it for now, to go on."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

from coordinator.accept import RefusedError
from coordinator.context import Context
from coordinator.driver_log import Log
from coordinator.kuscia.compile import outputs, task_ids
from coordinator.kuscia.errors import KusciaError, KusciaRefused
from coordinator.kuscia.observe import agreed_of
from coordinator.model import Job, Phase
from coordinator.statements import job_name

Verb = Literal["suspend", "restart"]
_FROM = {"suspend": Phase.RUNNING, "restart": Phase.SUSPENDED}


async def stop_or_go_on(context: Context, job: Job, verb: Verb, reason: str) -> None:
    """Have the own node suspend or restart the job, at every party. Raises RefusedError: 409 not now, 502 no answer."""
    if context.kuscia is None:
        raise RefusedError(409, f"job {job.job_id}: to {verb} a job is of Kuscia mode; this consortium is in Ray mode")
    if job.phase is not (wanted := _FROM[verb]):
        raise RefusedError(409, f"job {job.job_id} is {job.phase}: only a job that is {wanted} can {verb}")
    context.store.note(
        time.time(), f"{verb}-wanted", f"{verb} by a person: {reason or 'no reason given'}", job_id=job.job_id
    )
    await context.store.durable()
    try:
        call = context.node.api.suspend if verb == "suspend" else context.node.api.restart
        await call(job_name(job.job_id, job.attempt), reason)
    except KusciaRefused as e:
        raise RefusedError(409, f"job {job.job_id}: the own Kuscia does not {verb} it: {e.said}") from e
    except KusciaError as e:
        raise RefusedError(502, f"job {job.job_id}: {e}") from e


def where_results_are(context: Context, job: Job) -> str:
    """For whoever asks for a result here: the node has it."""
    made = outputs(agreed_of(context, job).job, job_name(job.job_id, job.attempt))
    named = ", ".join(f"{output} as {name}" for output, name in made.items())
    return f"job {job.job_id} is {job.phase}: in Kuscia mode results are data of the own node: {named}"


async def task_logs(context: Context, job: Job, attempt: int) -> Log:
    """What this party's tasks of an attempt printed, one after the other; the end of it when it is long.

    Raises KusciaError when the node does not answer.
    """
    end = _End(context.config.limits.log_bytes)
    for alias, task_id in task_ids(agreed_of(context, job).job, job_name(job.job_id, attempt)).items():
        end.add(f"== {alias} ==\n")
        try:
            async for piece in context.node.api.log(task_id):
                end.add(piece)
        except KusciaRefused as e:  # a task that has not begun has no output
            end.add(f"({e.said})\n")
    return Log(end.text[-end.limit :], end.total)


@dataclass
class _End:
    """The end of a long text that comes in pieces."""

    limit: int
    text: str = ""
    total: int = 0

    def add(self, piece: str) -> None:
        self.text, self.total = self.text + piece, self.total + len(piece)
        if len(self.text) > 2 * self.limit:  # seldom: each cut copies what stays
            self.text = self.text[-self.limit :]
