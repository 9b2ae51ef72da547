"""What the two HTTP interfaces answer. The OpenAPI documents are made from these models."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, JsonValue

from coordinator.config import Digest, Maintenance, Model, Party, Policy, Timeouts
from coordinator.messages import Presented
from coordinator.model import Phase
from coordinator.statements import (
    ApprovalBody,
    DecisionBody,
    JobId,
    OutcomeBody,
    PromiseBody,
    ProposalBody,
    Statement,
)

Seconds = float


class Problem(Model):
    """Why a request was not done."""

    detail: str = Field(description="what is wrong, where, and what would be allowed")


class Taken(Model):
    """A peer's message was stored, now or at an earlier try."""

    job_id: JobId


class Settings(Model):
    """Which settings are in force after a reload."""

    before: Digest = Field(description="SHA-256 of all settings in force before")
    after: Digest = Field(description="of those in force now; the same when nothing differs")
    changed: list[str] = Field(description="fields at the top of the file that differ")


class Held(Model):
    """Whether attempts begin here."""

    held: str = Field(description="until when, and why, none begins; empty: attempts begin")


class FindingView(Model):
    """What one check found."""

    check: str = Field(description="peer, slots, folder, ray, dataset, secretflow or kuscia")
    subject: str = Field(description="the peer or dataset looked at, else this party")
    code: str = Field(description="what kind of fault; empty: all is well")
    what: str
    fix: str


class Findings(Model):
    """Every check that needs no job."""

    findings: list[FindingView]


class PresentedBy(Model):
    """What one party has in force."""

    presented: Presented | None = Field(description="null: it did not say")
    error: str


class PresentedByAll(Model):
    """What every party has in force."""

    parties: dict[Party, PresentedBy]


class JobSummary(Model):
    """One line of the list of jobs."""

    job_id: JobId
    name: str
    initiator: Party
    phase: Phase
    attempt: int = Field(description="the newest attempt here; 0 before the first")
    terminal: bool = Field(description="the job will not run again")
    settled: bool = Field(description="every party's signature is here: the label is final")
    reason: str
    created_at: Seconds = Field(description="seconds since 1970, clock of the initiator")
    parties: dict[Party, str] = Field(description="phase of each party, as far as its statements show it here")
    approval_wanted: bool = Field(description="a person of this party is to approve or deny")
    bundle_ready: bool = Field(description="the job folder is here")


class AttemptView(Model):
    """One attempt, as far as it is known here."""

    attempt: int
    decision: DecisionBody | None
    promises: dict[Party, PromiseBody]
    ready: list[Party] = Field(description="parties whose driver waits for the start")
    outcomes: dict[Party, OutcomeBody]
    skew_ms: float | None = Field(description="between the first and the last entry of sf.init")


class JobDetail(JobSummary):
    """Everything about one job but the program's text and the result."""

    proposal: ProposalBody
    proposal_digest: Digest = Field(description="SHA-256 of the signed proposal: what an approval is bound to")
    slot: int | None
    approvals: dict[Party, ApprovalBody]
    attempts: list[AttemptView]
    outcomes: dict[Party, OutcomeBody]
    skew_ms: float | None
    statements: list[Statement] = Field(description="every signed statement known here")
    conflicts: list[list[Statement]] = Field(description="pairs of contradicting statements of one party")
    undelivered: dict[Party, str] = Field(description="peer: why the last try to bring it something failed")
    events: list[dict[str, JsonValue]] = Field(description="the job's audit records, oldest first")


class JobList(Model):
    """Jobs, newest first."""

    jobs: list[JobSummary]


class PreviousProgram(Model):
    """The last approved program of this name, and what is different now."""

    job_id: JobId
    initiator: Party
    program_digest: Digest
    approved_at: Seconds = Field(description="seconds since 1970, clock of this party")
    by: Literal["policy", "person", "initiator"]
    diff: dict[str, str] = Field(description="path -> unified diff, of each file that is not the same")
    proposal_diff: str = Field(description="unified diff of parameters, datasets, parties, versions; empty if equal")


