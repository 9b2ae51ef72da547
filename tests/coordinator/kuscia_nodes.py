"""Kuscia's nodes of several parties in memory: KusciaAPI over mutual TLS, and what Kuscia's controllers do with a job.

Written from Kuscia's source (pkg/kusciaapi/service/job_service.go, pkg/controllers/kusciajob, pkg/interconn/kuscia):
phases, who learns what from whom and when, and the messages. A task is a name with a state: no engine runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

STEP_S = 0.02
Json = dict[str, Any]


@dataclass
class Held:
    """One KusciaJob at one node."""

    spec: Json
    phase: str = ""
    message: str = ""
    approve: dict[str, str] = field(default_factory=dict)
    tasks: dict[str, str] = field(default_factory=dict)  # alias -> state
    stage: str = ""
    trigger: str = ""
    version: int = 0
    started: str = ""
    ended: str = ""
    at: float = 0.0  # loop time at which the newest task began

    @property
    def done(self) -> bool:
        return bool(self.ended)


@dataclass
class Network:
    """All nodes, and what is between them. `fate`: name of a KusciaJob → state in which its tasks end; "" = not yet."""

    parties: list[str]
    fate: Callable[[str], str] = lambda name: "Succeeded"
    run_s: float = 0.05
    approves: bool = True
    """enableWorkloadApprove: without it a node says yes for its party."""
    cut: set[str] = field(default_factory=set)  # parties whose node is not reached by the others
    nodes: dict[str, Node] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.nodes = {party: Node(party, self) for party in self.parties}

    async def run(self) -> None:
        """The controllers of every node; until cancelled."""
        while True:
            now = asyncio.get_running_loop().time()
            for party, node in self.nodes.items():
                for name in list(node.jobs):
                    node.reconcile(name, now)
                    if party not in self.cut:
                        self._carry(node, name)
            await asyncio.sleep(STEP_S)

    def _carry(self, node: Node, name: str) -> None:
        held = node.jobs.get(name)
        if held is None or not held.phase:
            return
        host = held.spec["initiator"]
        for other in {p["domain_id"] for t in held.spec["tasks"] for p in t["parties"]} - {node.party}:
            if other in self.cut or other not in self.nodes:
                continue
            peer = self.nodes[other]
            there = peer.jobs.get(name)
            if there is None:
                if node.party == host and not held.done:
                    spec = copy.deepcopy(held.spec)
                    for task in spec["tasks"]:
                        task["task_id"] = ""
                    peer.jobs[name] = Held(spec)
                continue
            if held.version > there.version and there.phase != "Cancelled" and not (there.done and other == host):
                there.stage, there.trigger, there.version = held.stage, held.trigger, held.version
            elif not there.done and (own := held.approve.get(node.party)):
                there.approve[node.party] = own
            if node.party == host and held.tasks:
                for mine, task in zip(held.spec["tasks"], there.spec["tasks"], strict=True):
                    task["task_id"] = mine["task_id"]


class Node:
    """One party's node."""

    def __init__(self, party: str, network: Network) -> None:
        self.party, self._network = party, network
        self.jobs: dict[str, Held] = {}
        self.token = f"token-of-the-node-of-{party}"
        self.calls: Counter[str] = Counter()
        self.down = False
        self.lose: set[str] = set()  # paths whose answer is lost once, after the call was carried out
        self.logs: dict[str, str] = {}
        self.routes = {peer: "Succeeded" for peer in network.parties if peer != party}
        self.tables = {"customers", "patients"}

    # -- controllers -------------------------------------------------------------------------------------------------

    def reconcile(self, name: str, now: float) -> None:
        held = self.jobs[name]
        if held.phase in ("Succeeded", "Cancelled", "ApprovalReject") and held.done:
            return
        if held.stage and self._stage(held, now):
            return
        match held.phase:
            case "":
                host = held.spec["initiator"] == self.party
                held.phase, held.started = "AwaitingApproval", _now()
                if host or not self._network.approves:
                    held.approve[self.party] = "JobAccepted"
            case "AwaitingApproval":
                others = [p for p in self._parties(held) if p != held.spec["initiator"]]
                if all(held.approve.get(p) == "JobAccepted" for p in others):
                    held.phase = "Pending"
                elif any(held.approve.get(p) == "JobRejected" for p in others):
                    held.phase, held.ended = "ApprovalReject", _now()
            case "Pending":
                held.phase = "Running"
            case "Running":
                self._run(name, held, now)

    def _parties(self, held: Held) -> list[str]:
        return sorted({p["domain_id"] for task in held.spec["tasks"] for p in task["parties"]})

    def _run(self, name: str, held: Held, now: float) -> None:
        for task in held.spec["tasks"]:
            alias = task["alias"]
            state = held.tasks.get(alias)
            if state is None:
                held.tasks[alias], held.at = "Running", now
                return
            if state == "Running":
                if now >= held.at + self._network.run_s and (fate := self._network.fate(name)):
                    held.tasks[alias] = fate
                return
            if state == "Failed":
                held.phase, held.ended, held.message = (
                    "Failed",
                    _now(),
                    f"Task[{alias}]-Party[{self.party}]: exit code 1",
                )
                return
        held.phase, held.ended = "Succeeded", _now()

    def _stage(self, held: Held, now: float) -> bool:
        said = f"Party: {held.trigger} execute the cmd: {held.stage}."
        match held.stage, held.phase:
            case "Cancel", phase if phase:
                held.phase, held.message, held.ended = "Cancelled", said, _now()
            case "Suspend", "Running":
                held.phase, held.message = "Suspended", ""
            case "Restart", "Failed" | "Suspended":
                held.phase, held.ended = "Running", ""
                held.tasks = {alias: state for alias, state in held.tasks.items() if state == "Succeeded"}
            case _:
                return False
        if held.phase in ("Cancelled", "Suspended"):
            held.tasks = {a: "Failed" if s == "Running" else s for a, s in held.tasks.items()}
        return True

    # -- KusciaAPI ---------------------------------------------------------------------------------------------------

    def app(self) -> Starlette:
        return Starlette(routes=[Route("/{path:path}", self._serve, methods=["POST"])])

    async def _serve(self, request: Request) -> Response:
        path = request.path_params["path"].removeprefix("api/v1/")
        if self.down:
            return PlainTextResponse("no", 503)
        if request.headers.get("token") != self.token:
            return PlainTextResponse("", 401)
        body = await request.json()
        self.calls[path] += 1
        if path == "job/watch":
            return StreamingResponse(self._watch(), media_type="application/json")
        if path == "log/task/query":
            return self._log(body["task_id"])
        handler = getattr(self, "_" + path.replace("/", "_").lower())
        answer = handler(body)
        if path in self.lose:
            self.lose.discard(path)
            return PlainTextResponse("lost", 504)
        return JSONResponse(answer)

    def _route_query(self, body: Json) -> Json:
        if (status := self.routes.get(body["destination"])) is None:
            return _refusal(11404, 'clusterdomainroutes.kuscia.secretflow "x" not found')
        return _data(**body, status={"status": status, "reason": "" if status == "Succeeded" else "TokenNotGenerate"})

    def _domaindata_query(self, body: Json) -> Json:
        if body["data"]["domaindata_id"] not in self.tables:
            return _refusal(11506, "not found")
        return _data(**body["data"])

    def _healthz(self, _: Json) -> Json:
        return _data(ready=True)

    def _job_create(self, body: Json) -> Json:
        if body["initiator"] != self.party:
            return _refusal(11100, f"initiator is {body['initiator']}, but initiator must be {self.party} in P2P")
        if body["job_id"] in self.jobs:
            return _refusal(11201, f'kusciajobs.kuscia.secretflow "{body["job_id"]}" already exists')
        self.jobs[body["job_id"]] = Held(copy.deepcopy(body))
        return _data(job_id=body["job_id"])

    def _job_query(self, body: Json) -> Json:
        if (held := self.jobs.get(body["job_id"])) is None:
            return _refusal(11202, f'kusciajobs.kuscia.secretflow "{body["job_id"]}" not found')
        return _data(**{**held.spec, "status": self._status(held)})

    def _status(self, held: Held) -> Json:
        states = {"": "Pending", "initialized": "Unknown"}
        return {
            "state": states.get(held.phase, held.phase),
            "err_msg": held.message,
            "create_time": held.started,
            "start_time": held.started,
            "end_time": held.ended,
            "tasks": [
                {
                    "task_id": task["task_id"],
                    "alias": task["alias"],
                    "state": (state := held.tasks.get(task["alias"], "Pending")),
                    "parties": [{"domain_id": p, "state": state} for p in self._parties(held)],
                }
                for task in held.spec["tasks"]
            ],
            "stage_status_list": [],
            "approve_status_list": [{"domain_id": p, "state": s} for p, s in held.approve.items()],
        }

    def _job_approve(self, body: Json) -> Json:
        if (held := self.jobs.get(body["job_id"])) is None:
            return _refusal(11206, f'kusciajobs.kuscia.secretflow "{body["job_id"]}" not found')
        held.approve[self.party] = {"APPROVE_RESULT_ACCEPT": "JobAccepted"}.get(body["result"], "JobRejected")
        return _data(job_id=body["job_id"])

    def _job_suspend(self, body: Json) -> Json:
        return self._set_stage(body, "Suspend", ("Running",), 11210)

    def _job_restart(self, body: Json) -> Json:
        return self._set_stage(body, "Restart", ("Failed", "Suspended"), 11211)

    def _job_cancel(self, body: Json) -> Json:
        return self._set_stage(body, "Cancel", (), 11209)

    def _set_stage(self, body: Json, stage: str, phases: tuple[str, ...], code: int) -> Json:
        held = self.jobs.get(body["job_id"])
        if held is None:
            return _refusal(code, f'kusciajobs.kuscia.secretflow "{body["job_id"]}" not found')
        if phases and held.phase not in phases:
            return _refusal(code, f"job: {body['job_id']} current status is {held.phase} can not be {stage.lower()}.")
        held.stage, held.trigger, held.version = stage, self.party, held.version + 1
        return _data(job_id=body["job_id"])

    def _log(self, task_id: str) -> Response:
        found = self.logs.get(task_id)
        if found is None:
            return JSONResponse({"status": {"code": 14000, "message": f'kusciatasks "{task_id}" not found'}})
        texts = [json.dumps({"log": piece}) for piece in found.splitlines(keepends=True)]
        return PlainTextResponse("".join(texts), media_type="application/json")

    async def _watch(self) -> AsyncIterator[str]:
        seen: dict[str, Json] = {}
        while not self.down:
            for name, held in self.jobs.items():
                status = copy.deepcopy(self._status(held))
                if seen.get(name) != status:
                    event: Json = {"object": {"job_id": name, "status": status}}
                    yield json.dumps({"type": 1, **event} if name in seen else event)
                    seen[name] = status
            await asyncio.sleep(STEP_S)


def _data(**fields: Any) -> Json:
    return {"status": {"code": 0, "message": "success", "details": []}, "data": fields}


def _refusal(code: int, said: str) -> Json:
    return {"status": {"code": code, "message": said, "details": []}}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


@contextlib.asynccontextmanager
async def controllers(network: Network) -> AsyncIterator[None]:
    """The nodes work."""
    task = asyncio.create_task(network.run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
