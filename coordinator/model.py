"""A job as one party sees it: frozen records, phases, and the actions that `decide` may ask for.

proposed ──> approved ──> preparing ──> promised ──> starting ──> running ──> ending ──> succeeded
    │           ↑  │          │            │             │                      │  │
    │           │  │          └────────────┤ (aborted)   └──── (never ran) ────>┘  ├──> failed
    │           └──┼───────────────────────┘                                       ├──> cancelled
    │              └── (next attempt) <────────────────────────────────────────────┤
    └──> failed, cancelled  (from every phase before `starting`)        diverged <──┘  (from every phase)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from typing import Literal

from coordinator.statements import (
    ApprovalBody,
    Body,
    CancelBody,
    DecisionBody,
    GoBody,
    Key,
    Kind,
    OutcomeBody,
    PrepareBody,
    PromiseBody,
    ProposalBody,
    ReadyBody,
    Statement,
)


class Phase(StrEnum):
    """Where a job is at this party."""

    PROPOSED = "proposed"  # waiting for every party's yes
    APPROVED = "approved"  # every party said yes; waiting for the initiator to ask for an attempt
    PREPARING = "preparing"  # this party checks whether it can take part
    PROMISED = "promised"  # this party holds a slot and waits for the decision; it may not abort by itself
    STARTING = "starting"  # start is decided; the driver is being launched
    RUNNING = "running"  # the driver is launched: it loads, waits for every party's `ready` and for `go`, and computes
    SUSPENDED = "suspended"  # some party stopped it for now (Kuscia mode)
    ENDING = "ending"  # this party signed its outcome; waiting for the others' and for the driver to be gone
    SUCCEEDED = "succeeded"  # every party signed success
    FAILED = "failed"  # some party did not succeed
    CANCELLED = "cancelled"  # some party ended it on purpose
    DIVERGED = "diverged"  # some party signed two contradicting statements: both are kept as proof

    @property
    def terminal(self) -> bool:
        """True when the job will not run again. The one predicate for it."""
        return self in _TERMINAL

    @property
    def active(self) -> bool:
        """True while an attempt is under way."""
        return self in _ACTIVE


_TERMINAL = frozenset({Phase.SUCCEEDED, Phase.FAILED, Phase.CANCELLED, Phase.DIVERGED})
_ACTIVE = frozenset({Phase.PREPARING, Phase.PROMISED, Phase.STARTING, Phase.RUNNING, Phase.SUSPENDED, Phase.ENDING})
_CLOSED = frozenset({Phase.FAILED, Phase.CANCELLED})

# phase -> phases it may become. The store puts this table into the WHERE of every update.
TRANSITIONS: Mapping[Phase, frozenset[Phase]] = {
    Phase.PROPOSED: frozenset({Phase.APPROVED, Phase.DIVERGED}) | _CLOSED,
    Phase.APPROVED: frozenset({Phase.PREPARING, Phase.DIVERGED}) | _CLOSED,
    Phase.PREPARING: frozenset({Phase.PROMISED, Phase.APPROVED, Phase.DIVERGED}) | _CLOSED,
    Phase.PROMISED: frozenset({Phase.STARTING, Phase.APPROVED, Phase.DIVERGED}) | _CLOSED,
    Phase.STARTING: frozenset({Phase.RUNNING, Phase.ENDING, Phase.DIVERGED}),
    Phase.RUNNING: frozenset({Phase.ENDING, Phase.DIVERGED}),
    Phase.SUSPENDED: frozenset({Phase.DIVERGED}),  # only in Kuscia mode does a job come here
    Phase.ENDING: frozenset({Phase.APPROVED, Phase.SUCCEEDED, Phase.DIVERGED}) | _CLOSED,
    Phase.SUCCEEDED: frozenset({Phase.DIVERGED}),
    # a label given before every signature was in may change between these two when the last one arrives
    Phase.FAILED: frozenset({Phase.CANCELLED, Phase.DIVERGED}),
    Phase.CANCELLED: frozenset({Phase.FAILED, Phase.DIVERGED}),
    Phase.DIVERGED: frozenset(),
}


@dataclass(frozen=True)
class Job:
    """Everything durable about one job at one party. A change is a new record (`with_`, `adding`)."""

    job_id: str
    me: str
    phase: Phase
    statements: Mapping[Key, Statement]
    attempt: int = 0  # the latest attempt this party has taken part in or refused
    starts: int = 0  # attempts that were started, as far as this party knows
    slot: int | None = None  # reserved slot; freed when no driver can use it
    prepared_at: float = 0.0  # own clock, when the current attempt's phase `preparing` began
    ended_at: float = 0.0  # own clock, when this party signed its outcome
    retry_at: float = 0.0  # own clock, the initiator asks for no attempt before
    settled: bool = False  # the label rests on every party's signature (or on a signed final decision)
    driver_gone: bool = True  # no driver of this job can be alive
    reason: str = ""
    conflicts: tuple[tuple[Statement, Statement], ...] = ()
    version: int = 0  # counts saved changes; the store's optimistic guard

    def get(self, kind: Kind, party: str, attempt: int = 0) -> Body | None:
        """Body of one statement, if known."""
        found = self.statements.get(Key(attempt, kind, party))
        return found.body if found else None

    @cached_property
    def signed_proposal(self) -> Statement:
        """The signed proposal. A job record never exists without it."""
        return next(s for k, s in self.statements.items() if k.kind is Kind.PROPOSAL)

    @property
    def proposal(self) -> ProposalBody:
        """What was proposed."""
        body = self.signed_proposal.body
        assert isinstance(body, ProposalBody)
        return body

    @property
    def initiator(self) -> str:
        """The party that submitted the job."""
        return self.signed_proposal.party

    @property
    def leads(self) -> bool:
        """True when this party is the initiator."""
        return self.initiator == self.me

    @cached_property
    def others(self) -> tuple[str, ...]:
        """All parties of the job but this one."""
        return tuple(p for p in self.proposal.parties if p != self.me)

    def approvals(self) -> dict[str, ApprovalBody]:
        """Approvals and denials known, by party."""
        return {k.party: s.body for k, s in self.statements.items() if isinstance(s.body, ApprovalBody)}

    def promises(self, attempt: int) -> dict[str, PromiseBody]:
        """Promises and refusals of an attempt, by party."""
        return {
            k.party: s.body
            for k, s in self.statements.items()
            if k.attempt == attempt and isinstance(s.body, PromiseBody)
        }

    def outcomes(self, attempt: int) -> dict[str, OutcomeBody]:
        """Signed outcomes of an attempt, by party."""
        return {
            k.party: s.body
            for k, s in self.statements.items()
            if k.attempt == attempt and isinstance(s.body, OutcomeBody)
        }

    def readies(self, attempt: int) -> dict[str, ReadyBody]:
        """Parties whose driver of an attempt waits for `go`."""
        return {
            k.party: s.body
            for k, s in self.statements.items()
            if k.attempt == attempt and isinstance(s.body, ReadyBody)
        }

    def go(self, attempt: int) -> GoBody | None:
        """The agreed moment of an attempt, if known."""
        found = self.get(Kind.GO, self.initiator, attempt)
        return found if isinstance(found, GoBody) else None

    def cancels(self) -> dict[str, CancelBody]:
        """Wishes to cancel, by party."""
        return {k.party: s.body for k, s in self.statements.items() if isinstance(s.body, CancelBody)}

    def decision(self, attempt: int) -> DecisionBody | None:
        """The initiator's decision on an attempt, if known."""
        found = self.get(Kind.DECISION, self.initiator, attempt)
        return found if isinstance(found, DecisionBody) else None

    def final_decision(self) -> DecisionBody | None:
        """The decision that ends the job before a start, if known."""
        for key, s in self.statements.items():
            if key.kind is Kind.DECISION and isinstance(s.body, DecisionBody) and s.body.final:
                return s.body
        return None

    def prepare_round(self) -> int:
        """The newest attempt the initiator asked promises for; 0 if none."""
        return max((k.attempt for k, s in self.statements.items() if isinstance(s.body, PrepareBody)), default=0)

    def adding(self, *new: Statement) -> Job:
        """The record with more statements. One that is known already changes nothing; a contradiction is kept."""
        known = dict(self.statements)
        conflicts = list(self.conflicts)
        for s in new:
            have = known.setdefault(s.key, s)
            if (
                have is not s
                and have.payload() != s.payload()
                and not any(s.payload() == b.payload() for _, b in conflicts)
            ):
                conflicts.append((have, s))
        return replace(self, statements=known, conflicts=tuple(conflicts))