class ProgramText(Model):
    """A job folder, to read before approving."""

    program_digest: Digest
    proposal_digest: Digest
    files: dict[str, str] = Field(description="path -> text; bytes that are no UTF-8 are shown as U+FFFD")
    previous: PreviousProgram | None = Field(description="null for the first of this name")


class OutputFile(Model):
    """One output file of this party."""

    name: str
    bytes: int = Field(ge=0)


class OutputFiles(Model):
    """Output files of the newest attempt."""

    files: list[OutputFile]


class AuditHead(Model):
    """How far an audit log is."""

    seq: int
    hash: str


class PeerAudit(AuditHead):
    """What a peer showed of its audit log, and confirmed of ours."""

    confirmed: int = Field(description="our records that the peer has counter-signed")
    confirmed_at: float | None = Field(description="when it did, by its clock; null: never")
    fault: str = Field(description="how the peer's log contradicts what it showed before; empty: it does not")


class PeerView(Model):
    """What is known of one peer."""

    url: str
    up: bool
    heard_s: Seconds | None = Field(description="since its last message; null: never")
    reached_s: Seconds | None = Field(description="since it answered last; null: never")
    offset_ms: float | None = Field(description="its clock minus ours")
    round_trip_ms: float | None
    error: str | None
    audit: PeerAudit


class Slots(Model):
    """Sets of ports for jobs."""

    all: int
    used: dict[str, JobId] = Field(description="slot -> job that holds it")


class KusciaView(Model):
    """The own Kuscia node."""

    url: str
    error: str = Field(description="why it does not answer as it should; empty: it does")


class Status(Model):
    """The institution at a glance."""

    consortium: Party
    party: Party
    kuscia: KusciaView | None = Field(description="null: Ray mode")
    members: list[Party]
    left: list[Party] = Field(description="members that have left")
    revoked: list[Party] = Field(description="members whom this party trusts no more")
    consortium_digest: str
    versions: dict[str, str]
    release: Digest = Field(description="of the coordinator's own source")
    maintenance: Maintenance | None = Field(description="the agreed window for other versions, if one is ahead or open")
    held: str = Field(description="until when, and why, no attempt begins here; empty: attempts begin")
    peers: dict[Party, PeerView]
    slots: Slots
    jobs: dict[Phase, int] = Field(description="how many jobs are in each phase")
    audit: AuditHead
    certificate_days: float | None = Field(description="until the gateway's certificate ends; null: not readable here")
    certificate: str | None = Field(description="SHA-256 of the gateway's certificate; null: not readable here")
    policy: Policy
    timeouts: Timeouts
    uptime_s: Seconds


Responses = dict[int | str, dict[str, Any]]


def refusals(*statuses: int) -> Responses:
    """The `responses` of a route: what each refusal means. Needs PROBLEM somewhere in the same document.

    By reference: a model given once more for each status of each route takes most of the time of a start.
    """
    return {status: {"content": _A_PROBLEM, "description": MEANINGS[status]} for status in statuses}


MEANINGS: dict[int, str] = {
    400: "the body cannot be read",
    401: "the token is missing or wrong",
    403: "a signature or an author that does not fit",
    404: "not known here, or not here yet",
    409: "it contradicts what is known or was asked before",
    413: "the body is longer than allowed",
    422: "not of the form described here",
    429: "too many requests or open jobs; later it may go",
    500: "what a program left cannot be read",
    502: "what stands behind this coordinator does not answer",
    503: "a concurrent change, or the state cannot be written; send it again",
    507: "no room on the disk",
}
PROBLEM: Responses = {422: {"model": Problem, "description": MEANINGS[422]}}
"""The refusal that every route has. It brings the form of all of them into the document."""
_A_PROBLEM = {"application/json": {"schema": {"$ref": f"#/components/schemas/{Problem.__name__}"}}}
