"""Faults on demand: each is a context manager that breaks one thing, says what it broke, and mends it.

    from testing import faults

    with faults.pause(c.party("bob"), "gateway"):
        assert run.wait().phase == "failed"
    faults.recovered(c)

`relayed` and `all_shimmed` lay what some of them need, once, before a job starts: then they strike at once and disturb
nothing else. docs/faults.md says what each one does to a job, and when.
"""

from testing.faults.disk import disk_full
from testing.faults.fault import FAULTS, Fault
from testing.faults.gateway import gateway_answers
from testing.faults.hands import recovered
from testing.faults.links import bandwidth, cut, half_open, latency, loss, relayed
from testing.faults.messages import duplicated, replayed
from testing.faults.processes import kill, pause, start_skew
from testing.faults.sidecar import (
    all_shimmed,
    changed_program,
    changed_version,
    clock_offset,
    slow_checks,
    wrong_job_name,
)
from testing.faults.trust import expired_certificate, revoked_peer, wrong_ca

__all__ = [
    "FAULTS",
    "Fault",
    "all_shimmed",
    "bandwidth",
    "changed_program",
    "changed_version",
    "clock_offset",
    "cut",
    "disk_full",
    "duplicated",
    "expired_certificate",
    "gateway_answers",
    "half_open",
    "kill",
    "latency",
    "loss",
    "pause",
    "recovered",
    "relayed",
    "replayed",
    "revoked_peer",
    "slow_checks",
    "start_skew",
    "wrong_ca",
    "wrong_job_name",
]
