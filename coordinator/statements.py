"""What parties tell one another: signed statements, one body model per kind.

A statement is identified by (job, attempt, kind, party); an honest party signs at most one body under one identity,
so receiving it twice changes nothing, and two different bodies are the proof that a party lied.
Peers are strangers: every length, character set and size is bounded, and an unknown field is refused.
"""

from __future__ import annotations

import hashlib
import json
from enum import StrEnum
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, JsonValue, field_validator, model_validator

from coordinator.config import DatasetName, Digest, Model, Party

JobId = Annotated[str, Field(pattern=r"^\d{8}-[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?-[a-z2-7]{6}$")]
Line = Annotated[str, Field(max_length=500)]
Text = Annotated[str, Field(max_length=2000)]
Time = Annotated[float, Field(ge=0, le=1e11, allow_inf_nan=False)]  # seconds since 1970, of the clock of the author
ProgramPath = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_./-]{0,199}$")]
PARAMETER_BYTES = 64_000
Priority = Annotated[int, Field(ge=-10, le=10)]  # among the jobs one initiator has waiting: higher first
JobName = Annotated[str, Field(pattern=r"^[a-z0-9-]{1,80}$")]


def job_name(job_id: str, attempt: int) -> str:
    """SecretFlow's name of an attempt: equal at every party, never used twice (rayfed answers 417 to any other)."""
    return f"{job_id}-{attempt}"


class Kind(StrEnum):
    """Kinds of statement, in the order in which a job sees them."""

    PROPOSAL = "proposal"  # the initiator asks for a job (attempt 0)
    APPROVAL = "approval"  # a party says yes or no to the job (attempt 0)
    PREPARE = "prepare"  # the initiator asks everyone to check and promise attempt n
    PROMISE = "promise"  # a party promises attempt n, or refuses it
    DECISION = "decision"  # the initiator starts or aborts attempt n
    READY = "ready"  # a party's driver of attempt n has loaded and waits, and its ways to all peers are proved
    GO = "go"  # the initiator names the moment at which all drivers of attempt n enter SecretFlow
    OUTCOME = "outcome"  # a party says how attempt n ended for it
    CANCEL = "cancel"  # a party wants the job to end (attempt 0)


class ProposalBody(Model):
    """The whole of what parties agree to run."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?$")]
    description: Text = ""
    program: ProgramPath
    program_digest: Digest
    bundle_bytes: int = Field(ge=1, le=100_000_000)
    parties: tuple[Party, ...] = Field(min_length=2, max_length=64)
    datasets: dict[Party, tuple[DatasetName, ...]]
    parameters: dict[str, JsonValue]
    versions: dict[Annotated[str, Field(max_length=50)], Annotated[str, Field(max_length=100)]] = Field(max_length=50)
    consortium_digest: str = Field(min_length=1, max_length=128)
    max_attempts: int = Field(ge=1, le=20)
    priority: Priority = 0
    created_at: Time
    deadline: Time

    @model_validator(mode="after")
    def _consistent(self) -> ProposalBody:
        if len(set(self.parties)) != len(self.parties):
            raise ValueError(f"parties {list(self.parties)}: each may be named once")
        if set(self.datasets) - set(self.parties):
            raise ValueError(f"datasets name {sorted(set(self.datasets) - set(self.parties))}, not in parties")
        if ".." in self.program.split("/"):
            raise ValueError(f"program {self.program!r}: may not leave the job folder")
        if self.deadline <= self.created_at:
            raise ValueError("deadline: must be after created_at")
        return self

    @field_validator("parameters")
    @classmethod
    def _small(cls, value: dict[str, JsonValue]) -> dict[str, JsonValue]:
        size = len(canonical(value))
        if size > PARAMETER_BYTES:
            raise ValueError(f"parameters take {size} bytes, at most {PARAMETER_BYTES} are allowed")
        return value


class ApprovalBody(Model):
    """A party's yes or no, bound to the exact proposal by its digest."""

    verdict: Literal["approve", "deny"]
    proposal_digest: Digest
    by: Literal["policy", "person", "initiator"]
    reason: Line = ""


class PrepareBody(Model):
    """The initiator's request for promises."""

    promise_s: float = Field(gt=0, le=86400)
    job_name: JobName  # what the drivers will call themselves; every party compares it with its own
    consortium_digest: str = Field(min_length=1, max_length=128)  # of the initiator's files when it asked


class PromiseBody(Model):
    """A promise (with the slot the party reserved) or a refusal (with a code and a message that names both values)."""

    verdict: Literal["promise", "refuse"]
    slot: int = Field(0, ge=0, le=99)
    expires_at: Time = 0
    code: Annotated[str, Field(pattern=r"^[a-z-]{0,40}$")] = ""
    message: Text = ""


