"""Taking in what a peer sends. Everything is refused that an honest peer would not send; nothing is decided here."""

from __future__ import annotations

import time
from dataclasses import replace

from coordinator.bundle import BundleError, digest, pack, unpack
from coordinator.context import Context
from coordinator.failpoints import Effect, Step, failpoint
from coordinator.model import Draft, Job, Phase
from coordinator.room import no_room
from coordinator.signing import SigningError
from coordinator.statements import (
    FORWARDED,
    INITIATOR_ONLY,
    ApprovalBody,
    Kind,
    PromiseBody,
    ProposalBody,
    Statement,
)
from coordinator.store import StaleError
from coordinator.whole import whole_file

_ANSWERS = frozenset({Kind.DECISION, Kind.PROMISE, Kind.OUTCOME})


class RefusedError(Exception):
    """A peer's message is refused: HTTP status and a message that names what is wrong."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def accept(context: Context, sender: str, kind: Kind, statements: tuple[Statement, ...]) -> str:
    """Store a peer's statements; returns the job id. Those known already change nothing. Raises RefusedError."""
    job_id = statements[0].job_id
    if any(s.kind is not kind or s.job_id != job_id for s in statements):
        raise RefusedError(422, f"one request holds statements of one kind ({kind}) and one job ({job_id})")
    for s in statements:
        try:
            context.verifier.check(s)
        except SigningError as e:
            raise RefusedError(403, str(e)) from e
        if s.party != sender and kind not in FORWARDED:
            raise RefusedError(403, f"a {kind} comes from its author {s.party} only, not from {sender}")
    job = context.store.load(job_id)
    if job is None:
        if kind is not Kind.PROPOSAL:
            raise RefusedError(404, f"job {job_id} is unknown here")
        return _accept_new(context, statements[0])
    for s in statements:
        _check_author(job, sender, s)
    _save(context, Step(f"receive-{kind}"), job, job.adding(*statements), f"{kind} received from {sender}")
    return job_id


def _accept_new(context: Context, statement: Statement) -> str:
    body, limits, me = statement.body, context.config.limits, context.config.party
    assert isinstance(body, ProposalBody)
    now = time.time()
    problems = [
        (statement.party not in body.parties, f"the initiator {statement.party} is not among {list(body.parties)}"),
        (me not in body.parties, f"{me} is not among {list(body.parties)}"),
        (unknown := sorted(set(body.parties) - set(context.config.members)), f"not members: {unknown}"),
        (gone := sorted(context.config.departed(body.parties)), f"have left the consortium: {gone}"),
        (out := sorted(context.config.shut_out(body.parties)), f"{me} has revoked {out}"),
        (
            body.bundle_bytes > limits.bundle_bytes,
            f"job folder of {body.bundle_bytes} bytes, limit {limits.bundle_bytes}",
        ),
        (body.max_attempts > limits.max_attempts, f"max_attempts {body.max_attempts}, limit {limits.max_attempts}"),
        (
            body.deadline > now + 2 * limits.proposal_s,
            f"deadline in {body.deadline - now:.0f} s, limit {limits.proposal_s:g}",
        ),
        (body.deadline < now, f"the deadline passed {now - body.deadline:.0f} s ago"),
    ]
    if wrong := [text for bad, text in problems if bad]:
        raise RefusedError(409, f"proposal {statement.job_id} refused by {me}: {'; '.join(wrong)}")
    if full := no_room(context, statement.party):
        raise RefusedError(*full)
    job = Job(statement.job_id, me, Phase.PROPOSED, {statement.key: statement})
    context.store.create(Step.RECEIVE_PROPOSAL, job, now, f"proposed by {statement.party}")
    return statement.job_id


def _check_author(job: Job, sender: str, s: Statement) -> None:
    if s.party not in job.proposal.parties or sender not in job.proposal.parties:
        raise RefusedError(403, f"{s.party} (sent by {sender}) has no part in job {job.job_id}")
    if s.kind in INITIATOR_ONLY and s.party != job.initiator:
        raise RefusedError(409, f"a {s.kind} of job {job.job_id} comes from {job.initiator}, this one is {s.party}'s")
    if s.party == job.me and s.key not in job.statements:
        # our key, but nothing we know of: our state is older than what we said (restored?), or the key is lost
        raise RefusedError(409, f"a {s.kind} of {s.party} came back that {s.party} has no record of")
    if isinstance(s.body, ApprovalBody) and s.body.proposal_digest != (own := job.signed_proposal.digest()):
        raise RefusedError(409, f"{s.party} was asked to approve {s.body.proposal_digest}, {job.me} was asked {own}")


