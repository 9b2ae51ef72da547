"""What is worth doing now without changing the record: all of it may be repeated or lost without harm."""

from __future__ import annotations

from collections.abc import Iterator

from coordinator.actions import Action, AskDecision, Deliver, Launch, RunChecks, SendBundle, StopDriver, Wake
from coordinator.attempt import may_launch, start_of
from coordinator.model import Job, Observed, Phase
from coordinator.statements import Key, Kind

_FORWARDED = frozenset({Kind.DECISION, Kind.OUTCOME})  # whoever has these passes them on; the author may be dead


def effects(job: Job, seen: Observed) -> Iterator[Action]:
    """Checks, launches and stops that the phase calls for."""
    n = job.attempt
    if job.phase is Phase.PREPARING and job.me not in job.promises(n):
        if not (seen.checks and seen.checks.attempt == n):
            yield RunChecks(n)
    elif may_launch(job, seen):
        assert job.slot is not None
        yield Launch(n, job.slot, start_of(job, seen))
    elif (job.phase is Phase.ENDING or job.phase.terminal) and not job.driver_gone:
        yield StopDriver(n)
    elif job.phase is Phase.PROMISED and job.slot is None and not job.leads:
        yield AskDecision(n)


def wanted(job: Job) -> Iterator[tuple[Key, str]]:
    """Every (statement, peer) pair that this party is to bring about."""
    newest = job.prepare_round()
    for key, statement in job.statements.items():
        own = key.party == job.me
        if not own and key.kind not in _FORWARDED:
            continue
        if key.kind is Kind.PREPARE and (key.attempt < newest or job.decision(key.attempt)):
            continue  # overtaken
        if key.kind is Kind.PROMISE:
            if job.decision(key.attempt) is None and not job.leads:
                yield key, job.initiator
            continue
        for peer in job.others:
            if peer != key.party and statement.party != peer:
                yield key, peer


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
    times = [job.proposal.deadline, job.proposal.deadline + lost_s, job.retry_at, job.ended_at + lost_s]
    if job.phase in (Phase.PREPARING, Phase.PROMISED):
        times.append(job.prepared_at + seen.timing.promise_s)
        times += [p.expires_at for party, p in job.promises(job.attempt).items() if party == job.me]
    if job.phase in (Phase.STARTING, Phase.RUNNING):
        start = start_of(job, seen)
        times += [start, start + seen.timing.start_window_s, start + seen.timing.job_s]
    if job.phase.terminal and job.settled:
        times = []
    if later := [t for t in times if t > seen.now]:
        yield Wake(min(later))
