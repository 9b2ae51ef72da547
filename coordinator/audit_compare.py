"""Compares two parties' audit logs: what both must agree on, where they first differ, and what one has not seen yet.

Pure. A statement that comes late is no difference; two digests under one identity are, and so is a statement that its
own author has no record of.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from coordinator.audit import Record
from coordinator.model import TRANSITIONS, Phase

CLOCKS_S = 5.0  # two parties' clocks may differ by so much in what is called missing
Name = tuple[str, int, str]  # kind, attempt, author


@dataclass
class JobLog:
    """What one log says about one job."""

    statements: dict[Name, tuple[str, int, float]] = field(default_factory=dict)  # digest, record, time
    phase: str = ""
    record: int = 0  # that brought the phase
    problem: tuple[int, str] | None = None  # first phase out of order


@dataclass
class PartyLog:
    """What one log says."""

    party: str
    jobs: dict[str, JobLog] = field(default_factory=dict)
    whole_from_start: bool = False
    first_at: float = 0.0  # what came before a piece is not known
    last_at: float = 0.0

    def covers(self, at: float) -> bool:
        """True if the log surely tells what happened at a time of the other party's clock."""
        return (self.whole_from_start or at - CLOCKS_S > self.first_at) and at + CLOCKS_S < self.last_at


@dataclass(frozen=True)
class Divergence:
    """Something both must agree on and do not; record numbers of both logs (0: none there)."""

    job_id: str
    what: str
    records: tuple[int, int]


def read(party: str, records: Iterable[Record]) -> PartyLog:
    """Gather what a verified log says about jobs. Raises ValueError naming a record whose content is not ours."""
    log = PartyLog(party)
    for record in records:
        try:
            event = json.loads(record.content)
            log.whole_from_start = log.whole_from_start or record.seq == 1
            at = float(event["at"])
            log.first_at = log.first_at if log.whole_from_start or log.first_at else at
            log.last_at = max(log.last_at, at)
            if event["kind"] in ("created", "changed"):
                _take(log.jobs.setdefault(str(event["job_id"]), JobLog()), record.seq, at, event)
        except (ValueError, KeyError, TypeError) as e:
            raise ValueError(f"record {record.seq} of {party}: content is not understood: {e!r}") from e
    return log


def _take(job: JobLog, seq: int, at: float, event: dict[str, Any]) -> None:
    before, after = event["from"] or "", event["to"]
    known = bool(job.phase)
    if known and before != job.phase:
        job.problem = job.problem or (seq, f"comes from {before or 'nothing'}, but was {job.phase}")
    elif before and before != after and Phase(after) not in TRANSITIONS[Phase(before)]:
        job.problem = job.problem or (seq, f"went from {before} to {after}, which no job may")
    if after != job.phase:
        job.phase, job.record = after, seq
    for kind, attempt, author, digest in event["statements"]:
        name, now = (kind, attempt, author), job.statements.get((kind, attempt, author))
        if now is not None and now[0] != digest:
            job.problem = job.problem or (seq, f"has two of {_named(name)}: {now[0]} and {digest}")
        job.statements.setdefault(name, (digest, seq, at))


def compare(a: PartyLog, b: PartyLog) -> dict[str, Any]:
    """`divergences`, the first (by A's records) first; `unseen`: party -> job -> statements only the other has."""
    found: list[Divergence] = []
    unseen: dict[str, dict[str, list[str]]] = {a.party: {}, b.party: {}}
    common = sorted(set(a.jobs) & set(b.jobs))
    for job_id in common:
        mine, its = a.jobs[job_id], b.jobs[job_id]
        for job, party, is_a in ((mine, a.party, True), (its, b.party, False)):
            if job.problem:
                seq, text = job.problem
                found.append(Divergence(job_id, f"{party} {text}", (seq, 0) if is_a else (0, seq)))
        for name in sorted(set(mine.statements) & set(its.statements)):
            (left, m, _), (right, n, _) = mine.statements[name], its.statements[name]
            if left != right:
                text = f"{_named(name)}: {a.party} has {left}, {b.party} has {right}"
                found.append(Divergence(job_id, text, (m, n)))
        for job, other, log in ((mine, its, b), (its, mine, a)):
            for name in sorted(set(job.statements) - set(other.statements)):
                _, seq, at = job.statements[name]
                if name[2] == log.party and log.covers(at):
                    text = f"{_named(name)}: {log.party} has no record of its own statement"
                    found.append(Divergence(job_id, text, (seq, 0) if log is b else (0, seq)))
                else:
                    unseen[log.party].setdefault(job_id, []).append(_named(name))
        found += _labels(job_id, a, b, mine, its)
    found.sort(key=lambda d: (d.records[0] or d.records[1], d.records[1]))
    return {
        "jobs": len(common),
        "statements": sum(len(set(a.jobs[j].statements) & set(b.jobs[j].statements)) for j in common),
        "divergences": [{"job_id": d.job_id, "what": d.what, "records": list(d.records)} for d in found],
        "unseen": unseen,
        "only": {a.party: sorted(set(a.jobs) - set(b.jobs)), b.party: sorted(set(b.jobs) - set(a.jobs))},
    }


def _labels(job_id: str, a: PartyLog, b: PartyLog, mine: JobLog, its: JobLog) -> list[Divergence]:
    """Both ended, but not alike. Failed and cancelled may differ as long as one has not seen all signatures."""
    left, right = mine.phase, its.phase
    if left == right or not (Phase(left).terminal and Phase(right).terminal) or Phase.DIVERGED in (left, right):
        return []
    late = Phase.SUCCEEDED not in (left, right) and _ends(mine) != _ends(its)
    text = f"outcome: {a.party} holds {left}, {b.party} holds {right}"
    return [] if late else [Divergence(job_id, text, (mine.record, its.record))]


def _ends(job: JobLog) -> set[Name]:
    return {name for name in job.statements if name[0] in ("outcome", "decision")}


def _named(name: Name) -> str:
    kind, attempt, author = name
    return f"{kind} of {author}" + (f" for attempt {attempt}" if attempt else "")
