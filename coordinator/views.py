"""What people and programs of this institution are shown about jobs and peers. Reads only."""

from __future__ import annotations

import itertools
import json
import time
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from coordinator.context import Context
from coordinator.model import Job, Phase
from coordinator.release import source_digest


def party_phase(job: Job, party: str, told: str = "") -> str:
    """Phase of a party as far as its signed statements show it here, or as its Kuscia node has it (`told`)."""
    if party == job.me or job.phase.terminal:
        return job.phase.value
    if told:
        return told
    if outcome := job.outcomes(job.attempt).get(party):
        return f"ended: {outcome.status}"
    if job.phase in (Phase.STARTING, Phase.RUNNING, Phase.ENDING):
        return Phase.RUNNING.value
    if promise := job.promises(job.attempt).get(party):
        return "promised" if promise.verdict == "promise" else f"refused: {promise.code}"
    said = job.approvals().get(party)
    return {"approve": "approved", "deny": "denied"}[said.verdict] if said else Phase.PROPOSED.value


def waits_for_me(job: Job) -> bool:
    """True when a person of this party is to approve or deny."""
    return job.phase is Phase.PROPOSED and job.me not in job.approvals()


def summary(context: Context, job: Job) -> dict[str, Any]:
    """One line of the list of jobs."""
    proposal = job.proposal
    told = context.kuscia.parties_of(job) if context.kuscia else {}
    return {
        "job_id": job.job_id,
        "name": proposal.name,
        "initiator": job.initiator,
        "phase": job.phase,
        "attempt": job.attempt,
        "terminal": job.phase.terminal,
        "settled": job.settled,
        "reason": job.reason,
        "created_at": proposal.created_at,
        "parties": {p: party_phase(job, p, told.get(p, "")) for p in proposal.parties},
        "approval_wanted": waits_for_me(job),
        "bundle_ready": context.bundle_path(proposal.program_digest).exists(),
    }


def detail(context: Context, job: Job) -> dict[str, Any]:
    """Everything about one job but the program's text and the result."""
    attempts = sorted({k.attempt for k in job.statements if k.attempt})
    return summary(context, job) | {
        "proposal": job.proposal.model_dump(mode="json"),
        "proposal_digest": job.signed_proposal.digest(),
        "slot": job.slot,
        "approvals": {p: a.model_dump(mode="json") for p, a in sorted(job.approvals().items())},
        "attempts": [_attempt(context, job, n) for n in attempts],
        "outcomes": {p: o.model_dump(mode="json") for p, o in sorted(job.outcomes(job.attempt).items())},
        "skew_ms": skew_ms(context, job, job.attempt),
        "statements": [s.model_dump(mode="json") for k, s in sorted(job.statements.items())],
        "conflicts": [[s.model_dump(mode="json") for s in pair] for pair in job.conflicts],
        "undelivered": {p: why for p in job.others if (why := context.undelivered.get((job.job_id, p)))},
        "events": context.store.events_of(job.job_id),
    }


def _attempt(context: Context, job: Job, n: int) -> dict[str, Any]:
    decision = job.decision(n)
    return {
        "attempt": n,
        "decision": decision.model_dump(mode="json") if decision else None,
        "promises": {p: s.model_dump(mode="json") for p, s in sorted(job.promises(n).items())},
        "ready": sorted(job.readies(n)),
        "outcomes": {p: s.model_dump(mode="json") for p, s in sorted(job.outcomes(n).items())},
        "skew_ms": skew_ms(context, job, n),
    }


def skew_ms(context: Context, job: Job, attempt: int) -> float | None:
    """Milliseconds between the first and the last party's entry of sf.init, on the own clock; None if not known."""
    entered = []
    for party in job.proposal.parties:
        outcome = job.outcomes(attempt).get(party)
        if outcome is None or outcome.started_at is None:
            return None
        sample = context.peers.state[party].best if party != job.me else None
        entered.append(outcome.started_at - (sample.offset_s if sample else 0))
    return round((max(entered) - min(entered)) * 1000, 1)


