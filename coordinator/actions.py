"""What `decide` may ask the worker to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from coordinator.model import Draft, Phase
from coordinator.statements import Key


@dataclass(frozen=True)
class Commit:
    """One durable step: sign these, become that phase, change these fields; all or nothing."""

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
    """Start the driver of the attempt; a no-op when its submission exists."""

    attempt: int
    slot: int
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
class AskDecision:
    """Ask every other party for the decision on an attempt (cooperative termination)."""

    attempt: int


@dataclass(frozen=True)
class Wake:
    """Look again at this time (own clock) even if nothing happens."""

    at: float


Action = Commit | RunChecks | Launch | StopDriver | Deliver | SendBundle | AskDecision | Wake
