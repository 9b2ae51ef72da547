"""What may come of a job in each case: a pure function of fault, phase and role, written down before the run.

A job of the matrix has one attempt. `succeeded` means: the fault did no harm, or the parties waited until it was over.
"""

from __future__ import annotations

from dataclasses import dataclass

from testing.matrix.cases import Case, Phase

OK = frozenset({"succeeded"})
FAILED = frozenset({"failed"})
EITHER = OK | FAILED


@dataclass(frozen=True)
class Expected:
    """Phases in which the job may end (the same at both parties), and words of which its reason holds one."""

    phases: frozenset[str]
    causes: tuple[str, ...] = ()
    """Only of a job that failed; empty: any."""


_LOST = (
    "is lost",
    "could not be delivered",
    "not ready",
    "without go",
    "does not answer",
    "no promise",
    "cannot be reached",
    "answered",
    "through both gateways",
    "the program failed",
    "own messages do not come",
    "came too late",
    "the driver",
    "did not come back",
)
"""However two parties put it that one of them does not hear the other."""
_RAY = (*_LOST, "Ray", "driver")
_HARMLESS = dict.fromkeys(Phase, Expected(OK))
_OUTAGE = {
    Phase.PENDING: Expected(EITHER, _LOST),  # an approval given meanwhile starts three rounds of asking for promises
    Phase.PREPARING: Expected(EITHER, _LOST),
    Phase.STARTING: Expected(FAILED, _LOST),
    Phase.RUNNING: Expected(FAILED, _LOST),
    Phase.ENDING: Expected(EITHER, _LOST),  # the other's program may need the peer until its very end
}
_BLIP = {  # the part is back within `peer_lost_after_s`
    Phase.PENDING: Expected(OK),
    Phase.PREPARING: Expected(EITHER, _LOST),
    Phase.STARTING: Expected(EITHER, _LOST),
    Phase.RUNNING: Expected(EITHER, _LOST),
    Phase.ENDING: Expected(OK),
}
_RAY_GONE = {
    Phase.PENDING: Expected(EITHER, _RAY),
    Phase.PREPARING: Expected(EITHER, _RAY),
    Phase.STARTING: Expected(FAILED, _RAY),
    Phase.RUNNING: Expected(FAILED, _RAY),
    Phase.ENDING: Expected(OK),
}
_ANSWERS = _OUTAGE | {
    Phase.PENDING: Expected(FAILED | OK, ("401", "404", *_LOST)),
    Phase.PREPARING: Expected(EITHER, ("401", "404", *_LOST)),
    Phase.STARTING: Expected(FAILED, ("401", "404", *_LOST)),
    Phase.RUNNING: Expected(FAILED, ("401", "404", *_LOST)),
}
_NOT_FROM_STARTING = {Phase.STARTING: Expected(OK), Phase.RUNNING: Expected(OK), Phase.ENDING: Expected(OK)}

TABLE: dict[str, dict[Phase, Expected]] = {
    "kill driver": {
        Phase.STARTING: Expected(FAILED, ("driver",)),
        Phase.RUNNING: Expected(FAILED, ("driver",)),
    },
    "pause driver": {
        # it has loaded, or loads when it goes on: within `start_window_s` there is time
        Phase.STARTING: Expected(OK),
        # it sleeps anyway, and its coordinator speaks for it
        Phase.RUNNING: Expected(OK),
    },
    # programs of the matrix run on the head; a worker gives room only
    "kill ray-worker": _HARMLESS,
    "pause ray-worker": _HARMLESS,
    "kill ray-head": _RAY_GONE,
    "pause ray-head": _RAY_GONE,
    "kill coordinator": _HARMLESS,
    "coordinator stays away": _OUTAGE | {Phase.ENDING: Expected(OK)},
    "pause coordinator": _OUTAGE | {Phase.ENDING: Expected(OK)},
    "kill gateway": _BLIP,
    "pause gateway": _OUTAGE,
    "kill party": _OUTAGE,
    "pause party": _OUTAGE,
    "late driver": {Phase.STARTING: Expected(OK)},
    "late coordinator": {Phase.STARTING: Expected(OK)},
    "cut one way": _OUTAGE,
    "cut both ways": _OUTAGE,
    "half-open": _OUTAGE,
    "latency 200 ms": _HARMLESS,
    "loss 5 %": _HARMLESS,
    "bandwidth 50 kB/s": _HARMLESS,
    "wrong CA": _OUTAGE,
    "expired certificate": _OUTAGE,
    "revoked peer": _OUTAGE,
    "gateway 401": _ANSWERS,
    "gateway 404": _ANSWERS,
    "clock offset 3 s": {
        Phase.PENDING: Expected(FAILED, ("the clocks of",)),
        Phase.PREPARING: Expected(EITHER, ("the clocks of",)),
        # `go` is told by the offset that was measured: a clock that is set meanwhile begins at another moment
        **_NOT_FROM_STARTING,
    },
    "changed program": {
        Phase.PENDING: Expected(FAILED, ("the program differs",)),
        Phase.PREPARING: Expected(FAILED, ("the program differs",)),
        **_NOT_FROM_STARTING,
    },
    "changed version": {
        Phase.PENDING: Expected(FAILED, ("secretflow differs",)),
        Phase.PREPARING: Expected(FAILED, ("secretflow differs",)),
        **_NOT_FROM_STARTING,
    },
    "wrong job name": {
        Phase.PENDING: Expected(FAILED, ("the job's name differs",)),
        Phase.PREPARING: Expected(FAILED, ("the job's name differs", "through both gateways")),
        # after the decision it shows in the ways of the data, unless they are proved already
        Phase.STARTING: Expected(EITHER, ("through both gateways", "417", "is lost", "driver", "the program failed")),
        Phase.RUNNING: Expected(OK),
        Phase.ENDING: Expected(OK),
    },
    "slow checks": {Phase.PENDING: Expected(OK)},
    "disk full": {
        Phase.PENDING: Expected(EITHER, ("No space", "cannot be written", "full", *_LOST)),
        Phase.PREPARING: Expected(EITHER, ("No space", "cannot be written", "full", *_LOST)),
        Phase.STARTING: Expected(EITHER, ("No space", "cannot be written", "full", *_LOST)),
        Phase.RUNNING: Expected(EITHER, ("No space", "cannot be written", "full", *_LOST)),
        Phase.ENDING: Expected(OK),
    },
    "duplicated messages": _HARMLESS,
    "replayed messages": _HARMLESS,
}


def expected(case: Case) -> Expected:
    """What may come of a case. Raises KeyError for one that nobody has thought about."""
    return TABLE[case.entry.name][case.phase]