def peers(context: Context) -> dict[str, Any]:
    """What is known of every peer; ages in seconds."""
    now = time.monotonic()
    found = {}
    for name in sorted(context.config.peers):
        state = context.peers.state[name]
        best, silent_s = state.best, state.lost_for(now)
        found[name] = {
            "url": context.config.peers[name].url,
            "up": silent_s <= context.config.timeouts.peer_lost_after_s and state.reached is not None,
            "heard_s": round(now - state.heard, 1) if state.heard else None,
            "reached_s": round(now - state.reached, 1) if state.reached else None,
            "offset_ms": round(best.offset_s * 1000, 2) if best else None,
            "round_trip_ms": round(best.delay_s * 1000, 2) if best else None,
            "error": state.error,
            "audit": _audit_of(context, name),
        }
    return found


def _audit_of(context: Context, peer: str) -> dict[str, Any]:
    """The peer's newest audit head, how far it confirmed ours, and a contradiction in what it showed."""
    me = context.config.party
    theirs, ours = context.store.last_head(peer, me), context.store.last_head(me, peer)
    return {
        "seq": theirs.head.seq if theirs else 0,
        "hash": theirs.head.hash if theirs else "",
        "confirmed": ours.head.seq if ours else 0,
        "confirmed_at": ours.witness.at if ours else None,
        "fault": context.heads.faults.get(peer, ""),
    }


def _chain(context: Context) -> list[x509.Certificate]:
    """The gateway's certificate, and its CA's if the file holds it; empty if unreadable."""
    path = context.config.certificate_file
    try:
        return x509.load_pem_x509_certificates(path.read_bytes()) if path else []
    except (OSError, ValueError):
        return []


def certificate_fingerprint(context: Context) -> str | None:
    """SHA-256 of the gateway's certificate, hexadecimal with colons; None if unreadable."""
    return next((c.fingerprint(hashes.SHA256()).hex(":").upper() for c in _chain(context)), None)


def certificate_ends(context: Context) -> dict[str, float]:
    """When the gateway's certificate ends, and its CA's if the file holds it; Unix seconds, empty if unreadable."""
    chain = _chain(context)
    return dict(zip(("gateway", "ca"), (c.not_valid_after_utc.timestamp() for c in chain), strict=False))


def certificate_days(context: Context) -> float | None:
    """Days until the own gateway's certificate ends; None when it cannot be read here."""
    ends = certificate_ends(context).get("gateway")
    return round((ends - time.time()) / 86400, 1) if ends else None


def audit_records(context: Context, before: int | None, count: int) -> list[dict[str, Any]]:
    """Up to `count` records of the own audit log, newest first, older than record `before`."""
    head = context.store.head()
    last = min(before - 1 if before else head[0], head[0]) if head else 0
    found = itertools.islice(context.store.records(max(1, last - count + 1)), min(count, last))
    shown = [{"seq": r.seq, "hash": r.hash, **json.loads(r.content)} for r in found]
    return shown[::-1]


def status(context: Context) -> dict[str, Any]:
    """The institution at a glance."""
    head = context.store.head()
    return {
        "consortium": context.config.consortium,
        "party": context.config.party,
        "kuscia": {"url": context.kuscia.url, "error": context.kuscia.failing} if context.kuscia else None,
        "members": list(context.config.members),
        "left": sorted(context.config.left),
        "revoked": sorted(context.config.revoked),
        "consortium_digest": context.config.consortium_digest,
        "versions": context.config.versions,
        "release": source_digest(),
        "maintenance": context.config.maintenance and context.config.maintenance.model_dump(mode="json"),
        "held": hold.text if (hold := context.held(time.time())) else "",
        "peers": peers(context),
        "slots": {"all": context.config.slots, "used": {str(k): j for k, j in context.store.used_slots().items()}},
        "jobs": context.store.phase_counts(),
        "audit": {"seq": head[0] if head else 0, "hash": head[1] if head else ""},
        "certificate_days": certificate_days(context),
        "certificate": certificate_fingerprint(context),
        "policy": context.config.policy.model_dump(mode="json"),
        "timeouts": context.config.timeouts.model_dump(mode="json"),
        "uptime_s": round(time.monotonic() - context.started, 1),
    }