def _save(context: Context, step: Step, job: Job, new: Job, why: str) -> None:
    if new.statements == job.statements and new.conflicts == job.conflicts:
        return
    try:
        context.store.save(step, job, replace(new, version=job.version + 1), time.time(), why)
    except StaleError as e:
        raise RefusedError(503, f"job {job.job_id} changed meanwhile; send again") from e


def accept_bundle(context: Context, sender: str, job_id: str, data: bytes) -> None:
    """Store the job folder of a proposal. Raises RefusedError when it is not exactly what was proposed."""
    job = context.store.load(job_id)
    if job is None or job.initiator != sender:
        raise RefusedError(404, f"no job {job_id} was proposed by {sender}")
    try:
        files = unpack(data, context.config.limits.bundle_bytes)
    except BundleError as e:
        raise RefusedError(422, str(e)) from e
    if (found := digest(files)) != job.proposal.program_digest:
        raise RefusedError(409, f"the job folder's digest is {found}, proposed was {job.proposal.program_digest}")
    if not context.bundle_path(found).exists():
        context.store.note(time.time(), "bundle", f"job folder of {job_id} received from {sender}", digest=found)
    keep_bundle(context, files)


def keep_bundle(context: Context, files: dict[str, bytes]) -> str:
    """Write a checked job folder to its place; returns its digest."""
    found = digest(files)
    path = context.bundle_path(found)
    failpoint(f"before-{Effect.KEEP_BUNDLE}")
    try:
        with whole_file(path) as file:  # the sender is told that we have it: it must be on disk by then
            file.write(pack(files))
    except OSError as e:
        raise RefusedError(507, f"{context.config.party} cannot keep the job folder: {e.strerror}") from e
    failpoint(f"after-{Effect.KEEP_BUNDLE}")
    return found


def refuse_unpromised(context: Context, asker: str, job_id: str, attempt: int) -> tuple[Statement, ...]:
    """Answer «what became of this attempt?»: the decision, refusals and outcomes known.

    A party that has not promised the attempt refuses it now, durably: then the asker knows that it cannot start.
    To a member that has no part in the job there is no such job: it may neither learn of it nor end it.
    """
    job = context.store.load(job_id)
    if job is None or asker not in job.proposal.parties:
        raise RefusedError(404, f"job {job_id} is unknown here")
    waiting = job.phase in (Phase.PROPOSED, Phase.APPROVED) and job.attempt < attempt
    if waiting and not job.leads and job.decision(attempt) is None:
        message = f"{job.me} had not promised attempt {attempt} when asked about it"
        body = PromiseBody(verdict="refuse", code="absent", message=message)
        refusal = context.signer.statement(job_id, Draft(Kind.PROMISE, attempt, body))
        _save(context, Step.ABSENT, job, replace(job.adding(refusal), attempt=attempt), message)
        job = context.store.load(job_id) or job
    asked_for = (Kind.DECISION, Kind.OUTCOME)
    found = [s for key, s in job.statements.items() if key.attempt == attempt and key.kind in asked_for]
    refused = [s for s in job.statements.values() if isinstance(s.body, PromiseBody) and s.attempt == attempt]
    return (*found, *(s for s in refused if s.body.verdict == "refuse"))  # type: ignore[union-attr]


def accept_answer(context: Context, sender: str, job_id: str, attempt: int, s: Statement) -> None:
    """Take in one statement that a peer answered when asked what became of an attempt."""
    job = context.store.load(job_id)
    if job is None or (s.job_id, s.attempt) != (job_id, attempt) or s.kind not in _ANSWERS:
        raise RefusedError(422, f"{sender} answered about something else: {s.kind} of {s.job_id}/{s.attempt}")
    try:
        context.verifier.check(s)
    except SigningError as e:
        raise RefusedError(403, str(e)) from e
    _check_author(job, sender, s)
    _save(context, Step(f"receive-{s.kind}"), job, job.adding(s), f"{s.kind} of {s.party} learnt from {sender}")
