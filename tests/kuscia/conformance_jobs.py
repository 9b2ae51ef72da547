"""Jobs: KusciaAPI's calls for them, and `Play`, which stands for Kuscia's controllers and its way between parties."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tests.kuscia.api_server import ApiServer, Rejected
from tests.kuscia.conformance_objects import VALIDATE, Failed, Json, made, need

CROSS = "cross-domain"
LABEL, CUSTOM = "kuscia.secretflow/", "kuscia.job.custom-fields/"
STATES = ("Pending", "Running", "Succeeded", "Failed", "AwaitingApproval", "ApprovalReject", "Cancelled", "Suspended")
HEARTBEAT_S = 1.0
"""Kuscia's is 10 s; what is tested does not depend on it."""
ENDED = ("Succeeded", "Failed", "Cancelled", "ApprovalReject")


class Jobs:
    """One party's jobs in its API server."""

    def __init__(self, party: str, store: ApiServer) -> None:
        self.party, self.store = party, store
        self.closing = threading.Event()
        self.logs: dict[str, list[str]] = {}
        """Task → what it printed at this party."""

    def calls(self) -> dict[str, Callable[[Json], Json]]:
        stages = {"stop": ("Stop", 11205), "cancel": ("Cancel", 11209)}
        return {
            "create": self._create,
            "query": lambda body: self._told(self.get(_id(body), 11202)),
            "delete": self._delete,
            "approve": self._approve,
            "status/batchQuery": self._states,
            "suspend": lambda body: self._stage(body, "Suspend", 11207, ("Running",), 11210),
            "restart": lambda body: self._stage(body, "Restart", 11208, ("Failed", "Suspended"), 11211),
            **{name: (lambda body, s=stage, c=code: self._stage(body, s, c)) for name, (stage, code) in stages.items()},
        }

    def get(self, job_id: str, code: int = 0) -> Json:
        """The object. Raises Failed with the code of the call, in the words of Kubernetes."""
        try:
            return self.store.read(made("KusciaJob", job_id, {}), CROSS)
        except Rejected as error:
            raise Failed(code, str(error).partition(": ")[2]) from None

    def all(self) -> list[Json]:
        return list(self.store.call("GET", self._path())["items"])

    def named(self, job_id: str, tasks: list[Json]) -> None:
        """Give the tasks their ids, as soon as everybody has agreed."""
        job = self.get(job_id)
        if job["spec"]["tasks"] != tasks:
            self.store.call("PUT", f"{self._path()}/{job_id}", {**job, "spec": {**job["spec"], "tasks": tasks}})

    def status(self, job_id: str, **fields: Any) -> None:
        """Set fields of the status."""
        path = f"{self._path()}/{job_id}/status"
        headers = {"Content-Type": "application/merge-patch+json"}
        body = json.dumps({"status": fields})
        self.store.client.patch(path, content=body, headers=headers).raise_for_status()

    def _path(self) -> str:
        return self.store.path(made("KusciaJob", "x", {}), CROSS)

    def _create(self, body: Json) -> Json:
        need(body, "job_id", "initiator", "tasks")
        if body["initiator"] != self.party:
            raise Failed(VALIDATE, f"initiator is {body['initiator']}, but initiator must be {self.party} in P2P")
        names = {
            "alias": "alias", "task_id": "taskID", "app_image": "appImage", "task_input_config": "taskInputConfig",
            "dependencies": "dependencies", "priority": "priority",
        }  # fmt: skip
        tasks = []
        for task in body["tasks"]:
            need(task, "alias", "parties")
            parties = [{"domainID": p["domain_id"], **({"role": p["role"]} if p.get("role") else {})}
                       for p in task["parties"]]  # fmt: skip
            tasks.append({key: task[name] for name, key in names.items() if task.get(name)} | {"parties": parties})
            tasks[-1].setdefault("taskID", f"{body['job_id']}-{task['alias']}")
        spec = {
            "initiator": body["initiator"], "maxParallelism": max(1, body.get("max_parallelism", 1)),
            "scheduleMode": "BestEffort", "tasks": tasks,
        }  # fmt: skip
        labels = {f"{CUSTOM}{key}": value for key, value in body.get("custom_fields", {}).items()}
        try:
            self.store.create(made("KusciaJob", body["job_id"], spec, CROSS, labels))
        except Rejected as error:
            raise Failed(11201, str(error).partition(": ")[2]) from None
        return {"job_id": body["job_id"]}

    def _delete(self, body: Json) -> Json:
        job = self.get(_id(body), 11204)
        self.store.call("DELETE", f"{self._path()}/{job['metadata']['name']}")
        return {"job_id": body["job_id"]}

    def _approve(self, body: Json) -> Json:
        results = {"APPROVE_RESULT_ACCEPT": "JobAccepted", 1: "JobAccepted",
                   "APPROVE_RESULT_REJECT": "JobRejected", 2: "JobRejected"}  # fmt: skip
        if body.get("result") not in results:
            raise Failed(VALIDATE, "request result must be legal")
        job = self.get(_id(body), 11206)
        answers = {**job.get("status", {}).get("approveStatus", {}), self.party: results[body["result"]]}
        self.status(body["job_id"], approveStatus=answers)
        return {"job_id": body["job_id"]}

    def _states(self, body: Json) -> Json:
        if not body.get("job_ids"):
            raise Failed(VALIDATE, "job ids can not be empty")
        return {"jobs": [self._status_of(self.get(job_id, 11203)) for job_id in body["job_ids"]]}

    def _stage(self, body: Json, stage: str, code: int, phases: tuple[str, ...] = (), refused: int = 0) -> Json:
        job = self.get(_id(body), code)
        phase = job.get("status", {}).get("phase", "")
        if phases and phase not in phases:
            raise Failed(refused, f"job: {body['job_id']} current status is {phase} can not be {stage.lower()}.")
        labels = job["metadata"].setdefault("labels", {})
        version = int(labels.get(f"{LABEL}job-stage-version", 0)) + 1
        labels |= {f"{LABEL}job-stage": stage, f"{LABEL}job-stage-trigger": self.party,
                   f"{LABEL}job-stage-version": str(version)}  # fmt: skip
        self.store.call("PUT", f"{self._path()}/{body['job_id']}", job)
        return {"job_id": body["job_id"]}

    def _told(self, job: Json) -> Json:
        tasks = [
            {
                "app_image": t["appImage"], "alias": t["alias"], "task_id": t.get("taskID", ""),
                "parties": [
                    {"domain_id": p["domainID"], "role": p.get("role", ""), "resources": None, "bandwidth_limits": []}
                    for p in t["parties"]
                ],
                "dependencies": t.get("dependencies", []), "task_input_config": t["taskInputConfig"],
                "priority": t.get("priority", 0), "schedule_config": None,
            }
            for t in job["spec"]["tasks"]
        ]  # fmt: skip
        labels = job["metadata"].get("labels", {})
        return {
            "job_id": job["metadata"]["name"], "initiator": job["spec"]["initiator"],
            "max_parallelism": job["spec"]["maxParallelism"], "tasks": tasks, "status": self._status_of(job)["status"],
            "custom_fields": {k.removeprefix(CUSTOM): v for k, v in labels.items() if k.startswith(CUSTOM)},
        }  # fmt: skip

    def _status_of(self, job: Json) -> Json:
        status = job.get("status", {})
        phases = status.get("taskStatus", {})
        tasks = [
            {
                "task_id": t.get("taskID", ""), "alias": t["alias"], "state": _state(phases.get(t.get("taskID"), "")),
                "err_msg": "", "create_time": "", "start_time": "", "end_time": "", "progress": 0,
                "parties": [
                    {"domain_id": p["domainID"], "state": _state(phases[t["taskID"]]), "err_msg": "", "endpoints": []}
                    for p in t["parties"] if t.get("taskID") in phases
                ],
            }
            for t in job["spec"]["tasks"]
        ]  # fmt: skip
        pairs = {"stage_status_list": "stageStatus", "approve_status_list": "approveStatus"}
        lists = {
            name: [{"domain_id": k, "state": v} for k, v in status.get(key, {}).items()] for name, key in pairs.items()
        }
        detail = {
            "state": _state(status.get("phase", "")), "err_msg": status.get("message", ""), "tasks": tasks, **lists,
            "create_time": job["metadata"]["creationTimestamp"], "start_time": status.get("startTime", ""),
            "end_time": status.get("completionTime", ""),
        }  # fmt: skip
        return {"job_id": job["metadata"]["name"], "status": detail}

    def watch(self, timeout_s: int) -> Iterator[bytes]:
        """Events as Go's encoding/json writes them: one after another, and no field that is empty."""
        end = time.monotonic() + (timeout_s or 10**6)
        seen: dict[str, Json] = {}
        beat = time.monotonic()
        while time.monotonic() < end and not self.closing.is_set():
            now = {job["metadata"]["name"]: job for job in self.all()}
            events = [(2, seen[name]) for name in seen.keys() - now.keys()]
            events += [
                (1 if name in seen else 0, job)
                for name, job in now.items()
                if _version(seen.get(name)) != _version(job)
            ]
            seen = now
            for kind, job in events:
                yield _bare({"type": kind, "object": self._status_of(job)})
            if time.monotonic() > beat + HEARTBEAT_S:
                beat = time.monotonic()
                yield _bare({"type": 4})
            self.closing.wait(0.05)

    def log(self, task_id: str) -> Iterator[bytes]:
        if task_id not in self.logs:
            yield _bare({"status": {"code": 13200, "message": f'kusciatasks.kuscia.secretflow "{task_id}" not found'}})
        for piece in self.logs.get(task_id, []):
            yield _bare({"status": {}, "log": piece})


