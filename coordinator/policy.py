"""This party's own rules on proposals of others: pure. What they leave open is for a person."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from coordinator.config import Config, Policy, Rule, Window
from coordinator.model import Job, Phase
from coordinator.statements import ApprovalBody, canonical

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@dataclass(frozen=True)
class Judgement:
    """`approval`: the policy's signed yes or no, None leaves it to a person. `look_again_at`: own clock, when time
    alone may change this; None when it cannot."""

    approval: ApprovalBody | None = None
    look_again_at: float | None = None


def policy_digest(policy: Policy) -> str:
    """SHA-256 of the policy, for the audit log: which rules were in force."""
    return hashlib.sha256(canonical(policy.model_dump(mode="json"))).hexdigest()


def judge(config: Config, job: Job, now: float) -> Judgement:
    """What the policy says of a job that waits for this party's word at `now` (own clock)."""
    if job.leads or job.phase is not Phase.PROPOSED or job.me in job.approvals():
        return Judgement()
    fitting = [rule for rule in config.policy.rules if _fits(rule, job)]
    counting = [rule for rule in fitting if _counts(rule, now)]
    for verdict in ("deny", "person", "approve"):
        if rule := next((rule for rule in counting if rule.verdict == verdict), None):
            found, why = rule.verdict, f"rule {rule.name}"
            break
    else:
        found, why = config.policy.default, "no rule fits, so by default"
        if found == "deny" and any(rule.verdict != "deny" and _counts_later(rule, now) for rule in fitting):
            found = "person"  # its window opens later: a no now could not be taken back
    if found == "person":
        changes = [at for rule in fitting for at in _changes(rule, now) if at > now]
        return Judgement(None, min(changes, default=None))
    digest = job.signed_proposal.digest()
    return Judgement(ApprovalBody(verdict=found, proposal_digest=digest, by="policy", reason=why))


def _fits(rule: Rule, job: Job) -> bool:
    """True when all that the rule names fits the proposal, whatever the time."""
    proposal = job.proposal
    asked = set(proposal.datasets.get(job.me, ()))
    return (
        (rule.programs is None or proposal.program_digest in rule.programs)
        and (rule.initiators is None or job.initiator in rule.initiators)
        and (rule.datasets in (None, "any") or _listed(rule, asked, set(rule.datasets or ())))
        and (rule.parties is None or _listed(rule, set(job.others), set(rule.parties)))
    )


def _listed(rule: Rule, named: set[str], allowed: set[str]) -> bool:
    """A yes covers only what is listed; for a no one listed thing is enough."""
    return named <= allowed if rule.verdict == "approve" else bool(named & allowed)


def _counts(rule: Rule, now: float) -> bool:
    """True when the rule is in force at this moment."""
    if rule.until and now >= _end_of(rule.until, _zone(rule)):
        return False
    return rule.window is None or any(begin <= now < end for begin, end in _spans(rule.window, now))


def _changes(rule: Rule, now: float) -> Iterator[float]:
    """Moments around `now` at which the rule comes into force or ends."""
    if rule.until:
        end = _end_of(rule.until, _zone(rule))
        if now >= end:
            return  # it never counts again
        yield end
    if rule.window:
        for span in _spans(rule.window, now):
            yield from span


def _counts_later(rule: Rule, now: float) -> bool:
    return any(at > now and _counts(rule, at) for at in _changes(rule, now))


def _zone(rule: Rule) -> tzinfo:
    return ZoneInfo(rule.window.timezone) if rule.window else UTC


def _end_of(day: date, zone: tzinfo) -> float:
    return _moment(day + timedelta(days=1), "00:00", zone)


def _spans(window: Window, now: float) -> Iterator[tuple[float, float]]:
    """Begin and end of the window on each of its days, from yesterday (it may pass midnight) to a week from now."""
    zone = ZoneInfo(window.timezone)
    today = datetime.fromtimestamp(now, zone).date()
    for offset in range(-1, 9):
        day = today + timedelta(days=offset)
        if _DAYS[day.weekday()] in window.days:
            last = day if window.from_ < window.to else day + timedelta(days=1)
            yield _moment(day, window.from_, zone), _moment(last, window.to, zone)


def _moment(day: date, clock: str, zone: tzinfo) -> float:
    """Seconds since 1970. An hour that a change of the clock skips or repeats is taken at its first reading."""
    hours, minutes = int(clock[:2]), int(clock[3:])
    day += timedelta(days=hours // 24)
    return datetime(day.year, day.month, day.day, hours % 24, minutes, tzinfo=zone).timestamp()
