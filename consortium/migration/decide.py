"""What a change of mode needs, what it keeps, and what keeps it from beginning. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from consortium.errors import Problem
from consortium.spec import Mode

SHOWN = 10


@dataclass(frozen=True)
class Seen:
    """All that the plan rests on."""

    party: str
    now: Mode
    to: Mode
    documents: tuple[Problem, ...] = ()
    """What would be wrong with the documents in the other mode."""
    answers: bool = True
    """The own coordinator answers."""
    active: Mapping[str, int] = field(default_factory=dict)
    """Phase → jobs whose attempt is under way."""
    waiting: tuple[str, ...] = ()
    """Jobs that wait: what one mode runs, the other cannot."""
    datasets: tuple[str, ...] = ()
    rules: int = 0
    """Of the policy."""
    workers: int = 0

    @property
    def nothing_to_do(self) -> bool:
        """This workspace is in that mode already."""
        return self.now == self.to


def refused(seen: Seen) -> list[Problem]:
    """Everything that keeps it from beginning; empty when it may."""
    if seen.nothing_to_do:
        return []
    return [*seen.documents, *_coordinator(seen)]


def _coordinator(seen: Seen) -> Iterator[Problem]:
    if not seen.answers:
        yield Problem(
            "the own coordinator does not answer, so what runs cannot be drained",
            where=seen.party,
            fix="consortium doctor; where nothing was ever up: write the mode into consortium.yaml, and consortium up",
        )
    if seen.waiting:
        more = f" and {len(seen.waiting) - SHOWN} more" if len(seen.waiting) > SHOWN else ""
        yield Problem(
            f"jobs wait that only mode: {seen.now} can run",
            where=seen.party,
            value=", ".join(seen.waiting[:SHOWN]) + more,
            fix="let them run, or: consortium job cancel JOB",
        )


def steps(seen: Seen) -> list[str]:
    """What `--run` would do, in order, for people."""
    if seen.nothing_to_do:
        return []
    under_way = ", ".join(f"{count} {phase}" for phase, count in seen.active.items())
    return [
        "hold the queue: no attempt begins here, jobs wait",
        f"let attempts end ({under_way or 'none is under way'})",
        f"write mode: {seen.to} into consortium.yaml, and this party's settings",
        *(f"take away: {what}" for what in _goes(seen)),
        *(f"make: {what}" for what in _comes(seen)),
        "look whether all is well; if not, put everything back",
        "let jobs begin again",
    ]


def _goes(seen: Seen) -> list[str]:
    if seen.to == "ray":
        return ["the Kuscia node; its volumes stay on the engine"]
    workers = [f"{seen.workers} Ray workers"] if seen.workers else []
    return ["Ray on the head", *workers, "the gateway; the volume of its access log stays on the engine"]


def _comes(seen: Seen) -> list[str]:
    if seen.to == "kuscia":
        return ["the Kuscia node, its peers, routes, data sources and grants"]
    return ["the gateway, Ray and its workers"]


def kept(seen: Seen) -> list[str]:
    """What is the same afterwards, for people."""
    data = f": {', '.join(seen.datasets)}" if seen.datasets else ""
    return [
        f"{len(seen.datasets)} data sources{data}",
        f"the policy of approvals, {seen.rules} rules",
        "every job's record, every approval that was given, and the audit log: one chain",
        "keys, members, party files",
    ]