@dataclass(frozen=True)
class Draft:
    """A statement this party is about to sign."""

    kind: Kind
    attempt: int
    body: Body


@dataclass(frozen=True)
class Driver:
    """What is seen of the driver of the current attempt."""

    state: Literal["absent", "launching", "live", "succeeded", "failed", "stopped", "unreachable"]
    error: str = ""
    cause: str = ""
    retryable: bool = False
    result_digest: str | None = None
    ready: bool = False  # it has loaded and waits for `go`
    started_at: float | None = None  # entry of sf.init, own clock

    @property
    def gone(self) -> bool:
        """True when it is certain that no process of it lives."""
        return self.state in ("absent", "succeeded", "failed", "stopped")


@dataclass(frozen=True)
class Checks:
    """Result of this party's checks for an attempt: nothing wrong when `code` is empty."""

    attempt: int
    code: str = ""
    message: str = ""


@dataclass(frozen=True)
class Silence:
    """For how long a peer has not shown an attempt alive, and what was seen of it meanwhile, for people."""

    seconds: float
    seen: str = ""


@dataclass(frozen=True)
class Timing:
    """The timeouts that decisions depend on, in seconds (`coordinator.config.Timeouts` says what each means)."""

    promise_s: float
    start_lead_s: float
    start_window_s: float
    peer_lost_after_s: float
    job_s: float
    retry_s: float  # pause before the initiator asks again
    prepare_rounds: int


