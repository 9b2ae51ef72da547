"""Plays one case against a real consortium, and finds what is not as it must be."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from consortium.client import Coordinator, operator_token, operator_url
from consortium.errors import ConsortiumError, TimedOut
from testing import faults
from testing.consortium import Consortium
from testing.faults.fault import until
from testing.faults.sidecar import shown
from testing.leftovers import Look
from testing.matrix.cases import Case, Phase, Role, Stage
from testing.matrix.expected import expected
from testing.matrix.program import job
from testing.matrix.results import Seen, plain
from testing.party import Party
from testing.run import Run

TIMEOUTS = {"start_window_s": 60, "heartbeat_s": 1, "peer_lost_after_s": 8, "message_s": 20, "job_s": 300}
"""Of the matrix's consortium: short where a case has to wait for it, generous where a slow machine does."""
REACH_S = 120.0
END_S = 120.0
"""From the end of the fault to the end of the job: the start window, a program, and a peer that counts as lost."""
GONE_S = 20.0
CHECKS_S = 3.0
"""In the phase `preparing` the checks take so much longer, or it would be over before anything can strike."""
LOOK_S = 0.05


class Player:
    """Plays cases, one after the other. alice is always the initiator."""

    def __init__(self, consortium: Consortium) -> None:
        self.consortium = consortium
        self._alice, self._bob = consortium.party("alice"), consortium.party("bob")
        self._quick = {p.name: _quick(p) for p in consortium.parties.values()}
        self.acknowledged: list[Run] = []
        self._old = self.trivial()

    def trivial(self) -> Run:
        """A job without a fault. Raises AssertionError unless it succeeds at both."""
        run = self._alice.submit(job(None))
        self.acknowledged.append(run)
        for party in run.parties:
            outcome = run.wait(REACH_S, party)
            assert outcome.phase == "succeeded", f"a job without a fault {outcome.phase} at {party}: {outcome.reason}"
        return run

    def play(self, case: Case) -> Seen:
        """One case, start to end; whatever is wrong is in `problems`. The consortium is whole again afterwards.

        Raises ConsortiumError if the fault cannot be undone: then no other case can be played here.
        """
        began, problems = time.monotonic(), list[str]()
        struck, other = (self._alice, self._bob) if case.role is Role.INITIATOR else (self._bob, self._alice)
        with ExitStack() as laid:
            run = self._alice.submit(job(case), approve=())
            stage = Stage(self.consortium, struck, other, run, self._old)
            laid.enter_context(case.entry.lay(stage))
            self.acknowledged.append(run)
            run.wait_for("bundle_ready", "bob")
            struck_in, says, groups = self._strike(case, stage, problems)
            faults.recovered(self.consortium)
            self._approve(run)
            views = {p: self._end(run, p, problems) for p in run.parties}
            problems += self._left(run, groups)
        problems += _judge(case, views)
        return Seen(
            says=plain(says),
            struck_in=struck_in,
            ended={p: str(view.get("phase")) for p, view in views.items()},
            causes={p: plain(_cause(p, view)) for p, view in views.items()},
            seconds=round(time.monotonic() - began, 1),
            problems=[plain(problem) for problem in problems],
        )

    def _strike(self, case: Case, stage: Stage, problems: list[str]) -> tuple[str, str, dict[str, int | None]]:
        """Bring the job to the phase, strike, and let the fault last. What the phase was, and what the fault says."""
        run, struck = stage.run, stage.struck
        early = case.entry.fault == "start_skew"  # it strikes by itself
        with ExitStack() as slow:
            if case.phase is Phase.PREPARING:
                for party in self.consortium.parties.values():
                    slow.enter_context(shown(party, checks_s=CHECKS_S))
            if case.phase is not Phase.PENDING and not early:
                self._approve(run)
            try:
                reached = self._reach(case, stage) if not early else "before the start"
            except (TimedOut, AssertionError) as error:
                problems.append(f"the case could not be set up: {error}")
                return "never", "", {}
            groups = {p.name: Look(p, run).group for p in self.consortium.parties.values()}
            fault = case.entry.strike(stage)
            try:
                with fault:
                    if early:
                        self._approve(run)
                    if case.phase is Phase.PENDING:
                        time.sleep(case.entry.waits_s)
                        self._approve(run)
                    self._last(case.entry.lasts_s, run, stage.other)
            except AssertionError as error:
                problems.append(f"the fault did not strike as it should: {error}")
            return f"{reached} at {struck.name}", fault.says, groups

    def _reach(self, case: Case, stage: Stage) -> str:
        run, name = stage.run, stage.struck.name
        tests: dict[Phase, Callable[[], object]] = {
            Phase.PENDING: lambda: True,
            Phase.PREPARING: lambda: self._view(run, name).get("phase") == "preparing",
            Phase.STARTING: lambda: all(
                self._view(run, p.name).get("phase") == "running" and Look(p, run).group
                for p in self.consortium.parties.values()
            ),
            Phase.RUNNING: lambda: all(self._connected(run, p) for p in self.consortium.parties.values()),
            Phase.ENDING: lambda: self._view(run, name).get("phase") == "ending",
        }

        def look() -> object:
            for party in run.parties:
                view = self._view(run, party)
                assert not view.get("terminal"), f"the job is {view['phase']} at {party} before: {view['reason']}"
            return tests[case.phase]()

        until(look, f"phase {case.phase} at {name}", REACH_S, LOOK_S)
        return str(self._view(run, name).get("phase", "unknown"))

    def _connected(self, run: Run, party: Party) -> bool:
        path = f"/var/lib/consortium-jobs/{run.job_id}/1/output/session.json"
        return party.head.run("grep", "-q", "sf_init_done_at", path)[0] == 0

    def _last(self, seconds: float, run: Run, other: Party) -> None:
        """As long as the fault lasts, or until the other party has nothing more to wait for."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            view = self._view(run, other.name)
            if view.get("terminal") and view.get("settled"):
                return
            time.sleep(0.3)

    def _approve(self, run: Run) -> None:
        """A person of bob says yes, if bob's coordinator can be asked; once."""
        try:
            if self._quick["bob"].get(f"/jobs/{run.job_id}")["approval_wanted"]:
                self._quick["bob"].post(f"/jobs/{run.job_id}/approve")
        except ConsortiumError:
            return  # it is struck: after the fault it is asked again

    def _view(self, run: Run, party: str) -> dict[str, Any]:
        try:
            return dict(self._quick[party].get(f"/jobs/{run.job_id}"))
        except ConsortiumError:
            return {}

    def _end(self, run: Run, party: str, problems: list[str]) -> dict[str, Any]:
        """The job once it has ended at a party; one that hangs is cancelled, and is a problem."""
        ended = lambda: bool((view := self._view(run, party)).get("terminal") and view.get("settled"))  # noqa: E731
        try:
            until(ended, f"the end of the job at {party}", END_S)
        except TimedOut as error:
            view = self._view(run, party)
            problems.append(f"hangs: {error.what}; phase {view.get('phase')}: {view.get('reason')}")
            run.cancel(party, "it hangs")
        return self._view(run, party)

    def _left(self, run: Run, groups: dict[str, int | None]) -> list[str]:
        found: list[str] = []
        for party in self.consortium.parties.values():
            try:
                until(lambda p=party: not Look(p, run).left(groups.get(p.name)), "", GONE_S)  # type: ignore[misc]
            except TimedOut:
                found += [f"left at {party.name}: {what}" for what in Look(party, run).left(groups.get(party.name))]
        return found

    def records(self) -> list[str]:
        """Problems of the audit logs, and acknowledged jobs that a party does not know or ended otherwise."""
        found: list[str] = []
        for party in self.consortium.parties.values():
            try:
                party.cli("audit", "verify")
            except ConsortiumError as error:
                found.append(f"audit verify at {party.name}: {error}")
        for run in self.acknowledged:
            views = {p: self._view(run, p) for p in run.parties}
            if not all(views.values()):
                found.append(f"job {run.job_id} is not known everywhere: {sorted(p for p in views if not views[p])}")
            elif len({view["phase"] for view in views.values()}) > 1:
                found.append(f"job {run.job_id} diverges: { {p: v['phase'] for p, v in views.items()} }")
        return found


def _quick(party: Party) -> Coordinator:
    """For questions to a coordinator that may be struck."""
    return Coordinator(
        operator_url(party.workspace, party.name), operator_token(party.workspace, party.name), timeout_s=2
    )


def _judge(case: Case, views: dict[str, dict[str, Any]]) -> list[str]:
    """Compare what came of it with what may."""
    allowed, found = expected(case), list[str]()
    phases = {view.get("phase") for view in views.values()}
    if len(phases) > 1:
        found.append(f"diverges: {sorted(map(str, phases))}")
    if not phases <= allowed.phases:
        found.append(f"ended {sorted(map(str, phases))}, expected {sorted(allowed.phases)}")
    if phases == {"failed"} and allowed.causes:
        told = {p: f"{_cause(p, view)} {view.get('reason')}" for p, view in views.items()}
        found += [
            f"cause not expected at {party}: {text}"
            for party, text in told.items()
            if not any(word in text for word in allowed.causes)
        ]
    return found


def _cause(party: str, view: dict[str, Any]) -> str:
    own = view.get("outcomes", {}).get(party)
    if own and own["status"] != "succeeded":
        return f"{own['cause']}: {own['error']}"
    return "" if view.get("phase") == "succeeded" else str(view.get("reason", ""))
