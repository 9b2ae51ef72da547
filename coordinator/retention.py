"""Removing the folders of jobs that ended long ago: programs, session files, output, bundles. Records stay for ever."""

from __future__ import annotations

import shutil
import time

import structlog

from coordinator.context import Context

log = structlog.get_logger()
_AT_ONCE = 100


class Retention:
    """Removes the folders of jobs that ended `keep_jobs_days` ago and are settled."""

    def __init__(self, context: Context) -> None:
        self._c = context
        self._tried: set[str] = set()  # what a program left in folders of its own user may stay; once is enough

    async def sweep(self) -> list[str]:
        """Remove up to a hundred jobs' folders; returns their ids. Raises StoreError.

        One audit record names them, and is on the disk before anything is removed.
        """
        days = self._c.config.limits.keep_jobs_days
        old, programs_in_use = self._c.store.ended_before(time.time() - days * 86400)
        bundles = {job_id: self._c.bundle_path(digest) for job_id, digest in old if digest not in programs_in_use}
        removed = [
            job_id
            for job_id, _ in old
            if job_id not in self._tried
            and ((self._c.config.jobs_dir / job_id).is_dir() or (job_id in bundles and bundles[job_id].exists()))
        ][:_AT_ONCE]
        if not removed:
            return []
        why = f"the folders of {len(removed)} jobs that ended {days:g} days ago and more"
        self._c.store.note(time.time(), "removed", why, jobs=removed)
        await self._c.store.durable()
        for job_id in removed:
            self._tried.add(job_id)
            shutil.rmtree(self._c.config.jobs_dir / job_id, onerror=_left_over)
            if job_id in bundles:
                try:
                    bundles[job_id].unlink(missing_ok=True)
                except OSError as e:
                    log.warning("cannot be removed", path=str(bundles[job_id]), error=str(e))
        return removed


def _left_over(_function: object, path: str, why: tuple[type[BaseException], BaseException, object]) -> None:
    if not isinstance(why[1], FileNotFoundError):
        log.warning("cannot be removed", path=path, error=str(why[1]))