class DecisionBody(Model):
    """The only statement that may start an attempt. `final` ends the job too; without it another attempt may follow."""

    verdict: Literal["start", "abort"]
    decided_at: Time = 0  # initiator's clock; a start must reach `go` within the start window from here
    slots: dict[Party, Annotated[int, Field(ge=0, le=99)]] = Field(default_factory=dict)
    promises: dict[Party, Digest] = Field(default_factory=dict)  # digests of the promises it rests on
    starts: int = Field(0, ge=0, le=100)  # attempts started so far, this one included
    final: Literal["failed", "cancelled"] | None = None
    code: Annotated[str, Field(pattern=r"^[a-z-]{0,40}$")] = ""  # why aborted, one word
    reason: Text = ""

    @model_validator(mode="after")
    def _consistent(self) -> DecisionBody:
        if self.verdict == "start" and (self.final or not self.decided_at or self.starts < 1):
            raise ValueError("a start needs decided_at and starts, and cannot be final")
        return self


class ReadyBody(Model):
    """The driver is loaded and waits, and every way of the attempt's data from here to the peers was gone."""

    at: Time  # author's clock


class GoBody(Model):
    """The moment of the start. It rests on every party's `ready`."""

    start_at: Time  # initiator's clock


class OutcomeBody(Model):
    """How an attempt ended for one party. Results stay at home: only their digest is told."""

    status: Literal["succeeded", "failed", "cancelled"]
    result_digest: Digest | None = None
    cause: Annotated[str, Field(pattern=r"^[a-z-]{0,40}$")] = ""
    error: Text = ""
    retryable: bool = False
    started_at: Time | None = None  # entry of sf.init, own clock
    ended_at: Time


class CancelBody(Model):
    """A party's wish to end the job."""

    reason: Line = ""


Body = (
    ProposalBody
    | ApprovalBody
    | PrepareBody
    | PromiseBody
    | DecisionBody
    | ReadyBody
    | GoBody
    | OutcomeBody
    | CancelBody
)
BODIES: dict[Kind, type[Body]] = {
    Kind.PROPOSAL: ProposalBody,
    Kind.APPROVAL: ApprovalBody,
    Kind.PREPARE: PrepareBody,
    Kind.PROMISE: PromiseBody,
    Kind.DECISION: DecisionBody,
    Kind.READY: ReadyBody,
    Kind.GO: GoBody,
    Kind.OUTCOME: OutcomeBody,
    Kind.CANCEL: CancelBody,
}
PER_ATTEMPT = frozenset({Kind.PREPARE, Kind.PROMISE, Kind.DECISION, Kind.READY, Kind.GO, Kind.OUTCOME})
FORWARDED = frozenset({Kind.APPROVAL, Kind.DECISION, Kind.GO, Kind.OUTCOME})
"""Taken from whoever has them: the initiator brings everyone's approvals, and the author of the others may be dead when
somebody asks for them. Every other kind comes from its author only."""
INITIATOR_ONLY = frozenset({Kind.PROPOSAL, Kind.PREPARE, Kind.DECISION, Kind.GO})


class Key(NamedTuple):
    """Identity of a statement within its job."""

    attempt: int
    kind: Kind
    party: str


class Statement(Model):
    """A body with its identity and its author's signature over the canonical bytes of both."""

    kind: Kind
    job_id: JobId
    attempt: int = Field(ge=0, le=10_000)
    party: Party
    body: Body
    signature: str = Field(max_length=100)

    @model_validator(mode="before")
    @classmethod
    def _body_by_kind(cls, data: Any) -> Any:
        # the kind says which model reads the body; a union tried in turn would accept a body of another kind
        if isinstance(data, dict) and isinstance(data.get("body"), dict):
            kind = data.get("kind")
            if not isinstance(kind, str) or kind not in BODIES:
                raise ValueError(f"kind {str(kind)[:40]!r}: must be one of {[k.value for k in Kind]}")
            return data | {"body": BODIES[Kind(kind)].model_validate(data["body"])}
        return data

    @model_validator(mode="after")
    def _body_fits(self) -> Statement:
        if not isinstance(self.body, BODIES[self.kind]):
            raise ValueError(f"body: not that of a {self.kind}")  # noqa: TRY004 (pydantic reports no other)
        if (self.attempt > 0) != (self.kind in PER_ATTEMPT):
            raise ValueError(f"attempt {self.attempt}: wrong for a {self.kind}")
        return self

    @property
    def key(self) -> Key:
        """Identity within the job."""
        return Key(self.attempt, self.kind, self.party)

    def payload(self) -> dict[str, Any]:
        """The signed content, as plain JSON values."""
        return self.model_dump(mode="json", exclude={"signature"})

    def digest(self) -> str:
        """SHA-256 of the signed content."""
        return hashlib.sha256(canonical(self.payload())).hexdigest()


def canonical(value: Any) -> bytes:
    """One byte string per JSON value: sorted keys, no spaces, UTF-8, no NaN (ValueError)."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
