"""What a party sees of a job in Kuscia mode: its own node's word on the KusciaJobs of two attempts."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from coordinator import policy
from coordinator.bundle import JOB_FILE, BundleError, read_job_file, unpack
from coordinator.context import Context
from coordinator.kuscia.compile import ENVELOPE, Agreed, compiled
from coordinator.kuscia.models import JobStatus, KusciaJob
from coordinator.model import Job, Observed, Phase, Timing
from coordinator.statements import Kind, Statement, job_name


@dataclass(frozen=True)
class KusciaSeen(Observed):
    """`current`: of the job's attempt, `following`: of the one after it; None when the node has no such KusciaJob."""

    current: JobStatus | None = None
    following: JobStatus | None = None
    wrong: str = ""  # how a KusciaJob differs from what was agreed
    behind: str = ""  # what keeps this party's yes from being told yet: other consortium files, other versions
    refused: str = ""  # why the own node will not make the next KusciaJob


class NotOursError(Exception):
    """A KusciaJob that bears no proposal of this consortium."""


async def observe(context: Context, job: Job, timing: Timing) -> tuple[KusciaSeen, float | None]:
    """What is seen now, and when the policy may say something else. Raises KusciaError: the node does not answer."""
    node, config, now = context.node, context.config, time.time()
    attempts = {n for n in (job.attempt, job.attempt + 1) if 1 <= n <= job.proposal.max_attempts}
    found = {n: await node.api.job(job_name(job.job_id, n)) for n in sorted(attempts)}
    for n, kuscia_job in found.items():
        if kuscia_job and not job.phase.terminal:
            node.told[job_name(job.job_id, n)] = kuscia_job
        else:
            node.told.pop(job_name(job.job_id, n), None)
    judged, hold = policy.judge(config, job, now), context.held(now)
    seen = KusciaSeen(
        now=now,
        timing=timing,
        consortium_digest=config.consortium_digest,
        left=config.departed(job.proposal.parties),
        revoked=config.shut_out(job.proposal.parties),
        held=hold.text if hold else "",
        policy=judged.approval,
        current=_status(found.get(job.attempt)),
        following=_status(found.get(job.attempt + 1)),
        wrong="" if job.phase.terminal or not any(found.values()) else _wrong(context, job, found),
        behind=_behind(context, job),
        refused=node.refused.get(job_name(job.job_id, job.attempt + 1), ""),
    )
    return seen, min([t for t in (judged.look_again_at, hold.until if hold else None) if t], default=None)


def _status(found: KusciaJob | None) -> JobStatus | None:
    return found.status if found else None


def _wrong(context: Context, job: Job, found: dict[int, KusciaJob | None]) -> str:
    try:
        agreed = agreed_of(context, job)
    except (OSError, BundleError) as e:
        return f"the job.yaml that {job.me} was shown cannot be read any more: {e}"
    return next((why for n, there in found.items() if there and (why := difference(agreed, n, there))), "")


def _behind(context: Context, job: Job) -> str:
    """Which agreement this party and the initiator do not share, if any."""
    proposal, config = job.proposal, context.config
    if job.leads or job.phase is not Phase.PROPOSED:
        return ""
    if proposal.consortium_digest != config.consortium_digest:
        return (
            f"the consortium files differ: {job.initiator} has {proposal.consortium_digest}, {config.party} has "
            f"{config.consortium_digest}; whoever is behind runs `consortium up`"
        )
    names = sorted(
        n for n in {*proposal.versions, *config.versions} if proposal.versions.get(n) != config.versions.get(n)
    )
    return f"{', '.join(names)}: {job.initiator} and {config.party} have other versions" if names else ""


def agreed_of(context: Context, job: Job) -> Agreed:
    """What this party's record says of a pipeline. Raises BundleError, OSError when job.yaml is not whole any more."""
    path = context.bundle_path(job.proposal.program_digest)
    files = unpack(path.read_bytes(), context.config.limits.bundle_bytes)
    return Agreed(job.signed_proposal, files[JOB_FILE].decode("utf-8"), read_job_file(files))


def difference(agreed: Agreed, attempt: int, there: KusciaJob) -> str:
    """What of a KusciaJob is not as every party compiles it; empty when all is. Task ids are the initiator's node's."""
    wanted, found = _plain(compiled(agreed, attempt)), _plain(there)
    names = sorted(name for name in {*wanted, *found} if wanted.get(name) != found.get(name))
    return f"{', '.join(names)} of {there.job_id} differ from what {agreed.proposal.party} signed" if names else ""


def _plain(job: KusciaJob) -> dict[str, Any]:
    tasks = [task.model_dump(exclude={"task_id"}) for task in job.tasks]
    return {"initiator": job.initiator, "tasks": tasks, "max_parallelism": max(1, job.max_parallelism)}


def proposed_by(there: KusciaJob) -> Agreed:
    """What a KusciaJob of a peer says that it is; not checked yet. Raises NotOursError, BundleError."""
    try:
        envelope = json.loads(there.tasks[0].task_input_config)[ENVELOPE]
        proposal, text = Statement.model_validate(envelope["proposal"]), str(envelope[JOB_FILE])
    except (ValueError, ValidationError, LookupError, TypeError, RecursionError) as e:
        raise NotOursError(f"{there.job_id}: bears no proposal of this consortium") from e
    if proposal.kind is not Kind.PROPOSAL:
        raise NotOursError(f"{there.job_id}: bears a {proposal.kind} in place of a proposal")
    return Agreed(proposal, text, read_job_file({JOB_FILE: text.encode()}))


def misdescribed(agreed: Agreed) -> str:
    """Fields in which a proposal says of its job.yaml what is not there: they are what policies and people see."""
    body, job = agreed.body, agreed.job
    told = ("name", "description", "program", "parties", "datasets", "max_attempts", "priority")
    wrong = [name for name in told if getattr(body, name) != getattr(job, name)]
    return f"{', '.join(wrong)}: the proposal says other than its job.yaml" if wrong else ""
