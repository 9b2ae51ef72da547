"""One measured figure and its goal."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from time import monotonic
from typing import Any


@dataclass(frozen=True)
class Result:
    """`value` in `unit`; the goal is an upper bound; `samples` are all single measurements, in `unit`."""

    name: str
    value: float
    unit: str
    goal: float | None
    how: str
    samples: list[float] = field(default_factory=list)

    @property
    def goal_text(self) -> str:
        return "none" if self.goal is None else f"≤ {self.goal:g} {self.unit}"

    @property
    def verdict(self) -> str:
        return "" if self.goal is None else "yes" if self.value <= self.goal else "NO"

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "met": None if self.goal is None else self.value <= self.goal}


def median_s(samples: list[float]) -> float:
    """The middle one: a single slow run says more about the machine than about us."""
    return statistics.median(samples)


def timed(work: Callable[[], object]) -> float:
    """Wall time of `work` in seconds."""
    started = monotonic()
    work()
    return monotonic() - started
