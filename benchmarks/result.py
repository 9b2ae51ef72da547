"""One measured figure and its goal."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from time import monotonic
from typing import Any


@dataclass(frozen=True)
class Result:
    """`value` in `unit`; `samples` are all single measurements, in `unit`.

    The goal is an upper bound, or a lower one if `at_least`.
    """

    name: str
    value: float
    unit: str
    goal: float | None
    how: str
    samples: list[float] = field(default_factory=list)
    at_least: bool = False

    @property
    def met(self) -> bool | None:
        """None without a goal."""
        if self.goal is None:
            return None
        return self.value >= self.goal if self.at_least else self.value <= self.goal

    @property
    def goal_text(self) -> str:
        return "none" if self.goal is None else f"{'≥' if self.at_least else '≤'} {self.goal:g} {self.unit}"

    @property
    def verdict(self) -> str:
        return {None: "", True: "yes", False: "NO"}[self.met]

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "met": self.met}


def median_s(samples: list[float]) -> float:
    """The middle one: a single slow run says more about the machine than about us."""
    return statistics.median(samples)


def timed(work: Callable[[], object]) -> float:
    """Wall time of `work` in seconds."""
    started = monotonic()
    work()
    return monotonic() - started