@dataclass(frozen=True)
class Observed:
    """What a party sees besides its durable record. Time is a value like any other."""

    now: float
    timing: Timing
    consortium_digest: str  # of the consortium files in force here
    left: frozenset[str] = frozenset()  # parties of the job that have left the consortium
    revoked: frozenset[str] = frozenset()  # parties of the job whom this party trusts no more
    held: str = ""  # until when, and why, this party begins no attempt; empty: it does
    maintenance: bool = False  # the agreed maintenance window is open: who cannot be reached is waited for
    driver: Driver = Driver("absent")
    checks: Checks | None = None
    ways: Checks | None = None  # whether the ways of the attempt's own data were gone, to every peer
    told: bool = False  # the driver has been told the agreed moment
    free_slot: int | None = 0
    silent: Mapping[str, Silence] = field(default_factory=dict)  # since each peer showed this attempt alive
    ray_silent_s: float = 0.0  # seconds since the own Ray answered last
    initiator_offset: float | None = 0.0  # seconds, initiator's clock minus own; None: not measured yet
    slowest_s: float = 0.0  # the longest of the shortest round trips to the peers
    bundle_ready: bool = True
    policy: ApprovalBody | None = None  # what the policy says of the proposal; None leaves it to a person
    receipts: frozenset[tuple[Key, str]] = frozenset()  # (statement, peer): the peer has it
    due: frozenset[str] = frozenset()  # peers worth a try now
    bundle_missing: frozenset[str] = frozenset()  # peers without the job folder

    @property
    def gone(self) -> frozenset[str]:
        """Parties of the job that are asked nothing and told nothing any more."""
        return self.left | self.revoked