def _id(body: Json) -> str:
    need(body, "job_id")
    return str(body["job_id"])


def _state(phase: str) -> str:
    """`initialized`, which Kuscia spells in lower case, has no word in KusciaAPI (getJobState in job_service.go)."""
    return (phase or "Pending") if (phase or "Pending") in STATES else "Unknown"


def _version(job: Json | None) -> str:
    return str(job["metadata"]["resourceVersion"]) if job else ""


def _bare(message: Mapping[str, Any]) -> bytes:
    def bare(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: bare(v) for k, v in value.items() if v not in (None, "", 0, [], {}) or k == "status"}
        return [bare(one) for one in value] if isinstance(value, list) else value

    return json.dumps(bare(message)).encode()


class Play:
    """Kuscia's controllers between the nodes of a test: carries jobs and answers, and moves phases when it is told to.

    A job's steps: "" → initialized → AwaitingApproval → Pending → Running → …, as pkg/controllers/kusciajob has them.
    """

    def __init__(self, *jobs: Jobs) -> None:
        self.jobs = {one.party: one for one in jobs}

    def carry(self, job_id: str) -> None:
        """Everybody knows the job, its last stage and everybody's answer; the phase follows from these."""
        mine = (
            one
            for one in self.jobs.values()
            if any((job["metadata"]["name"], job["spec"]["initiator"]) == (job_id, one.party) for job in one.all())
        )
        lead = next(mine, None)
        if lead is None:  # deleted meanwhile
            return
        job = lead.get(job_id)
        parties = sorted({p["domainID"] for t in job["spec"]["tasks"] for p in t["parties"]})
        answers = {lead.party: "JobAccepted"}
        stage, version = _stage_of(job)
        for name in parties:
            here = self.jobs[name]
            try:
                there = here.get(job_id)
            except Failed:
                metadata = {"name": job_id, "namespace": CROSS, "labels": job["metadata"].get("labels", {})}
                # Tasks get their ids there with the party's yes.
                tasks = [{k: v for k, v in task.items() if k != "taskID"} for task in job["spec"]["tasks"]]
                copy = {**job, "spec": {**job["spec"], "tasks": tasks}, "metadata": metadata}
                copy.pop("status", None)
                there = here.store.create(copy)
            if (answer := there.get("status", {}).get("approveStatus", {}).get(name)) is not None:
                answers[name] = answer
            if _stage_of(there)[1] > version:
                stage, version = _stage_of(there)
        phase = self._phase(job, parties, answers, stage)
        for name in parties:
            if phase == "Pending":
                self.jobs[name].named(job_id, job["spec"]["tasks"])
            self.jobs[name].status(job_id, phase=phase, approveStatus=answers, stageStatus={})

    def clean(self) -> None:
        """A job that its initiator deleted goes everywhere."""
        for here in self.jobs.values():
            for job in here.all():
                lead, name = self.jobs[job["spec"]["initiator"]], job["metadata"]["name"]
                if lead is not here and name not in {one["metadata"]["name"] for one in lead.all()}:
                    here.calls()["delete"]({"job_id": name})

    def _phase(self, job: Json, parties: list[str], answers: Mapping[str, str], stage: str) -> str:
        phase = str(job.get("status", {}).get("phase", ""))
        if stage == "Cancel":
            return "Cancelled"
        if phase in ("Running", "Failed", "Suspended") and stage in ("Suspend", "Stop", "Restart"):
            moved = {"Suspend": "Suspended", "Stop": "Failed", "Restart": "Running"}[stage]
            return moved if phase == "Running" or stage == "Restart" else phase
        if phase not in ("", "initialized", "AwaitingApproval"):
            return phase
        aliases = {task["alias"] for task in job["spec"]["tasks"]}
        if any(set(task.get("dependencies", [])) - aliases for task in job["spec"]["tasks"]):
            return "Failed"  # kusciaJobDependenciesExits in kusciajob/handler/scheduler.go
        if "JobRejected" in answers.values():
            return "ApprovalReject"
        if any(name not in answers for name in parties):
            return "AwaitingApproval" if phase else "initialized"
        return "Pending"

    def goes(self, job_id: str, phase: str, tasks: str = "", message: str = "") -> None:
        """Its tasks bring it to this phase, at every party."""
        for jobs in self.jobs.values():
            found = [job for job in jobs.all() if job["metadata"]["name"] == job_id]
            for job in found:
                phases = {t["taskID"]: tasks or phase for t in job["spec"]["tasks"]}
                now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
                times = {"startTime": now} | ({"completionTime": now} if phase in ENDED else {})
                jobs.status(job_id, phase=phase, taskStatus=phases, message=message, **times)


def _stage_of(job: Json) -> tuple[str, int]:
    labels = job["metadata"].get("labels", {})
    return labels.get(f"{LABEL}job-stage", ""), int(labels.get(f"{LABEL}job-stage-version", 0))
