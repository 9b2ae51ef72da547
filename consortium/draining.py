"""Fewer workers without loss: those that go finish their tasks first, and stay if they do not finish in time.

`Converge` calls this in its update, when it sees that workers are gone from the documents. Their containers are still
there: Pulumi deletes what is no longer declared only after every create and update has succeeded, so an update that
fails here keeps the worker. Not a resource of its own that is deleted before its container: that would also drain
at `consortium down`, where nothing shall be waited for, and could not be told from it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from consortium.ansible import ROLES, AnsibleFailed, Event, HostVars, run_playbook
from consortium.errors import TimedOut

DRAIN = ROLES / "drain.yml"
WAIT = "Wait for the workers that go"
VERDICT = "Say who uses them"
"""Names of tasks: the one says while it waits who uses a worker, the other how that ended."""

Tell = Callable[[str, str], None]
"""(line, severity)."""


class StillInUse(TimedOut):
    """A worker that goes has not finished in time; it stays, and nothing is lost."""


def drain(
    head: tuple[str, HostVars],
    workers: Mapping[str, HostVars],
    *,
    wait_s: float,
    force: bool,
    env: Mapping[str, str],
    tell: Tell,
    private_files: Mapping[str, str] | None = None,
) -> None:
    """Wait, at most `wait_s`, until `workers` have finished. With `force` they go then all the same.

    `head` and `workers` are names with what Ansible needs to reach them. Raises StillInUse, which says who uses what.
    """
    head_name, reach = head
    asked = {"ray_drain_names": sorted(workers), "ray_drain_until": time.time() + wait_s}
    inventory = {
        "head": {head_name: {**reach, **asked}},
        "leaving": {name: {**reach, "drain_keep": not force} for name, reach in workers.items()},
    }
    listener = _Listener(tell)
    try:
        run_playbook(DRAIN, inventory, env=env, on_event=listener, private_files=private_files)
    except AnsibleFailed as failure:
        used = listener.verdict or str(failure)
        if not (force and listener.verdict):
            raise StillInUse(
                f"in use after {wait_s:g} s of waiting (drain.wait_s), so nothing was taken away",
                where=", ".join(sorted(workers)),
                value=used,
                fix="run `consortium up` again later, which waits on; or end the job: consortium job cancel JOB; or "
                "raise `workers` again; `drain: {force: true}` in the stack settings removes it with what runs there",
            ) from failure
        tell(f"taken away by force (drain.force): {used}", "WARNING")
    else:
        tell(f"{', '.join(sorted(workers))}: drained", "INFO")


class _Listener:
    """Shows who is waited for, whenever that changes, and keeps the verdict."""

    def __init__(self, tell: Tell) -> None:
        self._tell, self._last, self.verdict = tell, "", ""

    def __call__(self, event: Event) -> None:
        if event.kind == "failed" and event.task == VERDICT:
            self.verdict = event.message
        elif event.kind == "waiting" and event.task == WAIT and event.message not in ("", self._last):
            self._last = event.message
            self._tell(f"waiting: {event.message}", "INFO")
