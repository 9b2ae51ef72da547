"""What the operator may do to jobs: submit, approve, deny, cancel. Each becomes a signed statement, durably."""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from dataclasses import replace
from typing import Literal

from coordinator.accept import RefusedError, keep_bundle
from coordinator.bundle import BundleError, digest, pack, read_job_file, unpack
from coordinator.context import Context
from coordinator.failpoints import Step
from coordinator.model import Draft, Job, Phase
from coordinator.room import no_room
from coordinator.statements import ApprovalBody, CancelBody, Kind, ProposalBody
from coordinator.store import StaleError, UsedKeyError

_LETTERS = "abcdefghijklmnopqrstuvwxyz234567"
_KEY = re.compile(r"[A-Za-z0-9._:-]{1,100}")


def new_job_id(name: str, now: float) -> str:
    """Date, name and 30 random bits: sortable, readable, unique."""
    suffix = "".join(secrets.choice(_LETTERS) for _ in range(6))
    return f"{time.strftime('%Y%m%d', time.gmtime(now))}-{name}-{suffix}"


def submit(context: Context, tar: bytes, key: str | None = None) -> tuple[Job, bool]:
    """Propose the job that a folder describes; (job, True if it is new). `key` makes a repeated request harmless.

    Raises RefusedError naming what is wrong with the folder.
    """
    config, now = context.config, time.time()
    if key is not None and not _KEY.fullmatch(key):
        raise RefusedError(422, f"Idempotency-Key {key[:100]!r}: 1 to 100 of letters, digits, '.', '_', ':', '-'")
    try:
        files = unpack(tar, config.limits.bundle_bytes)
        wanted = read_job_file(files)
        request = hashlib.sha256(digest(files).encode()).hexdigest()
        if key and (known := context.store.request(key, request)):
            job = context.store.load(known)
            assert job is not None
            return job, False
    except BundleError as e:
        raise RefusedError(422, str(e)) from e
    except UsedKeyError as e:
        raise RefusedError(409, str(e)) from e
    _check_wanted(context, wanted.parties, wanted.datasets.get(config.party, ()), wanted.max_attempts)
    body = ProposalBody(
        name=wanted.name,
        description=wanted.description,
        program=wanted.program,
        program_digest=keep_bundle(context, files),
        bundle_bytes=len(pack(files)),
        parties=wanted.parties,
        datasets=wanted.datasets,
        parameters=wanted.parameters,
        versions=config.versions,
        consortium_digest=config.consortium_digest,
        max_attempts=wanted.max_attempts,
        priority=wanted.priority,
        created_at=round(now, 3),
        deadline=round(now + min(wanted.start_within_s or config.limits.proposal_s, config.limits.proposal_s), 3),
    )
    job_id = new_job_id(wanted.name, now)
    proposal = context.signer.statement(job_id, Draft(Kind.PROPOSAL, 0, body))
    job = Job(job_id, config.party, Phase.PROPOSED, {proposal.key: proposal})
    context.store.create(Step.SUBMIT, job, now, "submitted", (key, request) if key else None)
    return job, True


def _check_wanted(context: Context, parties: tuple[str, ...], datasets: tuple[str, ...], attempts: int) -> None:
    config = context.config
    strangers = sorted(set(parties) - set(config.members))
    unknown = sorted(set(datasets) - set(config.datasets))
    members = list(config.members)
    problems = [
        (config.party not in parties, f"parties: {list(parties)} must include {config.party}, which submits the job"),
        (strangers, f"parties: {strangers} are not members; members are {members}"),
        (unknown, f"datasets: {config.party} has no {unknown}; it has {sorted(config.datasets)}"),
        (attempts > config.limits.max_attempts, f"max_attempts: {attempts}, at most {config.limits.max_attempts}"),
    ]
    if wrong := [text for bad, text in problems if bad]:
        raise RefusedError(422, "job.yaml: " + "; ".join(wrong))
    if full := no_room(context, config.party):
        raise RefusedError(*full)


def judge(context: Context, job_id: str, verdict: Literal["approve", "deny"], reason: str) -> Job:
    """A person's yes or no. Saying the same twice is harmless; changing it is refused."""
    job = find(context, job_id)
    said = job.approvals().get(job.me)
    if said is not None:
        if said.verdict == verdict:
            return job
        raise RefusedError(409, f"job {job_id}: {job.me} said {said.verdict} already, and signed it")
    if job.phase is not Phase.PROPOSED:
        raise RefusedError(
            409, f"job {job_id} is {job.phase}: {job.reason}; only a proposed job can be approved or denied"
        )
    if verdict == "approve" and not context.bundle_path(job.proposal.program_digest).exists():
        raise RefusedError(
            409, f"job {job_id}: the job folder has not arrived from {job.initiator} yet; try again soon"
        )
    body = ApprovalBody(verdict=verdict, proposal_digest=job.signed_proposal.digest(), by="person", reason=reason[:500])
    return _sign(context, Step.VERDICT, job, Draft(Kind.APPROVAL, 0, body), f"{verdict} by a person")


def cancel(context: Context, job_id: str, reason: str) -> Job:
    """This party's wish to end the job; harmless when it was expressed already."""
    job = find(context, job_id)
    if job.me in job.cancels():
        return job
    if job.phase.terminal:
        raise RefusedError(409, f"job {job_id} has ended already: {job.phase}")
    draft = Draft(Kind.CANCEL, 0, CancelBody(reason=reason[:500]))
    return _sign(context, Step.CANCEL, job, draft, f"cancel wanted: {reason}")


def _sign(context: Context, step: Step, job: Job, draft: Draft, why: str) -> Job:
    new = replace(job.adding(context.signer.statement(job.job_id, draft)), version=job.version + 1)
    try:
        context.store.save(step, job, new, time.time(), why)
    except StaleError as e:  # nothing awaits between load and save, so only a second process could do this
        raise RefusedError(409, f"job {job.job_id} changed meanwhile: {e}") from e
    return new


def find(context: Context, job_id: str) -> Job:
    """The job's record; RefusedError 404 when there is none."""
    job = context.store.load(job_id)
    if job is None:
        raise RefusedError(404, f"no job {job_id!r} here")
    return job
