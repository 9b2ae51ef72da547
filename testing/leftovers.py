"""What a job has left behind at a party, seen from inside its head: the operator's way in may be down."""

from __future__ import annotations

import json
from typing import Any

from testing.party import Party
from testing.run import Run

_LOOK = """
import json, os, sys, urllib.request
def get(url, token=None):
    request = urllib.request.Request(url)
    if token:
        request.add_header("Authorization", "Bearer " + open(token).read().strip())
    try:
        return json.load(urllib.request.urlopen(request, timeout=4))
    except OSError:
        return None
processes = []
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        arguments = open(f"/proc/{pid}/cmdline").read().replace("\\0", " ").strip()
        group = os.getpgid(int(pid))
    except OSError:
        continue
    processes.append([group, arguments])
print(json.dumps({
    "processes": processes,
    "ray": get("http://127.0.0.1:8265/api/jobs/"),
    "job": get("http://127.0.0.1:8080/api/v1/jobs/" + sys.argv[1], "/etc/consortium/secrets/operator.token"),
}))
"""
ACTOR = "ProxyActor"
"""Rayfed's sender and receiver, as Ray names their processes."""


class Look:
    """One look at a job at a party's head. `None` of `job` or `ray` means that nobody answered there."""

    def __init__(self, party: Party, run: Run) -> None:
        found = _asked(party, run)
        self.run = run
        self.job: dict[str, Any] | None = found["job"]
        self.ray: list[dict[str, Any]] | None = found["ray"]
        self._processes: list[tuple[int, str]] = [(int(group), what) for group, what in found["processes"]]

    @property
    def group(self) -> int | None:
        """Process group of the driver; None while there is none."""
        return next((g for g, what in self._processes if f"/{self.run.job_id}/" in what and "/program/" in what), None)

    def left(self, group: int | None = None) -> list[str]:
        """What still lives of the job: its driver's process group, rayfed's actors, its Ray job, its slot.

        Another job at the same time would be taken for this one by its actors.
        """
        ours = [what for g, what in self._processes if g == group or f"/{self.run.job_id}/" in what or ACTOR in what]
        found = [f"process: {what[:200]}" for what in ours]
        if self.ray is None:
            found.append("Ray does not answer")
        for job in self.ray or ():
            name = str(job.get("submission_id") or "")
            if name.startswith(f"consortium-{self.run.job_id}-") and job["status"] in ("PENDING", "RUNNING"):
                found.append(f"Ray job {name}: {job['status']}")
        if self.job is None:
            found.append("the coordinator does not answer for the job")
        elif self.job["slot"] is not None:
            found.append(f"slot {self.job['slot']}")
        return found


def _asked(party: Party, run: Run) -> dict[str, Any]:
    """Now and then an exec loses the begin of its output; then it is asked again."""
    for _ in range(5):
        code, text = party.head.run("/usr/bin/python3", "-I", "-c", _LOOK, run.job_id)
        try:
            found: dict[str, Any] = json.loads(text) if code == 0 else {}
        except ValueError:
            continue
        if found:
            return found
    raise AssertionError(f"{party.head.name} cannot be looked into: exit code {code}: {text[:500]!r}")
