"""How jobs and the institution look on a terminal. What strangers wrote is shown without control characters."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from consortium.cli._common import ago, out, say, visible

_COLOURS = {"succeeded": "green", "failed": "red", "diverged": "red", "cancelled": "yellow", "running": "cyan"}


def one_line(job: Any, job_id: str) -> None:
    """A job's id and phase after a command."""
    if isinstance(job, Mapping):
        say(visible(f"{job_id}  {job.get('phase', '')}  {job.get('reason', '')}".rstrip()))


class Progress:
    """Says each change of a job's phase or attempt once, with the reason."""

    def __init__(self, console: Console) -> None:
        self._console, self._last = console, ("", 0)

    def show(self, job: Mapping[str, Any]) -> None:
        """Print a line if the job has moved since the last call."""
        now = (str(job.get("phase", "")), int(job.get("attempt", 0)))
        if now != self._last:
            self._last = now
            stamp, attempt = time.strftime("%H:%M:%S"), f"attempt {now[1]}" if now[1] else ""
            words = [w for w in (now[0], attempt, str(job.get("reason", ""))) if w]
            self._console.print(f"{stamp}  {_safe('  '.join(words))}")


def table(jobs: Sequence[Mapping[str, Any]]) -> None:
    """All jobs, newest as the coordinator orders them."""
    if not jobs:
        say("no jobs yet: consortium job submit FOLDER")
        return
    grid = Table()
    for header in ("job", "initiator", "phase", "attempt", "parties", "reason"):
        grid.add_column(header, no_wrap=header in ("job", "phase"))
    for job in jobs:
        parties = ", ".join(f"{p}: {phase}" for p, phase in job.get("parties", {}).items())
        wanted = " (your approval)" if job.get("approval_wanted") else ""
        grid.add_row(
            _safe(job["job_id"]),
            _safe(job.get("initiator", "")),
            _phase(job) + wanted,
            str(job.get("attempt", "")),
            _safe(parties),
            _safe(job.get("reason", "")),
        )
    out.print(grid, soft_wrap=False)


def detail(job: Mapping[str, Any]) -> None:
    """One job at every party, with its history."""
    out.print(f"[bold]{_safe(job['job_id'])}[/]  {_phase(job)}  attempt {job.get('attempt', 0)}")
    if job.get("reason"):
        say(f"reason     {visible(str(job['reason']))}")
    for party, phase in job.get("parties", {}).items():
        say(f"{visible(party):10} {visible(str(phase))}")
    for party, why in job.get("undelivered", {}).items():
        say(visible(f"not delivered to {party}, will be tried again: {why}"))
    for event in job.get("events", []):
        stamp = time.strftime("%H:%M:%S", time.localtime(float(event.get("at", 0))))
        words = [str(event.get(k, "")) for k in ("kind", "to", "reason") if event.get(k)]
        say(f"  {stamp}  {visible('  '.join(words))}")


def log_text(answer: Any) -> str:
    """The log's text, from either form of the API's answer."""
    return str(answer.get("text", answer.get("log", ""))) if isinstance(answer, Mapping) else str(answer)


def status(found: Mapping[str, Any]) -> None:
    """The institution at a glance."""
    out.print(f"[bold]{_safe(found.get('party', ''))}[/] of {_safe(found.get('consortium', ''))}")
    grid = Table()
    for header in ("peer", "", "heard", "clock", "round trip", "error"):
        grid.add_column(header)
    for name, peer in found.get("peers", {}).items():
        up = bool(peer.get("up", peer.get("alive")))
        heard = peer.get("heard_s")
        grid.add_row(
            _safe(name),
            "[green]up[/]" if up else "[red]silent[/]",
            f"{ago(heard)} ago" if isinstance(heard, int | float) else "never",
            _number(peer.get("offset_ms"), "ms"),
            _number(peer.get("round_trip_ms"), "ms"),
            _safe(peer.get("error") or ""),
        )
    if found.get("peers"):
        out.print(grid, soft_wrap=False)
    for name, peer in found.get("peers", {}).items():
        if fault := peer.get("audit", {}).get("fault"):
            out.print(f"[red]audit[/]        {_safe(name)}: {_safe(fault)}")
    if revoked := found.get("revoked"):
        out.print(f"[red]revoked[/]      {_safe(', '.join(revoked))}")
    if held := found.get("held"):
        out.print(f"[red]held[/]         no attempt begins here {_safe(held)}")
    if kuscia := found.get("kuscia"):
        say(f"kuscia       {visible(str(kuscia['url']))}  {visible(str(kuscia['error'])) or 'answers'}")
    slots = found.get("slots", {}) if not kuscia else {}
    if isinstance(slots, Mapping) and slots:
        used = slots.get("used", {})
        say(f"slots        {len(used)} of {slots.get('all')} in use")
    for phase, count in found.get("jobs", {}).items():
        say(f"jobs         {count} {phase}")
    if (days := found.get("certificate_days")) is not None:
        say(f"certificate  {days:.0f} days left")


def _phase(job: Mapping[str, Any]) -> str:
    phase = str(job.get("phase", ""))
    colour = _COLOURS.get(phase)
    return f"[{colour}]{_safe(phase)}[/]" if colour else _safe(phase)


def _number(value: Any, unit: str) -> str:
    return f"{value:g} {unit}" if isinstance(value, int | float) else "?"


def _safe(text: object) -> str:
    return escape(visible(str(text)))
