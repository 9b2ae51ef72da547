"""A world of parties for `decide`: durable records, drivers, a network that delays, drops, repeats and reorders,
clocks that differ, crashes. Every choice comes from one random source, so a schedule is its seed.

The parties run the real `decide` and `evolve`; this file only plays the store, the network, Ray and time.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

from builders import JOB_ID, NOW, proposal, sign

from coordinator.actions import Ask, Commit, Deliver, Launch, ProveWays, RunChecks, StopDriver, TellGo
from coordinator.decide import decide, evolve
from coordinator.model import TRANSITIONS, Checks, Draft, Driver, Job, Observed, Phase, Silence, Timing
from coordinator.statements import ApprovalBody, CancelBody, Key, Kind, PromiseBody, Statement

TIMING = Timing(
    promise_s=8, start_lead_s=0.5, start_window_s=6, peer_lost_after_s=4, job_s=40, retry_s=1, prepare_rounds=3
)
NAMES = ("alice", "bob", "carol", "dave")
DEADLINE_S = 150.0


class Broken(AssertionError):
    """An invariant does not hold; the message is the trace."""


@dataclass
class Party:
    """One party: `job` is durable, the rest is lost in a crash, but Ray's drivers live on."""

    name: str
    skew: float
    job: Job | None = None
    checks: Checks | None = None
    ways: Checks | None = None
    told: dict[int, float] = field(default_factory=dict)  # attempt -> agreed moment, true time; a file beside Ray
    loaded: set[int] = field(default_factory=set)  # attempts whose driver waits for go
    receipts: set[tuple[Key, str]] = field(default_factory=set)
    drivers: dict[int, str] = field(default_factory=dict)  # attempt -> state, in Ray's hands
    launched: list[int] = field(default_factory=list)
    signed: dict[Key, Statement] = field(default_factory=dict)
    heard: dict[str, float] = field(default_factory=dict)
    down_until: float = 0.0
    never_again: bool = False
    busy: bool = False


