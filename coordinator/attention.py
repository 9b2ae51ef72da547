"""What a person of this institution should look at, as short sentences. Derived from the status alone."""

from __future__ import annotations

import shutil
from typing import Any

from coordinator.context import Context

_CERTIFICATE_DAYS = 30
_NEAR = 0.7  # part of a bound at which it is named


def attention(context: Context, status: dict[str, Any]) -> list[str]:
    """Sentences, most urgent first; empty when all is well."""
    disk = shutil.disk_usage(context.config.state_dir)
    return [
        *_own(context.ray_failing_since is not None, disk.free / disk.total, status),
        *(f"{name} is revoked: nothing of it is let in, and no job with it starts." for name in status["revoked"]),
        *_of_peers(status["peers"], context.config.limits.clock_skew_ms),
    ]


def _own(ray_silent: bool, disk_free: float, status: dict[str, Any]) -> list[str]:
    days, slots, kuscia = status["certificate_days"], status["slots"], status["kuscia"]
    silent = kuscia["error"] if kuscia else ""
    found = [
        (bool(status["held"]), f"No attempt begins here {status['held']}"),
        (bool(silent), f"The own Kuscia does not answer as it should: {silent}"),
        (ray_silent, "The own Ray does not answer: drivers cannot be started or seen."),
        (disk_free < 0.05, f"The disk with the state is {100 - disk_free * 100:.0f} % full."),
        (
            days is not None and days < _CERTIFICATE_DAYS,
            f"The gateway's certificate ends in {days} days: consortium rotate certificate",
        ),
        (
            not kuscia and len(slots["used"]) >= slots["all"] and bool(status["jobs"].get("approved")),
            f"Every slot is in use; {status['jobs'].get('approved')} approved job(s) wait.",
        ),
        (bool(status["jobs"].get("diverged")), "A job has diverged: some party signed two contradicting statements."),
    ]
    return [text for wrong, text in found if wrong]


def _of_peers(peers: dict[str, Any], bound_ms: float) -> list[str]:
    found = []
    for name, peer in peers.items():
        if not peer["up"]:
            ages = {"heard": peer["heard_s"], "reached": peer["reached_s"]}
            last = ", ".join(f"last {k} {v:.0f} s ago" if v is not None else f"never {k}" for k, v in ages.items())
            found.append(f"{name} is down: {last}.")
        offset = peer["offset_ms"]
        if offset is not None and abs(offset) > _NEAR * bound_ms:
            found.append(
                f"The clocks of {name} and this party differ by {offset:+.0f} ms; the bound is {bound_ms:g} ms."
            )
        if fault := peer["audit"].get("fault"):
            found.append(f"The audit log of {name} contradicts itself: {fault}")
    return found
