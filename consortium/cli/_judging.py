"""Approve and deny: show what is to be signed, ask, and sign exactly that."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from consortium.cli import _program_output as show
from consortium.cli._common import confirm, emit, say
from consortium.cli._job_output import one_line
from consortium.client import Coordinator
from consortium.errors import Refused, UsageError

DiffOnlyOption = Annotated[
    bool, typer.Option("--diff-only", help="Show only what changed since the last approved program of this name.")
]
FullOption = Annotated[bool, typer.Option("--full", help="Show every file, those that did not change too.")]
_QUESTIONS = {
    "approve": "Approve this program on this institution's data?",
    "deny": "Deny this job, so that it ends at every party?",
}


def part_of(diff_only: bool, full: bool) -> show.Part:
    """How much of a program is shown. Raises UsageError."""
    if diff_only and full:
        raise UsageError("one excludes the other", where="--diff-only, --full")
    return show.Part.DIFF if diff_only else show.Part.ALL if full else show.Part.CHANGED


def judge(
    own: Coordinator, verb: str, job: str, *, wait_s: float, reason: str, part: show.Part, yes: bool, as_json: bool
) -> None:
    """Show the job, ask unless `yes`, sign. Raises UsageError, Refused, TimedOut, Unreachable."""
    if as_json and not yes:
        raise UsageError("--json shows nothing and asks nothing", where=f"consortium job {verb}", fix="add --yes")
    path = f"/jobs/{job}"
    found = own.wait(path, _arrived, wait_s, f"the arrival of job {job}") if verb == "approve" else own.get(path)
    program = own.get(f"{path}/program") if found["bundle_ready"] else None
    shown = found["proposal_digest"]
    if program and program["proposal_digest"] != shown:
        raise Refused("the coordinator shows the program of another proposal", where=job, value=str(program)[:200])
    if not as_json:
        show.proposal(found)
        if program:
            show.program(program, part)
        else:
            say("the job folder is not here yet")
    confirm(_QUESTIONS[verb], yes)
    answer = own.post(f"{path}/{verb}", data={"reason": reason, "proposal_digest": shown})
    emit(answer, as_json, lambda: one_line(answer, job))


def _arrived(job: Any) -> bool:
    # A job that has ended meanwhile has nothing to wait for; the coordinator says so at once.
    return bool(job["bundle_ready"] or job["terminal"])
