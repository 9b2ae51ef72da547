"""What is worth doing now without changing the record: all of it may be repeated or lost without harm."""

from __future__ import annotations

from collections.abc import Iterator

from coordinator.actions import (
    Action,
    Ask,
    AwaitReady,
    Deliver,
    Launch,
    ProveWays,
    RunChecks,
    SendBundle,
    StopDriver,
    TellGo,
    Wake,
)
from coordinator.attempt import decided_at, may_launch, start_of
from coordinator.model import Job, Observed, Phase
from coordinator.statements import ApprovalBody, Key, Kind, Statement


def effects(job: Job, seen: Observed) -> Iterator[Action]:
    """Checks, launches and stops that the phase calls for."""
    n = job.attempt
    if job.phase is Phase.PREPARING and job.me not in job.promises(n):
        if not (seen.checks and seen.checks.attempt == n):
            yield RunChecks(n)
    elif job.phase in (Phase.STARTING, Phase.RUNNING):
        yield from _towards_go(job, seen)
    elif (job.phase is Phase.ENDING or job.phase.terminal) and not job.driver_gone:
        yield StopDriver(n)
    elif _in_the_dark(job, seen):
        yield Ask(n)


def _in_the_dark(job: Job, seen: Observed) -> bool:
    """True when somebody else may know what this party waits for: its author may be dead. Asking is left to those who
    lack something; if everyone passed on everything, ten parties would send hundreds of messages per job."""
    if job.phase is Phase.PROMISED:
        return job.slot is None and not job.leads
    waits = job.phase is Phase.ENDING or (job.phase.terminal and not job.settled)
    return waits and bool(job.attempt) and seen.now > job.ended_at + seen.timing.retry_s


def _towards_go(job: Job, seen: Observed) -> Iterator[Action]:
    """Launch, prove the ways while the program loads, and tell it the moment once that is agreed."""
    n, start = job.attempt, start_of(job, seen)
    if may_launch(job, seen):
        assert job.slot is not None
        yield Launch(n, job.slot)
    if start is None and job.slot is not None:
        yield ProveWays(n, job.slot)
        if seen.driver.state == "live" and not seen.driver.ready:
            yield AwaitReady(n)
    if start is not None and not seen.told and job.phase is Phase.RUNNING and seen.initiator_offset is not None:
        yield TellGo(n, start)


def wanted(job: Job) -> Iterator[tuple[Key, str]]:
    """Every (statement, peer) pair that this party is to bring about."""
    newest = job.prepare_round()
    for key, statement in job.statements.items():
        if key.party != job.me and not (key.kind is Kind.APPROVAL and job.leads):
            continue
        if key.kind is Kind.PREPARE and (key.attempt < newest or job.decision(key.attempt)):
            continue  # overtaken
        yield from ((key, peer) for peer in _receivers(job, statement) if peer != key.party)


def _receivers(job: Job, statement: Statement) -> tuple[str, ...]:
    """Who is to have a statement from this party, its author aside."""
    n = statement.attempt
    match statement.kind:
        case Kind.PROMISE:
            return () if job.leads or job.decision(n) else (job.initiator,)
        case Kind.READY:
            return () if job.leads or job.go(n) or job.me in job.outcomes(n) else (job.initiator,)
        case Kind.APPROVAL:
            # a person's word goes to everyone at once; of the others the initiator brings all when all are in, or
            # ten parties would need ninety messages
            assert isinstance(statement.body, ApprovalBody)
            if statement.party == job.me and (statement.body.by == "person" or statement.body.verdict == "deny"):
                return job.others
            if job.leads:
                return job.others if job.phase is not Phase.PROPOSED else ()
            return (job.initiator,) if statement.party == job.me else ()
        case _:
            return job.others


def deliveries(job: Job, seen: Observed) -> Iterator[Action]:
    """Statements and job folder for the peers that are due and have not confirmed them."""
    missing: dict[str, list[Key]] = {}
    for key, peer in wanted(job):
        if peer in seen.due and (key, peer) not in seen.receipts:
            missing.setdefault(peer, []).append(key)
    for peer, keys in sorted(missing.items()):
        yield Deliver(peer, tuple(sorted(keys, key=lambda k: (list(Kind).index(k.kind), k.attempt, k.party))))
    if job.leads and job.phase is Phase.PROPOSED:
        for peer in sorted(seen.bundle_missing & seen.due):
            if not any(key.kind is Kind.PROPOSAL for key in missing.get(peer, ())):
                yield SendBundle(peer)


def wakes(job: Job, seen: Observed) -> Iterator[Wake]:
    """The next moment at which time alone changes what is decided."""
    lost_s = seen.timing.peer_lost_after_s
    ended = job.ended_at
    times = [job.proposal.deadline, job.proposal.deadline + lost_s, job.retry_at, ended + lost_s]
    times.append(ended + seen.timing.retry_s + 0.01)
    if job.phase in (Phase.PREPARING, Phase.PROMISED):
        times.append(job.prepared_at + seen.timing.promise_s)
        times += [p.expires_at for party, p in job.promises(job.attempt).items() if party == job.me]
    if job.phase in (Phase.STARTING, Phase.RUNNING):
        times.append(decided_at(job, seen) + seen.timing.start_window_s)
        if (start := start_of(job, seen)) is not None:
            times += [start + seen.timing.start_window_s, start + seen.timing.job_s]
    if job.phase.terminal and job.settled:
        times = []
    if later := [t for t in times if t > seen.now]:
        yield Wake(min(later))
