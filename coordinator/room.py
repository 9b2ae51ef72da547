"""Is there room for another job: in the queue, in one party's share of it, on the disks?"""

from __future__ import annotations

import shutil

from coordinator.context import Context


def no_room(context: Context, initiator: str) -> tuple[int, str] | None:
    """Why a new job of `initiator` cannot be taken now, with its HTTP status: 429 = the queue, 507 = a disk."""
    config, limits = context.config, context.config.limits
    me, every, theirs = config.party, *context.store.open_jobs(initiator)
    if every >= limits.open_jobs:
        return 429, f"{every} jobs are open at {me}, at most {limits.open_jobs} (open_jobs): wait or cancel some"
    if theirs >= limits.open_jobs_per_peer:
        most = f"at most {limits.open_jobs_per_peer} (open_jobs_per_peer)"
        return 429, f"{theirs} jobs of {initiator} are open at {me}, {most}: wait until some have ended"
    for name, folder in (("state", config.state_dir), ("jobs", config.jobs_dir)):
        free = shutil.disk_usage(folder).free
        if free < limits.min_free_bytes:
            where = f"{name} folder {folder}" if initiator == me else f"{name} folder"
            return 507, (
                f"{me} takes no new jobs: {free} bytes are free for its {where}, {limits.min_free_bytes} are needed "
                "(min_free_bytes): make room there; jobs that run go on"
            )
    return None
