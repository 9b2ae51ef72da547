"""Memory and open descriptors of each process over a run, and whether they grow."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

WARM_UP_S = 90
"""From a process's start: modules, connections, SQLite's page cache (2 MB) and the allocator's arenas fill up."""
LEAST_S = 180
"""A shorter series says nothing: one sample with a backup under way would tilt it."""
MOST_MB_PER_MIN = 1.0
"""Some 60 jobs a minute run. What is meant to stay of a job in memory is nothing; 1,000 jobs cost 9 MB once, mostly the
allocator's (docs/benchmarks.md), which is 0.5 MB a minute at this pace. A job's record kept by mistake (its statements,
two events, session: over 30 kB as Python objects) would be 2 MB a minute and more.
"""
MOST_DESCRIPTORS_PER_MIN = 2.0
"""One descriptor lost with every job would be 60 a minute, one with every fault 3; connections come and go."""


@dataclass
class Series:
    """One process from its start to its end; a restarted one begins a new series."""

    name: str
    pid: int
    at: list[float] = field(default_factory=list)
    mb: list[float] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)

    def add(self, at: float, mb: float, descriptors: int) -> None:
        """A sample; `at` in seconds."""
        self.at.append(at)
        self.mb.append(mb)
        self.descriptors.append(descriptors)

    def summary(self) -> dict[str, object]:
        """Length in s, first and last values, slopes per minute after the warm-up (None: too short to tell)."""
        mb, descriptors = self.slopes() or (None, None)
        return {
            "process": self.name,
            "seconds": round(self.at[-1] - self.at[0], 1),
            "mb": [round(self.mb[0], 1), round(max(self.mb), 1), round(self.mb[-1], 1)],
            "descriptors": [self.descriptors[0], max(self.descriptors), self.descriptors[-1]],
            "mb_per_min": mb,
            "descriptors_per_min": descriptors,
        }

    def slopes(self) -> tuple[float, float] | None:
        """MB and descriptors per minute by least squares, without the warm-up; None for too short a series."""
        warm = [k for k, at in enumerate(self.at) if at - self.at[0] >= WARM_UP_S]
        if not warm or self.at[warm[-1]] - self.at[warm[0]] < LEAST_S:
            return None
        at = [self.at[k] for k in warm]
        return _per_min(at, [self.mb[k] for k in warm]), _per_min(at, [self.descriptors[k] for k in warm])


def _per_min(at: Sequence[float], values: Sequence[float]) -> float:
    return round(60 * statistics.linear_regression(at, values).slope, 3)


def growth(series: Sequence[Series]) -> Iterator[str]:
    """Every process that grew faster than the bounds."""
    for one in series:
        if slopes := one.slopes():
            mb, descriptors = slopes
            if mb > MOST_MB_PER_MIN:
                yield f"{one.name} (pid {one.pid}) grows by {mb} MB a minute, bound {MOST_MB_PER_MIN:g}"
            if descriptors > MOST_DESCRIPTORS_PER_MIN:
                bound = f"bound {MOST_DESCRIPTORS_PER_MIN:g}"
                yield f"{one.name} (pid {one.pid}) opens {descriptors} more descriptors a minute, {bound}"