class World:
    """One schedule. `run` plays it and checks the invariants after every step."""

    def __init__(self, seed: int) -> None:
        self.random = r = random.Random(seed)
        self.now, self.trace = NOW, [f"seed {seed}"]
        self.names = NAMES[: r.choice((2, 2, 3, 4))]
        self.parties = {n: Party(n, r.uniform(-0.5, 0.5)) for n in self.names}
        self.flight: list[tuple[float, str, str, Statement]] = []
        self.loss, self.repeat = r.choice((0, 0.1, 0.4)), r.choice((0, 0.3))
        self.crashes = r.choice((0, 0.005, 0.03))
        self.cut: dict[tuple[str, str], float] = {}
        self.fails = r.random() < 0.3
        about = proposal(parties=self.names, deadline=NOW + DEADLINE_S, max_attempts=r.choice((1, 2, 3)))
        self.parties["alice"].job = Job(JOB_ID, "alice", Phase.PROPOSED, {about.key: about})
        self.wishes = self._plan()
        self.leaving: tuple[dict[str, float], str] = {}, ""  # party -> when it hears of it, and who leaves
        own = random.Random(f"revoke {seed}")  # of its own: stories without a revocation stay as they were
        by, peer = own.sample(self.names, 2)
        self.revoked = (by, peer, NOW + own.uniform(0, 40)) if own.random() < 0.05 else None
        own = random.Random(f"hold {seed}")  # so with holds
        begins = NOW + own.uniform(0, 20)
        self.held = (own.choice(self.names), begins, begins + own.uniform(1, 20)) if own.random() < 0.1 else None

    def _plan(self) -> list[tuple[float, str, str]]:
        r = self.random
        plan = []
        if r.random() < 0.3:
            plan.append((NOW + r.uniform(0, 40), r.choice(self.names), "cancel"))
        if r.random() < 0.1:
            plan.append((NOW + r.uniform(0, 5), r.choice(self.names[1:]), "deny"))
        if r.random() < 0.15:
            plan.append((NOW + r.uniform(0, 30), r.choice(self.names), "die"))
        if r.random() < 0.1 and len(self.names) > 2:
            plan.append((NOW + r.uniform(0, 30), r.choice(self.names), "leave"))
        return plan

    def say(self, text: str) -> None:
        self.trace.append(f"{self.now - NOW:7.2f} {text}")

    def run(self, steps: int = 1500) -> None:
        """Play until everything has come to rest or the steps are used up, then check the end."""
        for _ in range(steps):
            self.now += self.random.choice((0.01, 0.05, 0.2, 0.5))
            self._events()
            order = list(self.parties.values())
            self.random.shuffle(order)
            for party in order:
                if not party.never_again and party.down_until <= self.now:
                    self._turn(party)
            self._check()
            if self._rest():
                break
        # the network heals and whoever can comes back: what remains open must close
        self.loss, self.crashes, self.cut = 0, 0, {}
        for _ in range(500):
            self.now += 0.5
            self._events()
            for party in self.parties.values():
                if not party.never_again:
                    party.down_until = 0
                    self._turn(party)
            self._check()
            if self._rest() and not self.flight:
                break
        self._check_end()

    def _rest(self) -> bool:
        alive = [p for p in self.parties.values() if not p.never_again]
        return not self.flight and all(p.job and p.job.phase.terminal and p.job.settled for p in alive)

    def _events(self) -> None:
        due = [w for w in self.wishes if w[0] <= self.now]
        self.wishes = [w for w in self.wishes if w[0] > self.now]
        for _, name, what in due:
            party = self.parties[name]
            if what in ("die", "leave"):
                party.never_again = True
                if what == "leave":  # the others hear of it one by one, as each runs `up`
                    self.leaving = {n: self.now + self.random.uniform(0, 20) for n in self.names}, name
                party.drivers = dict.fromkeys(party.drivers, "gone")
                self.say(f"{name} is gone for good")
            elif party.job and not party.never_again and not party.job.phase.terminal:
                if what == "cancel":
                    self._sign(party, Draft(Kind.CANCEL, 0, CancelBody(reason="x")))
                elif party.job.phase is Phase.PROPOSED and name not in party.job.approvals():
                    body = ApprovalBody(verdict="deny", proposal_digest="a" * 64, by="person")
                    self._sign(party, Draft(Kind.APPROVAL, 0, body))
                self.say(f"{name}: {what}")
        if self.random.random() < 0.01 and self.loss:
            pair = (self.random.choice(self.names), self.random.choice(self.names))
            self.cut[pair] = self.now + self.random.uniform(1, 15)
        self.cut = {p: t for p, t in self.cut.items() if t > self.now}
        arrived = [m for m in self.flight if m[0] <= self.now]
        self.flight = [m for m in self.flight if m[0] > self.now]
        for _, sender, receiver, statement in arrived:
            self._receive(sender, self.parties[receiver], statement)

    def _receive(self, sender: str, party: Party, s: Statement) -> None:
        if party.never_again or party.down_until > self.now:
            return
        if party.job is None:
            if s.kind is not Kind.PROPOSAL:
                return
            party.job = Job(JOB_ID, party.name, Phase.PROPOSED, {s.key: s})
        party.job = replace(party.job.adding(s), version=party.job.version + 1)
        if self.random.random() >= self.loss:  # the answer
            self.parties[sender].receipts.add((s.key, party.name))

    def _shut(self, one: str, other: str) -> bool:
        """Whether one of the two has revoked the other: nothing passes, either way."""
        return bool(self.revoked) and {one, other} == set(self.revoked[:2]) and self.revoked[2] <= self.now

    def _revoker(self) -> str:
        return self.revoked[0] if self.revoked and self.revoked[2] <= self.now else ""

    def _holds(self) -> str:
        return self.held[0] if self.held and self.held[1] <= self.now < self.held[2] else ""

    def _reachable(self, sender: str, receiver: str) -> bool:
        other = self.parties[receiver]
        if self._shut(sender, receiver):
            return False
        return not other.never_again and other.down_until <= self.now and (sender, receiver) not in self.cut

    def _send(self, sender: str, receiver: str, s: Statement) -> None:
        for _ in range(2 if self.random.random() < self.repeat else 1):
            if (
                (sender, receiver) not in self.cut
                and not self._shut(sender, receiver)
                and self.random.random() >= self.loss
            ):
                self.flight.append((self.now + self.random.choice((0.01, 0.1, 0.5, 3)), sender, receiver, s))

    def _sign(self, party: Party, draft: Draft) -> Statement:
        s = sign(party.name, draft)
        before = party.signed.setdefault(s.key, s)
        if before.payload() != s.payload():
            raise Broken(self._story(f"{party.name} signed two different {s.kind}"))
        assert party.job
        party.job = replace(party.job.adding(s), version=party.job.version + 1)
        return s

    def _turn(self, party: Party) -> None:
        self._drivers(party)
        for _ in range(30):
            if party.job is None:
                return
            actions = decide(party.job, self._sight(party))
            if not (actions and isinstance(actions[0], Commit)):
                break
            self._commit(party, actions[0])
            if self._maybe_crash(party):
                return
        else:
            raise Broken(self._story(f"{party.name} does not come to rest"))
        for action in actions:
            self._act(party, action)
            if self._maybe_crash(party):
                return

    def _commit(self, party: Party, step: Commit) -> None:
        old = party.job
        assert old
        if step.phase and step.phase not in TRANSITIONS[old.phase]:
            raise Broken(self._story(f"{party.name}: {old.phase} to {step.phase} is not drawn"))

        def signed(draft: Draft) -> Statement:
            s = sign(party.name, draft)
            before = party.signed.setdefault(s.key, s)
            if before.payload() != s.payload():
                raise Broken(self._story(f"{party.name} signed two different {s.kind}"))
            return s

        party.job = evolve(old, step, signed)
        self.say(f"{party.name}: {old.phase} → {party.job.phase} #{party.job.attempt}: {step.reason}")

    def _maybe_crash(self, party: Party) -> bool:
        if self.random.random() >= self.crashes:
            return False
        party.down_until = self.now + self.random.choice((0.1, 1, 6, 12))
        party.checks, party.ways, party.heard = None, None, {}
        self.say(f"{party.name} crashes")
        return True

    def _sight(self, party: Party) -> Observed:
        job, now = party.job, self.now + party.skew
        assert job
        silent = {}
        for other in job.others:
            there = self.parties[other]
            same = there.job is not None and there.job.attempt == job.attempt
            shows = same and there.job and there.job.phase in (Phase.STARTING, Phase.RUNNING)
            if shows and self._reachable(other, party.name) and self._reachable(party.name, other):
                party.heard[other] = self.now
            silent[other] = Silence(self.now - party.heard.setdefault(other, self.now))
        running = job.phase in (Phase.STARTING, Phase.RUNNING)
        if not running:
            party.heard, silent = {}, {}
        return Observed(
            now=now,
            timing=TIMING,
            consortium_digest="c" * 64,
            left=frozenset({self.leaving[1]} if self.leaving[0].get(party.name, self.now + 1) <= self.now else ()),
            revoked=frozenset({o for o in self.names if party.name == self._revoker() and self._shut(party.name, o)}),
            held="for an upgrade" if self._holds() == party.name else "",
            maintenance=bool(self._holds()),
            driver=Driver(
                party.drivers.get(job.attempt, "absent"),  # type: ignore[arg-type]
                retryable=True,
                ready=job.attempt in party.loaded,
            ),
            checks=party.checks,
            ways=party.ways,
            told=job.attempt in party.told,
            free_slot=None if party.busy else 0,
            silent=silent,
            initiator_offset=self.parties[job.initiator].skew - party.skew,
            policy=ApprovalBody(verdict="approve", proposal_digest="a" * 64, by="policy"),
            receipts=frozenset(party.receipts),
            due=frozenset(self.names) if self.random.random() < 0.3 else frozenset(),
        )

    def _act(self, party: Party, action: object) -> None:
        job = party.job
        assert job
        match action:
            case RunChecks(attempt):
                wrong = self.random.random()
                party.checks = Checks(attempt, "versions" if wrong < 0.01 else "busy" if wrong < 0.05 else "", "x")
            case ProveWays(attempt, _):
                if party.ways is None or party.ways.attempt != attempt:
                    wrong = self.random.random() < 0.01
                    party.ways = Checks(attempt, "way" if wrong else "", "the way to a peer does not lead there")
            case TellGo(attempt, start_at):
                if attempt in party.told:
                    raise Broken(self._story(f"{party.name} tells go of attempt {attempt} twice"))
                party.told[attempt] = start_at - party.skew
                self.say(f"{party.name} tells go of #{attempt}")
            case Launch(attempt, _):
                if attempt in party.drivers:
                    raise Broken(self._story(f"{party.name} launches attempt {attempt} twice"))
                party.drivers[attempt] = "live"
                party.launched.append(attempt)
                self.say(f"{party.name} launches #{attempt}")
            case StopDriver(attempt):
                if party.drivers.get(attempt) == "live":
                    party.drivers[attempt] = "stopped"
            case Deliver(peer, keys):
                for key in keys:
                    self._send(party.name, peer, job.statements[key])
            case Ask(attempt):
                for peer in job.others:
                    if self._reachable(party.name, peer) and self.random.random() >= self.loss:
                        self._answer(party, self.parties[peer], attempt)

    def _answer(self, asker: Party, asked: Party, attempt: int) -> None:
        """As coordinator.accept.refuse_unpromised."""
        job = asked.job
        if job is None:
            return
        waiting = job.phase in (Phase.PROPOSED, Phase.APPROVED) and job.attempt < attempt
        if waiting and not job.leads and job.decision(attempt) is None:
            body = PromiseBody(verdict="refuse", code="absent", message="x")
            self._sign(asked, Draft(Kind.PROMISE, attempt, body))
            assert asked.job
            job = asked.job = replace(asked.job, attempt=attempt)
        for s in list(job.statements.values()):
            refused = isinstance(s.body, PromiseBody) and s.body.verdict == "refuse"
            if s.attempt == attempt and (s.kind in (Kind.DECISION, Kind.OUTCOME) or refused):
                assert asker.job
                asker.job = asker.job.adding(s)

    def _drivers(self, party: Party) -> None:
        for attempt, state in party.drivers.items():
            if state == "live" and attempt not in party.loaded and self.random.random() < 0.3:
                party.loaded.add(attempt)
            begun = attempt in party.told and attempt in party.loaded and party.told[attempt] <= self.now
            if state == "live" and self.random.random() < (0.04 if begun else 0.001):
                failed = not begun or (self.fails and self.random.random() < 0.5)
                party.drivers[attempt] = "failed" if failed else "succeeded"
                self.say(f"{party.name}: driver #{attempt} {party.drivers[attempt]}")

    def _check(self) -> None:
        """Invariants I1 to I5 and I8 of docs/protocol.md, after every step."""
        known = [p for p in self.parties.values() if p.job]
        launched = {n for p in known for n in p.launched}
        for n in launched:
            for p in self.parties.values():
                own = p.signed.get(Key(n, Kind.PROMISE, p.name))
                if own is None or not isinstance(own.body, PromiseBody) or own.body.verdict != "promise":
                    raise Broken(self._story(f"I2: attempt {n} was launched without the promise of {p.name}"))
        for p in known:
            assert p.job
            if p.job.conflicts:
                raise Broken(self._story(f"I4: {p.name} sees a lie where nobody lies: {p.job.conflicts}"))
            for n in launched:
                aborted = (d := p.job.decision(n)) is not None and d.verdict == "abort"
                refused = (own := p.job.promises(n).get(p.name)) is not None and own.verdict == "refuse"
                if aborted or refused:
                    raise Broken(self._story(f"I1: attempt {n} was launched, {p.name} aborted or refused it"))
            if len(p.launched) != len(set(p.launched)):
                raise Broken(self._story(f"I3: {p.name} launched {p.launched}"))
            for n in p.told:
                unready = [q.name for q in self.parties.values() if Key(n, Kind.READY, q.name) not in q.signed]
                if unready:
                    raise Broken(self._story(f"I8: {p.name} was told go of attempt {n}, {unready} are not ready"))
                ends = p.told[n], *(q.told[n] for q in self.parties.values() if n in q.told)
                if max(ends) - min(ends) > 1e-6:
                    raise Broken(self._story(f"I8: the agreed moments of attempt {n} differ: {ends}"))
        ended = {p.job.phase is Phase.SUCCEEDED for p in known if p.job and p.job.phase.terminal}
        if len(ended) > 1:
            raise Broken(self._story("I5: succeeded at one party, not at another"))

    def _check_end(self) -> None:
        alive = [p for p in self.parties.values() if not p.never_again]
        settled = {p.job.phase for p in self.parties.values() if p.job and p.job.settled}
        if len(settled) > 1:
            raise Broken(self._story(f"I5: settled as {sorted(settled)}"))
        everyone = len(alive) == len(self.parties) and not self._revoker()
        for p in alive:
            if "live" in p.drivers.values() and (p.job is None or p.job.phase is not Phase.RUNNING):
                raise Broken(self._story(f"I6: an orphan driver at {p.name}"))
            if p.job is None:
                continue
            if everyone and not (p.job.phase.terminal and p.job.settled):
                raise Broken(self._story(f"I7: {p.name} is {p.job.phase} ({p.job.settled}), though all are back"))
            hopeful = all(o.status == "succeeded" for o in p.job.outcomes(p.job.attempt).values())
            if not everyone and not p.job.phase.terminal and not (p.job.phase is Phase.ENDING and hopeful):
                raise Broken(self._story(f"I7: {p.name} is {p.job.phase} long after the deadline"))

    def _story(self, what: str) -> str:
        return "\n".join([what, *self.trace])
