"""Checks of this party before it promises an attempt. Each refusal names both values.

These are the cases in which rayfed's own readiness barrier passes falsely; here they all fail closed.
What does not depend on a job is in findings.py: `consortium doctor` asks the same.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from coordinator.bundle import BundleError, digest, unpack
from coordinator.context import Context
from coordinator.findings import CheckError, check_dataset, check_folder, check_peer, check_ports, check_ray
from coordinator.model import Checks, Job
from coordinator.release import source_digest
from coordinator.statements import Kind, PrepareBody


async def run_checks(context: Context, job: Job, attempt: int) -> Checks:
    """Every check in turn, cheap ones first; the first failure is the result."""
    try:
        for check in _CHECKS:
            await check(context, job)
        await asyncio.gather(*(check_peer(context, peer) for peer in job.others))
    except CheckError as e:
        return Checks(attempt, e.code, str(e))
    return Checks(attempt)


async def _same_agreement(context: Context, job: Job) -> None:
    proposal, config = job.proposal, context.terms_of(job)
    asked = job.get(Kind.PREPARE, job.initiator, job.attempt)
    theirs = asked.consortium_digest if isinstance(asked, PrepareBody) else "none"
    if theirs != config.consortium_digest:
        window = context.config.maintenance
        raise CheckError(
            "consortium",
            f"the consortium files differ: {job.initiator} has {theirs}, {config.party} has "
            f"{config.consortium_digest}; whoever is behind runs `consortium "
            f"{'upgrade run` (the maintenance window is open)' if window and window.open(time.time()) else 'up`'}, "
            "then it is asked again by itself",
        )
    if config.release not in (None, source_digest()):
        raise CheckError(
            "release",
            f"the coordinator of {config.party} is {source_digest()}, agreed is {config.release}: it runs "
            "`consortium up` with the agreed release, then it is asked again by itself",
        )
    for name in sorted(proposal.versions.keys() | config.versions.keys()):
        wanted, ours = proposal.versions.get(name, "none"), config.versions.get(name, "none")
        if wanted != ours:
            raise CheckError("versions", f"{name} differs: {job.initiator} has {wanted}, {config.party} has {ours}")


async def _same_program(context: Context, job: Job) -> None:
    wanted = job.proposal.program_digest
    try:
        found = digest(unpack(context.bundle_path(wanted).read_bytes(), context.config.limits.bundle_bytes))
    except (OSError, BundleError) as e:
        raise CheckError("program", f"the job folder {wanted} cannot be read: {e}") from e
    if found != wanted:
        raise CheckError("program", f"the program differs: proposed {wanted}, {context.config.party} has {found}")


async def _data(context: Context, job: Job) -> None:
    for name in job.proposal.datasets.get(context.config.party, ()):
        check_dataset(context, name)


async def _folder(context: Context, job: Job) -> None:
    check_folder(context)


async def _ports(context: Context, job: Job) -> None:
    if (slot := context.free_slot()) is not None:
        check_ports(context, slot)


async def _ray(context: Context, job: Job) -> None:
    await check_ray(context)


_CHECKS: tuple[Callable[[Context, Job], Awaitable[None]], ...] = (
    _same_agreement,
    _same_program,
    _data,
    _folder,
    _ports,
    _ray,
)
