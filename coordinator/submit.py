"""What the operator may do to jobs: submit, approve, deny, cancel. Each becomes a signed statement, durably."""

from __future__ import annotations

import secrets
import time
from dataclasses import replace
from typing import Literal

from coordinator.accept import RefusedError, keep_bundle
from coordinator.bundle import BundleError, digest, pack, read_job_file, unpack
from coordinator.context import Context
from coordinator.failpoints import Step
from coordinator.kuscia.compile import SPU_LINK
from coordinator.model import Draft, Job, Phase
from coordinator.requests import Request, job_of, keyed
from coordinator.room import no_room
from coordinator.statements import ApprovalBody, CancelBody, Kind, ProposalBody
from coordinator.store import StaleError

_LETTERS = "abcdefghijklmnopqrstuvwxyz234567"


def new_job_id(name: str, now: float) -> str:
    """Date, name and 30 random bits: sortable, readable, unique."""
    suffix = "".join(secrets.choice(_LETTERS) for _ in range(6))
    return f"{time.strftime('%Y%m%d', time.gmtime(now))}-{name}-{suffix}"


def submit(context: Context, tar: bytes, key: str | None = None) -> tuple[Job, bool]:
    """Propose the job that a folder describes; (job, True if it is new). `key` makes a repeated request harmless.

    Raises RefusedError naming what is wrong with the folder.
    """
    config, now = context.config, time.time()
    try:
        files = unpack(tar, config.limits.bundle_bytes)
        wanted = read_job_file(files)
    except BundleError as e:
        raise RefusedError(422, str(e)) from e
    if wanted.pipeline is not None and not config.kuscia:
        raise RefusedError(422, "job.yaml: pipeline: this consortium is in Ray mode, where a job is a program")
    if wanted.pipeline is None and config.kuscia:
        raise RefusedError(422, "job.yaml: pipeline: is missing; in Kuscia mode a job is a pipeline, not a program")
    request = keyed(key, "submit", files=digest(files))
    if known := job_of(context, request):
        return find(context, known), False
    _check_wanted(context, wanted.parties, wanted.datasets.get(config.party, ()), wanted.max_attempts)
    body = ProposalBody(
        name=wanted.name,
        description=wanted.description,
        program=wanted.program,
        program_digest=keep_bundle(context, files),
        bundle_bytes=len(pack(files)),
        parties=wanted.parties,
        datasets=wanted.datasets,
        parameters={SPU_LINK: config.timeouts.spu_link_desc} if config.kuscia else wanted.parameters,
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
    context.store.create(Step.SUBMIT, job, now, "submitted", request)
    return job, True


def _check_wanted(context: Context, parties: tuple[str, ...], datasets: tuple[str, ...], attempts: int) -> None:
    config = context.config
    strangers = sorted(set(parties) - set(config.members))
    unknown = sorted(set(datasets) - set(config.datasets))
    members = list(config.members)
    problems = [
        (config.party not in parties, f"parties: {list(parties)} must include {config.party}, which submits the job"),
        (strangers, f"parties: {strangers} are not members; members are {members}"),
        (gone := sorted(config.departed(parties)), f"parties: {gone} have left the consortium"),
        (out := sorted(config.shut_out(parties)), f"parties: {config.party} has revoked {out}"),
        (unknown, f"datasets: {config.party} has no {unknown}; it has {sorted(config.datasets)}"),
        (attempts > config.limits.max_attempts, f"max_attempts: {attempts}, at most {config.limits.max_attempts}"),
    ]
    if wrong := [text for bad, text in problems if bad]:
        raise RefusedError(422, "job.yaml: " + "; ".join(wrong))
    if full := no_room(context, config.party):
        raise RefusedError(*full)


def judge(
    context: Context,
    job_id: str,
    verdict: Literal["approve", "deny"],
    reason: str,
    *,
    proposal_digest: str | None = None,
    key: str | None = None,
) -> Job:
    """A person's yes or no. Saying the same twice is harmless; changing it is refused.

    `proposal_digest` is that of the proposal the person was shown: no other one gets the signature.
    """
    job = find(context, job_id)
    request = keyed(key, verdict, job_id=job_id, reason=reason, proposal_digest=proposal_digest)
    if job_of(context, request):
        return job
    if proposal_digest not in (None, own := job.signed_proposal.digest()):
        raise RefusedError(
            409, f"job {job_id}: the proposal shown was {proposal_digest}, this one is {own}: look again"
        )
    said = job.approvals().get(job.me)
    if said is not None:
        if said.verdict == verdict:
            context.store.remember(request, job_id, time.time())
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
    body = ApprovalBody(verdict=verdict, proposal_digest=own, by="person", reason=reason[:500])
    return _sign(context, Step.VERDICT, job, Draft(Kind.APPROVAL, 0, body), f"{verdict} by a person", request)


def cancel(context: Context, job_id: str, reason: str, *, key: str | None = None) -> Job:
    """This party's wish to end the job; harmless when it was expressed already."""
    job = find(context, job_id)
    request = keyed(key, "cancel", job_id=job_id, reason=reason)
    if job_of(context, request):
        return job
    if job.me in job.cancels():
        context.store.remember(request, job_id, time.time())
        return job
    if job.phase.terminal:
        raise RefusedError(409, f"job {job_id} has ended already: {job.phase}")
    draft = Draft(Kind.CANCEL, 0, CancelBody(reason=reason[:500]))
    return _sign(context, Step.CANCEL, job, draft, f"cancel wanted: {reason}", request)


def _sign(context: Context, step: Step, job: Job, draft: Draft, why: str, request: Request | None) -> Job:
    new = replace(job.adding(context.signer.statement(job.job_id, draft)), version=job.version + 1)
    try:
        context.store.save(step, job, new, time.time(), why, request)
    except StaleError as e:  # nothing awaits between load and save, so only a second process could do this
        raise RefusedError(409, f"job {job.job_id} changed meanwhile: {e}") from e
    return new


def find(context: Context, job_id: str) -> Job:
    """The job's record; RefusedError 404 when there is none."""
    job = context.store.load(job_id)
    if job is None:
        raise RefusedError(404, f"no job {job_id!r} here")
    return job
