#!/usr/bin/python
"""Ansible module: take workers out of a Ray that runs, without loss. Runs on the head, with Ray's own Python.

Ray gives a drained node no new work, lets it finish its tasks and actors and keep its objects while a job needs them,
and then ends it. (In Ray 2.9 this is the GCS's DrainNode with the reason PREEMPTION: `ray drain-node` came later, and
IDLE_TERMINATION refuses a node that is busy.) A drained node cannot be taken back, only started anew.
"""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterable, Mapping
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: ray_drain
short_description: Drains nodes of Ray and waits, for a round, until they have finished
options:
  names: {description: Host names of the workers that go., type: list, elements: str, required: true}
  until: {description: "When to give up, in seconds since 1970.", type: float, required: true}
  round_s: {description: Seconds until the module answers at the latest., type: float, default: 10.0}
  config: {description: The coordinator's settings., type: path, default: /etc/consortium/coordinator.json}
"""

REASON = "consortium up: fewer workers"
GCS_S = 10
DEAD = 2  # NodeStatus of autoscaler.proto


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

    def __init__(self, address: str, jobs_url: str) -> None:
        from ray._raylet import GcsClient

        self._gcs = GcsClient(address=address, nums_reconnect_retry=0)
        self._jobs_url = jobs_url.rstrip("/")

    def nodes(self) -> dict[str, tuple[str, bool]]:
        """Node id → (name, alive)."""
        found = self._gcs.get_all_node_info(timeout=GCS_S)
        return {node.hex(): (info["node_name"].decode(), info["state"] == 0) for node, info in found.items()}

    def drain(self, node: str) -> None:
        """Ask for it; again is harmless."""
        from ray.core.generated import autoscaler_pb2

        self._gcs.drain_node(node, autoscaler_pb2.DRAIN_NODE_REASON_PREEMPTION, REASON)

    def holder(self, node: str) -> str:
        """Who uses the node, for a person. That it cannot be told must not end the wait."""
        try:
            return held_by(self._drivers(), self._uses(node), self._activity(node))
        except Exception as error:
            return f"who uses it cannot be told: {error}"

    def _activity(self, node: str) -> list[str]:
        from ray.core.generated import autoscaler_pb2

        reply = autoscaler_pb2.GetClusterStatusReply()
        reply.ParseFromString(self._gcs.get_cluster_status())
        states = reply.cluster_resource_state.node_states
        return [text for s in states if s.node_id.hex() == node and s.status != DEAD for text in s.node_activity]

    def _uses(self, node: str) -> list[tuple[str, str]]:
        from ray.util.state import list_actors, list_tasks

        ask = {"address": self._jobs_url, "timeout": GCS_S}
        tasks = list_tasks(filters=[("state", "=", "RUNNING"), ("node_id", "=", node)], **ask)
        actors = list_actors(filters=[("state", "=", "ALIVE"), ("node_id", "=", node)], **ask)
        return [
            *((task.job_id, f"task {task.name}") for task in tasks if task.type == "NORMAL_TASK"),
            *((actor.job_id, f"actor {actor.class_name}") for actor in actors),
        ]

    def _drivers(self) -> dict[str, str]:
        request = urllib.request.Request(f"{self._jobs_url}/api/jobs/", headers={"User-Agent": "ray_drain"})  # noqa: S310 own
        with urllib.request.urlopen(request, timeout=GCS_S) as answer:  # noqa: S310 own
            found = json.load(answer)
        jobs = found.values() if isinstance(found, dict) else found
        return {j["job_id"]: j.get("submission_id") or "" for j in jobs if j["status"] == "RUNNING" and j.get("job_id")}


def wait(ray: Ray, names: Iterable[str], end: float) -> dict[str, str]:
    """Drain, and return who still holds which worker at `end`; empty as soon as all have gone."""
    asked: set[str] = set()
    while there := still_there(names, ray.nodes()):
        for node in there.keys() - asked:
            ray.drain(node)
            asked.add(node)
        if time.time() >= end:
            return {name: ray.holder(node) for node, name in there.items()}
        time.sleep(0.5)
    return {}


def one_round(config: str, names: list[str], end: float) -> tuple[bool, str]:
    """Whether all have gone, and who holds which. A Ray that does not answer may just be restarting."""
    try:
        settings = json.loads(Path(config).read_text())["ray"]
        held = wait(Ray(settings["address"], settings["jobs_url"]), names, end)
    except Exception as error:
        time.sleep(max(0.0, end - time.time()))
        return False, f"the Ray of the head does not answer: {type(error).__name__}: {error}"[:1000]
    return not held, "; ".join(f"{name} is used by {by}" for name, by in sorted(held.items()))


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "names": {"type": "list", "elements": "str", "required": True},
            "until": {"type": "float", "required": True},
            "round_s": {"type": "float", "default": 10.0},
            "config": {"type": "path", "default": "/etc/consortium/coordinator.json"},
        }
    )
    given = module.params
    end = min(time.time() + given["round_s"], given["until"])
    drained, text = one_round(given["config"], given["names"], end)
    module.exit_json(changed=drained, drained=drained, late=time.time() >= given["until"], msg=text)


if __name__ == "__main__":
    main()
