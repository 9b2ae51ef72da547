"""What `decide` may ask the worker to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from coordinator.failpoints import AnyStep
from coordinator.model import Draft, Phase
from coordinator.statements import Key


@dataclass(frozen=True)
class Commit:
    """One durable step: sign these, become that phase, change these fields; all or nothing.

    `step` is its name among the failpoints (coordinator/failpoints.py); `reason` is for people.
    """

    step: AnyStep
    reason: str
    drafts: tuple[Draft, ...] = ()
    phase: Phase | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RunChecks:
    """Check whether this party can take part in the attempt."""

    attempt: int


@dataclass(frozen=True)
class Launch:
    """Start the driver of the attempt; a no-op when its submission exists. It loads and waits."""

    attempt: int
    slot: int


@dataclass(frozen=True)
class ProveWays:
    """Answer on the ports of the slot until `go`, and go the ways of the job's data to every peer."""

    attempt: int
    slot: int


@dataclass(frozen=True)
class AwaitReady:
    """Look again as soon as the driver says that it has loaded."""

    attempt: int


@dataclass(frozen=True)
class TellGo:
    """Leave the ports to the driver and tell it the agreed moment."""

    attempt: int
    start_at: float  # own clock


@dataclass(frozen=True)
class StopDriver:
    """End the driver of the attempt."""

    attempt: int


@dataclass(frozen=True)
class Deliver:
    """Bring statements to a peer that has not confirmed them."""

    peer: str
    keys: tuple[Key, ...]


@dataclass(frozen=True)
class SendBundle:
    """Bring the job folder to a peer."""

    peer: str


@dataclass(frozen=True)
class Ask:
    """Ask every other party what became of an attempt: decision, refusals, outcomes (cooperative termination)."""

    attempt: int


@dataclass(frozen=True)
class Wake:
    """Look again at this time (own clock) even if nothing happens."""

    at: float


@dataclass(frozen=True)
class CreateKusciaJob:
    """Make the KusciaJob of an attempt; harmless when it is there."""

    attempt: int


@dataclass(frozen=True)
class AnswerKusciaJob:
    """Tell the own node whether this party agrees to the KusciaJob of an attempt."""

    attempt: int
    accept: bool


@dataclass(frozen=True)
class CancelKusciaJob:
    """End the KusciaJob of an attempt at every party."""

    attempt: int


Action = (
    Commit
    | RunChecks
    | Launch
    | ProveWays
    | AwaitReady
    | TellGo
    | StopDriver
    | Deliver
    | SendBundle
    | Ask
    | Wake
    | CreateKusciaJob
    | AnswerKusciaJob
    | CancelKusciaJob
)
