"""The cases: which fault strikes how, in which phases it makes sense, and for how long it lasts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from enum import StrEnum

from testing import faults
from testing.consortium import Consortium
from testing.faults import FAULTS, Fault
from testing.faults.disk import small_disk
from testing.party import Party
from testing.run import Run


class Phase(StrEnum):
    """When a fault strikes."""

    PENDING = "pending"  # the proposal is at every party, and no person has approved it
    PREPARING = "preparing"  # the struck party checks whether it can take part
    STARTING = "starting"  # the drivers are launched and load; `go` is not given
    RUNNING = "running"  # every driver is connected to all others
    ENDING = "ending"  # the struck party has signed its outcome; the other's driver still runs


class Role(StrEnum):
    """Who is struck."""

    INITIATOR = "initiator"
    PARTICIPANT = "participant"


@dataclass(frozen=True)
class Stage:
    """Where a case is played: alice is the initiator, `old` is a job that succeeded before."""

    consortium: Consortium
    struck: Party
    other: Party
    run: Run
    old: Run


OUTAGE_S, SHORT_S = 13.0, 4.0
"""Longer than `peer_lost_after_s` of the matrix's consortium (8 s) and some more; or shorter."""
ALL = tuple(Phase)
DRIVEN = (Phase.STARTING, Phase.RUNNING)  # phases in which the struck party has a driver
FRESH = (Phase.PENDING, Phase.PREPARING, Phase.STARTING)


@dataclass(frozen=True)
class Entry:
    """One row of the matrix: a fault with its parameters."""

    name: str
    fault: str  # its name in FAULTS
    strike: Callable[[Stage], Fault]
    lasts_s: float = OUTAGE_S
    phases: tuple[Phase, ...] = ALL
    lay: Callable[[Stage], AbstractContextManager[None]] = lambda stage: nullcontext()
    """What is laid before the job begins, so that the strike itself disturbs nothing else."""
    waits_s: float = 0.0
    """How long a fault is in force before the approval that lets the job go on (phase pending)."""

    @property
    def family(self) -> str:
        return FAULTS[self.fault].family

    @property
    def text(self) -> str:
        return FAULTS[self.fault].text


def _parts() -> Iterator[Entry]:
    kill, pause = faults.kill, faults.pause
    yield Entry("kill driver", "kill", lambda s: kill(s.struck, "driver", s.run), 1, DRIVEN)
    yield Entry("pause driver", "pause", lambda s: pause(s.struck, "driver", s.run), phases=DRIVEN)
    yield Entry("kill ray-worker", "kill", lambda s: kill(s.struck, "ray-worker"), 1)
    yield Entry("pause ray-worker", "pause", lambda s: pause(s.struck, "ray-worker"))
    yield Entry("kill ray-head", "kill", lambda s: kill(s.struck, "ray-head"), 1)
    yield Entry("pause ray-head", "pause", lambda s: pause(s.struck, "ray-head"))
    yield Entry("kill coordinator", "kill", lambda s: kill(s.struck, "coordinator"), 1)
    yield Entry("coordinator stays away", "kill", lambda s: kill(s.struck, "coordinator", stays=True))
    yield Entry("pause coordinator", "pause", lambda s: pause(s.struck, "coordinator"))
    yield Entry("kill gateway", "kill", lambda s: kill(s.struck, "gateway"), 1)
    yield Entry("pause gateway", "pause", lambda s: pause(s.struck, "gateway"))
    yield Entry("kill party", "kill", lambda s: kill(s.struck, "party"))
    yield Entry("pause party", "pause", lambda s: pause(s.struck, "party"))
    skew = faults.start_skew
    yield Entry("late driver", "start_skew", lambda s: skew(s.struck, s.run, 3.0), 8, (Phase.STARTING,))
    late = lambda s: skew(s.struck, s.run, 3.0, "coordinator")  # noqa: E731
    yield Entry("late coordinator", "start_skew", late, 8, (Phase.STARTING,))


def _links() -> Iterator[Entry]:
    def between(make: Callable[..., Fault], *more: object) -> Callable[[Stage], Fault]:
        return lambda s: make(s.consortium, s.struck.name, s.other.name, *more)

    yield Entry("cut one way", "cut", between(faults.cut, "there"))
    yield Entry("cut both ways", "cut", between(faults.cut, "both"))
    yield Entry("half-open", "half_open", between(faults.half_open, "both"))
    yield Entry("latency 200 ms", "latency", between(faults.latency, 0.2))
    yield Entry("loss 5 %", "loss", between(faults.loss, 0.05))
    yield Entry("bandwidth 50 kB/s", "bandwidth", between(faults.bandwidth, 50_000.0))


def _trust() -> Iterator[Entry]:
    yield Entry("wrong CA", "wrong_ca", lambda s: faults.wrong_ca(s.consortium, s.struck.name))
    yield Entry(
        "expired certificate", "expired_certificate", lambda s: faults.expired_certificate(s.consortium, s.struck.name)
    )
    yield Entry("revoked peer", "revoked_peer", lambda s: faults.revoked_peer(s.consortium, s.struck.name))


def _gateway() -> Iterator[Entry]:
    answers = faults.gateway_answers
    yield Entry("gateway 401", "gateway_answers", lambda s: answers(s.consortium, s.struck.name, 401))
    yield Entry("gateway 404", "gateway_answers", lambda s: answers(s.consortium, s.struck.name, 404))


def _sidecar() -> Iterator[Entry]:
    # a clock measurement counts until 16 younger ones are there
    offset = lambda s: faults.clock_offset(s.struck, 3.0)  # noqa: E731
    yield Entry("clock offset 3 s", "clock_offset", offset, waits_s=18)
    program = lambda s: faults.changed_program(s.struck, s.run)  # noqa: E731
    yield Entry("changed program", "changed_program", program, SHORT_S)
    yield Entry("changed version", "changed_version", lambda s: faults.changed_version(s.struck), SHORT_S)
    yield Entry("wrong job name", "wrong_job_name", lambda s: faults.wrong_job_name(s.struck), SHORT_S)
    yield Entry("slow checks", "slow_checks", lambda s: faults.slow_checks(s.struck, 4.0), 6, (Phase.PENDING,))


def _disk() -> Iterator[Entry]:
    full = lambda s: faults.disk_full(s.struck)  # noqa: E731
    yield Entry("disk full", "disk_full", full, lay=lambda s: small_disk(s.struck))


def _messages() -> Iterator[Entry]:
    twice = lambda s: faults.duplicated(s.consortium, s.run, s.struck.name, s.other.name)  # noqa: E731
    yield Entry("duplicated messages", "duplicated", twice, SHORT_S)
    again = lambda s: faults.replayed(s.consortium, s.old, s.run, s.struck.name, s.other.name)  # noqa: E731
    yield Entry("replayed messages", "replayed", again, 1)


ENTRIES: dict[str, Entry] = {
    entry.name: entry for family in (_parts, _links, _trust, _gateway, _sidecar, _disk, _messages) for entry in family()
}


@dataclass(frozen=True)
class Case:
    """One cell of the matrix."""

    entry: Entry
    phase: Phase
    role: Role

    @property
    def key(self) -> str:
        return f"{self.entry.name} / {self.phase} / {self.role}"


def all_cases() -> list[Case]:
    """Every case, family by family."""
    return [
        Case(entry, phase, role)
        for entry in ENTRIES.values()
        for phase in Phase
        if phase in entry.phases
        for role in Role
    ]
