"""Proposals of others: a KusciaJob that the own node has from a peer becomes a job here, or is answered with no."""

from __future__ import annotations

import re
import time

import structlog

from coordinator.accept import RefusedError, accept, keep_bundle
from coordinator.bundle import JOB_FILE, BundleError, digest
from coordinator.context import Context
from coordinator.kuscia.compile import Agreed
from coordinator.kuscia.models import JobState, KusciaJob
from coordinator.kuscia.observe import NotOursError, difference, misdescribed, proposed_by
from coordinator.signing import SigningError
from coordinator.statements import Kind

log = structlog.get_logger()
_NAME = re.compile(r"(\d{8}-[a-z0-9-]{1,32}-[a-z2-7]{6})-([1-9]\d?)")
_OPEN = frozenset({JobState.AWAITING_APPROVAL, JobState.PENDING, JobState.RUNNING, JobState.SUSPENDED})


def attempt_of(name: str) -> tuple[str, int] | None:
    """Job and attempt of a KusciaJob by its name; None when it is none of ours."""
    found = _NAME.fullmatch(name)
    return (found[1], int(found[2])) if found else None


async def arrived(context: Context, name: str) -> bool:
    """Take in a KusciaJob whose job is not known here; True when it is known now. Raises KusciaError.

    What is no job of this consortium is left alone: its own people may use the node for other things.
    """
    there = await context.node.api.job(name)
    if there is None or there.status.state not in _OPEN:
        return False
    if context.node.turned_away.get(name) is there.status.state:
        return False  # the node has the answer, and tells of another change
    try:
        agreed = proposed_by(there)
        if there.initiator == context.config.party:
            await _end_orphan(context, there)
            return False
        _take_in(context, there, agreed)
    except NotOursError as e:
        log.info("left alone", kuscia_job=name, reason=str(e))
        return False
    except (RefusedError, BundleError) as e:
        context.refusals.add(there.initiator[:64], f"KusciaJob {name}"[:200], str(e)[:2000])
        await _refuse(context, there, str(e))
        context.node.turned_away[name] = there.status.state
        return False
    return True


def _take_in(context: Context, there: KusciaJob, agreed: Agreed) -> None:
    """Record the proposal. Raises RefusedError for what an honest peer would not send."""
    statement = agreed.proposal
    named = attempt_of(there.job_id)
    if named is None or named[0] != statement.job_id or not 1 <= named[1] <= agreed.body.max_attempts:
        raise RefusedError(
            409, f"{there.job_id}: the proposal is of {statement.job_id}, {agreed.body.max_attempts} tries"
        )
    if there.initiator != statement.party:
        raise RefusedError(403, f"{there.job_id}: begun by {there.initiator}, signed by {statement.party}")
    files = {JOB_FILE: agreed.text.encode()}
    if digest(files) != agreed.body.program_digest:
        raise RefusedError(409, f"{there.job_id}: job.yaml is not the one that {statement.party} signed")
    if wrong := misdescribed(agreed) or difference(agreed, named[1], there):
        raise RefusedError(409, f"{there.job_id}: {wrong}")
    try:
        context.verifier.check(statement)
    except SigningError as e:
        raise RefusedError(403, str(e)) from e
    path = context.bundle_path(agreed.body.program_digest)
    new = not path.exists()
    keep_bundle(context, files)  # first: a record without its job.yaml could not be shown to anybody
    try:
        accept(context, statement.party, Kind.PROPOSAL, (statement,))
    except RefusedError:
        if new:
            path.unlink(missing_ok=True)
        raise


async def _refuse(context: Context, there: KusciaJob, why: str) -> None:
    """No to what waits for an answer; an end to what did not wait for one."""
    api = context.node.api
    if there.status.state in (JobState.AWAITING_APPROVAL, JobState.PENDING):
        await api.approve(there.job_id, accept=False, reason=why[:500])
    else:
        await api.cancel(there.job_id, why[:500])


async def _end_orphan(context: Context, there: KusciaJob) -> None:
    """A job of this party that its record does not know: its state is older than the node's."""
    context.store.note(time.time(), "orphan", f"cancelling the KusciaJob {there.job_id}: no job wants it")
    await context.node.api.cancel(there.job_id, f"{context.config.party} has no record of this job")
