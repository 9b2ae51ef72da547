"""The jobs of a soak: what each is asked to do, and how it must end when nothing interferes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal

Does = Literal["cancel", "approve", "deny"]
START_WITHIN_S = 60


@dataclass(frozen=True)
class Kind:
    """`fields` of job.yaml; `does`: what people do about it; `ends`: its label when nothing interferes."""

    name: str
    weight: int
    ends: str | None
    fields: Callable[[list[str], Random], dict[str, Any]]
    does: Does | None = None


def _plain(_parties: list[str], chance: Random) -> dict[str, Any]:
    return {"parameters": {"seconds": round(chance.uniform(0, 2), 2)}}


def _fails(how: str) -> Callable[[list[str], Random], dict[str, Any]]:
    return lambda parties, chance: {"parameters": {"fails": {chance.choice(parties): how}}, "max_attempts": 2}


def _asked(parties: list[str], _chance: Random) -> dict[str, Any]:
    return {"datasets": {party: ["table"] for party in parties}}


PLAIN = Kind("plain", 8, "succeeded", _plain)
FLOOD = Kind("flood", 0, None, _plain)
KINDS = (
    PLAIN,
    Kind("program fails", 2, "failed", _fails("error")),
    Kind("no result", 1, "failed", _fails("no-result")),
    Kind("crashes once", 2, "succeeded", _fails("crash-once")),
    Kind("cancelled", 2, "cancelled", lambda *_: {"parameters": {"seconds": 30}}, "cancel"),
    Kind("approved by people", 1, "succeeded", _asked, "approve"),
    Kind("denied by a person", 1, "cancelled", _asked, "deny"),
)
POLICY = {
    "default": "approve",
    "rules": [{"name": "tables are for a person", "verdict": "person", "datasets": ["table"]}],
}


@dataclass
class Known:
    """A job whose submission was acknowledged. Times are monotonic seconds; `label` once it has ended everywhere."""

    job_id: str
    kind: Kind
    initiator: str
    submitted: float
    ended: float | None = None
    label: str = ""
    views: dict[str, dict[str, Any]] = field(default_factory=dict)
