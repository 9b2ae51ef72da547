"""What the shell offers after TAB: parties of the workspace, jobs the own coordinator knows.

A completion never complains: with no workspace, or a coordinator that does not answer at once, it offers nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import typer

from consortium.errors import ConsortiumError

Offers = list[tuple[str, str]]
ANSWER_S = 1.0


def own_parties(context: typer.Context, incomplete: str) -> Offers:
    """Parties whose stack is in the workspace."""
    from consortium.cli._common import open_workspace

    try:
        found = open_workspace(_workspace(context)).stacks()
    except ConsortiumError:
        return []
    return [(name, "") for name in found if name.startswith(incomplete)]


def members(context: typer.Context, incomplete: str) -> Offers:
    """Members that consortium.yaml names."""
    from consortium.cli._common import open_workspace
    from consortium.documents import load_consortium

    try:
        found = load_consortium(open_workspace(_workspace(context)).root).members
    except ConsortiumError:
        return []
    return [(name, "") for name in found if name.startswith(incomplete)]


def jobs_here(context: typer.Context, incomplete: str) -> Offers:
    """Every job the own coordinator knows, newest first."""
    return _jobs(context, incomplete, lambda _: True)


def jobs_that_wait_for_approval(context: typer.Context, incomplete: str) -> Offers:
    """Jobs a person of this party is to approve or deny."""
    return _jobs(context, incomplete, lambda job: bool(job.get("approval_wanted")))


def _jobs(context: typer.Context, incomplete: str, fits: Callable[[Mapping[str, Any]], bool]) -> Offers:
    from consortium.cli._common import visible
    from consortium.cli._coordinator import coordinator

    given = context.params
    try:
        own = coordinator(_workspace(context), given.get("party"), given.get("api"), timeout_s=ANSWER_S)
        jobs = own.get("/jobs")["jobs"]
    except ConsortiumError:
        return []
    ids = [(str(job["job_id"]), visible(f"{job['phase']}, by {job['initiator']}")) for job in jobs if fits(job)]
    return [(job_id, what) for job_id, what in ids if job_id.startswith(incomplete)]


def _workspace(context: typer.Context) -> Path | None:
    """The one given to the command, or before its name."""
    given = context.params.get("workspace") or context.find_root().params.get("workspace")
    return Path(str(given)) if given else None
