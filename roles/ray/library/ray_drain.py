#!/usr/bin/python
"""Ansible module: take workers out of a Ray that runs, without loss. Runs on the head, with Ray's own Python.

Ray gives a drained node no new work, lets it finish its tasks and actors, and then ends it. (In Ray 2.9 this is
DrainNode of the GCS, reason PREEMPTION: `ray drain-node` came later, and IDLE_TERMINATION refuses a node that is busy.)
So that answers nobody has fetched yet are not lost with it, a job of Ray holds it until then: see files/finishing.py.
A drained node cannot be taken back, only started anew.
"""

from __future__ import annotations

import json
import shlex
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: ray_drain
short_description: Drains nodes of Ray and waits, for a round, until they have finished
options:
  names: {description: Host names of the workers that go., type: list, elements: str, required: true}
  watch: {description: The program that holds a drained node while it is needed., type: str, required: true}
  until: {description: "When to give up, in seconds since 1970.", type: float, required: true}
  round_s: {description: Seconds until the module answers at the latest., type: float, default: 10.0}
  config: {description: The coordinator's settings., type: path, default: /etc/consortium/coordinator.json}
"""

REASON = "consortium up: fewer workers"
GCS_S = 10
DEAD, DRAINING = 2, 4  # NodeStatus of autoscaler.proto
WATCH = "finishing-"
"""Before a node's id: the name of the Ray job that holds it."""
BIT = 0.001
"""Of the resource that stands for the node's address: binds the job to it."""


def still_there(names: Iterable[str], nodes: Mapping[str, tuple[str, bool]]) -> dict[str, str]:
    """Node id → name of those of `names` that Ray still counts. `nodes`: id → (name, alive)."""
    wanted = set(names)
    return {node: name for node, (name, alive) in nodes.items() if alive and name in wanted}


def held_by(drivers: Mapping[str, str], uses: Iterable[tuple[str, str]], activity: Iterable[str]) -> str:
    """Who uses a node, for a person. `drivers`: Ray's job id → submission id; `uses`: (Ray's job id, what)."""
    found = sorted({f"{what} of {_job(drivers.get(job, ''), job)}" for job, what in uses})
    if found:
        return ", ".join(found)
    jobs = sorted({_job(submission, job) for job, submission in drivers.items()})
    what = " ".join(sorted(activity)) or "Ray does not say what."
    return f"data of {' or '.join(jobs)} ({what})" if jobs else what


def _job(submission: str, ray_job: str) -> str:
    """`consortium-<job>-<attempt>` is how the coordinator names a driver; others may run beside it."""
    job, _, attempt = submission.removeprefix("consortium-").rpartition("-")
    if submission.startswith("consortium-") and job:
        return f"job {job}, attempt {attempt}"
    return f"Ray job {submission or ray_job}"


class Ray:
    """What has to be asked of the running Ray. Every call is bounded."""

    def __init__(self, address: str, jobs_url: str, watch: str) -> None:
        from ray._raylet import GcsClient

        self._gcs = GcsClient(address=address, nums_reconnect_retry=0)
        self._jobs_url = jobs_url.rstrip("/")
        self._watch = watch

    def nodes(self) -> dict[str, tuple[str, bool]]:
        """Node id → (name, alive)."""
        found = self._gcs.get_all_node_info(timeout=GCS_S)
        return {node.hex(): (info["node_name"].decode(), info["state"] == 0) for node, info in found.items()}

    def draining(self, node: str) -> bool:
        """Whether the node is drained already."""
        return any(state.status == DRAINING for state in self._states(node))

    def watched(self, node: str) -> bool:
        """Have the watch run on a node; whether it does by now. Raises RuntimeError when it failed."""
        job = WATCH + node
        found = self._call("GET", f"/api/jobs/{job}", missing={})
        if found.get("status") in ("SUCCEEDED", "STOPPED", "FAILED"):  # it saw nothing to wait for before the drain
            self._call("DELETE", f"/api/jobs/{job}")
            if found["status"] == "FAILED":
                raise RuntimeError(f"Ray job {job} failed: {found.get('message')}")
            found = {}
        if not found:
            program = shlex.join([sys.executable, "-c", self._watch, node])
            bit = {f"node:{state.node_ip_address}": BIT for state in self._states(node)}
            body = {"submission_id": job, "entrypoint": f"exec {program}", "entrypoint_resources": bit}
            self._call("POST", "/api/jobs/", body)
        return found.get("status") == "RUNNING"

    def drain(self, node: str) -> None:
        """Ask for it; again is harmless."""
        from ray.core.generated import autoscaler_pb2

        self._gcs.drain_node(node, autoscaler_pb2.DRAIN_NODE_REASON_PREEMPTION, REASON)

    def holder(self, node: str) -> str:
        """Who uses the node, for a person. That it cannot be told must not end the wait."""
        try:
            uses = self._uses(node)
            if not uses and not self.draining(node):
                return f"nobody that is known; its drain begins when Ray job {WATCH}{node} runs there"
            activity = [text for s in self._states(node) if s.status != DEAD for text in s.node_activity]
            return held_by(self._drivers(), uses, activity)
        except Exception as error:
            return f"who uses it cannot be told: {error}"

    def _states(self, node: str) -> list[Any]:
        from ray.core.generated import autoscaler_pb2

        reply = autoscaler_pb2.GetClusterStatusReply()
        reply.ParseFromString(self._gcs.get_cluster_status())
        return [state for state in reply.cluster_resource_state.node_states if state.node_id.hex() == node]

    def _uses(self, node: str) -> list[tuple[str, str]]:
        from ray.util.state import list_actors, list_tasks

        ask = {"address": self._jobs_url, "timeout": GCS_S}
        tasks = list_tasks(filters=[("state", "=", "RUNNING"), ("node_id", "=", node)], **ask)
        actors = list_actors(filters=[("state", "=", "ALIVE"), ("node_id", "=", node)], **ask)
        return [
            *((task.job_id, f"task {task.name}") for task in tasks if task.type == "NORMAL_TASK"),
            *((a.job_id, f"actor {a.class_name}") for a in actors if not (a.name or "").endswith(WATCH + node)),
        ]

    def _drivers(self) -> dict[str, str]:
        found = self._call("GET", "/api/jobs/")
        jobs = found.values() if isinstance(found, dict) else found
        return {j["job_id"]: j.get("submission_id") or "" for j in jobs if j["status"] == "RUNNING" and j.get("job_id")}

    def _call(self, method: str, path: str, body: object = None, missing: Any = None) -> Any:
        """The Jobs API's answer; `missing` stands for a 404."""
        request = urllib.request.Request(  # noqa: S310 the head's own
            self._jobs_url + path,
            data=None if body is None else json.dumps(body).encode(),
            headers={"User-Agent": "ray_drain", "Content-Type": "application/json"},
            method=method,
        )
        try:
            with urllib.request.urlopen(request, timeout=GCS_S) as answer:  # noqa: S310
                return json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code == 404 and missing is not None:
                return missing
            raise RuntimeError(
                f"{method} {path}: HTTP {error.code}: {error.read(1000).decode(errors='replace')}"
            ) from error


def wait(ray: Ray, names: Iterable[str], end: float) -> dict[str, str]:
    """Drain, and return who still holds which worker at `end`; empty as soon as all have gone."""
    asked: set[str] = set()
    while there := still_there(names, ray.nodes()):
        for node in there.keys() - asked:
            if ray.draining(node):
                asked.add(node)
            elif ray.watched(node):
                ray.drain(node)
        if time.time() >= end:
            return {name: ray.holder(node) for node, name in there.items()}
        time.sleep(0.5)
    return {}


def one_round(config: str, names: list[str], watch: str, end: float) -> tuple[bool, str]:
    """Whether all have gone, and who holds which. A Ray that does not answer may just be restarting."""
    try:
        settings = json.loads(Path(config).read_text())["ray"]
        held = wait(Ray(settings["address"], settings["jobs_url"], watch), names, end)
    except Exception as error:
        time.sleep(max(0.0, end - time.time()))
        return False, f"the Ray of the head does not do as asked: {type(error).__name__}: {error}"[:1000]
    return not held, "; ".join(f"{name} is used by {by}" for name, by in sorted(held.items()))


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "names": {"type": "list", "elements": "str", "required": True},
            "watch": {"type": "str", "required": True},
            "until": {"type": "float", "required": True},
            "round_s": {"type": "float", "default": 10.0},
            "config": {"type": "path", "default": "/etc/consortium/coordinator.json"},
        }
    )
    given = module.params
    end = min(time.time() + given["round_s"], given["until"])
    drained, text = one_round(given["config"], given["names"], given["watch"], end)
    module.exit_json(changed=drained, drained=drained, late=time.time() >= given["until"], msg=text)


if __name__ == "__main__":
    main()
