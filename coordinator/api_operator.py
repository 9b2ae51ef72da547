"""The interface for this institution's own people and programs. Bearer token on everything under /api/v1."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Header, Path, Query, Request, UploadFile
from fastapi.responses import PlainTextResponse, Response, StreamingResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import JsonValue

from coordinator import submit as operations
from coordinator import views
from coordinator.accept import RefusedError
from coordinator.api_backup import add_backup_route
from coordinator.api_hold import add_hold_routes
from coordinator.api_models import (
    PROBLEM,
    Findings,
    JobDetail,
    JobList,
    OutputFiles,
    PresentedByAll,
    ProgramText,
    Responses,
    Settings,
    Status,
    refusals,
)
from coordinator.audit_source import RangeError, export_of, range_of
from coordinator.config import DIGEST_PATTERN, PARTY_PATTERN
from coordinator.context import Context
from coordinator.driver import read_output
from coordinator.driver_log import Log
from coordinator.findings import findings, presented
from coordinator.kuscia.errors import KusciaError
from coordinator.kuscia.operate import stop_or_go_on, task_logs, where_results_are
from coordinator.launcher import LauncherError, submission_id
from coordinator.model import Job
from coordinator.previous import approved_before, compared, job_folder
from coordinator.reload import Reloaded, ReloadError
from coordinator.requests import KEY_PATTERN
from coordinator.statements import JobId
from coordinator.worker import Worker

JobPath = Annotated[JobId, Path()]
FileName = Annotated[str, Path(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}$")]
BearerToken = Annotated[HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))]
AuditPlace = Annotated[str | None, Query(pattern=r"^([1-9]\d{0,14}|\d{4}-\d\d-\d\d)$")]
Reason = Annotated[str, Form(max_length=500, description="signed, and shown to every party")]
Shown = Annotated[
    str | None,
    Form(
        alias="proposal_digest",
        pattern=DIGEST_PATTERN,
        description="`proposal_digest` of what the person was shown; 409 if it is another",
    ),
]
Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        pattern=KEY_PATTERN,
        description="A request that comes again with its key has no second effect and is answered with the present "
        "state; another request with this key gets 409. Kept for 30 days.",
    ),
]
_MADE_BEFORE: Responses = {200: {"model": JobDetail, "description": "an earlier request with the key made this job"}}
_BYTES: Responses = {200: {"content": {"application/octet-stream": {}}}}
_TEXT: Responses = {200: {"content": {"text/plain": {}}}}
_LINES: Responses = {200: {"content": {"application/jsonl": {}}}}


def operator_routes(context: Context, worker: Worker, reload: Callable[[], Awaitable[Reloaded]]) -> APIRouter:
    """Routes under /api/v1."""

    def authorised(request: Request, token: BearerToken) -> None:
        if not context.guard.right(request, token.credentials if token else ""):
            context.refusals.stranger("operator API", "wrong or missing operator's token")
            raise RefusedError(401, "the operator's token is needed: Authorization: Bearer <token>")

    router = APIRouter(
        prefix="/api/v1",
        tags=["operator"],
        dependencies=[Depends(authorised)],
        responses=refusals(400, 401, 413, 429, 503, 507) | PROBLEM,
    )

    def answer(job: Job) -> dict[str, Any]:
        worker.enqueue(job.job_id)
        return views.detail(context, job)

    @router.get("/status", response_model=Status)
    async def status() -> dict[str, Any]:
        """This institution, its peers, slots, versions and audit chain."""
        return views.status(context)

    @router.get("/findings", response_model=Findings, responses=refusals(404))
    async def look(peer: Annotated[str | None, Query(pattern=PARTY_PATTERN)] = None) -> dict[str, Any]:
        """What `consortium doctor` asks: the checks of a job's preparation that need no job, all peers or one. Takes
        seconds."""
        known = sorted(context.config.keys)
        if peer is not None and peer not in known:
            raise RefusedError(404, f"{peer} is no peer of {context.config.party}: {known}")
        asked = known if peer is None else [peer]
        return {"findings": [asdict(one) for one in await findings(context, asked)]}

    @router.get("/presented", response_model=PresentedByAll)
    async def in_force() -> dict[str, Any]:
        """What every party has in force, asked of each just now: `consortium plan` compares it with the documents."""
        found = await presented(context)
        return {"parties": {name: {"presented": said, "error": why} for name, (said, why) in found.items()}}

    @router.post("/reload", response_model=Settings, responses=refusals(409))
    async def take_over() -> dict[str, Any]:
        """Take up the configuration file as it is on the disk now. 422: it is wrong, 409: it takes a restart; the old
        one stays in force then."""
        try:
            return asdict(await reload())
        except ReloadError as e:
            raise RefusedError(409 if e.why == "restart" else 422, f"the old configuration stays: {e}") from e

    @router.get("/jobs", response_model=JobList)
    async def jobs(limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> dict[str, Any]:
        """Newest jobs first."""
        found = [context.store.load(job_id) for job_id in context.store.job_ids(limit)]
        return {"jobs": [views.summary(context, job) for job in found if job]}

    @router.post(
        "/jobs",
        status_code=201,
        response_model=JobDetail,
        responses=_MADE_BEFORE | refusals(409),
    )
    async def submit(bundle: UploadFile, response: Response, key: Key = None) -> dict[str, Any]:
        """Submit a job folder: an uncompressed tar with job.yaml."""
        job, new = operations.submit(context, await bundle.read(), key)
        response.status_code = 201 if new else 200
        return answer(job)

    @router.get("/jobs/{job_id}", response_model=JobDetail, responses=refusals(404))
    async def job(job_id: JobPath) -> dict[str, Any]:
        """Phases per party, attempts, approvals, outcome with all signatures, skew, history."""
        return views.detail(context, operations.find(context, job_id))

    @router.get("/jobs/{job_id}/program", response_model=ProgramText, responses=refusals(404))
    async def program(job_id: JobPath) -> dict[str, Any]:
        """The job folder's text, and what changed since the last approved one of this name."""
        found = operations.find(context, job_id)
        files = job_folder(context, found)
        earlier = approved_before(context, found)
        previous = await asyncio.to_thread(compared, context, earlier, found) if earlier else None
        return {
            "program_digest": found.proposal.program_digest,
            "proposal_digest": found.signed_proposal.digest(),
            "files": {path: content.decode("utf-8", "replace") for path, content in files.items()},
            "previous": asdict(previous) if previous else None,
        }

    @router.post("/jobs/{job_id}/approve", response_model=JobDetail, responses=refusals(404, 409))
    async def approve(job_id: JobPath, reason: Reason = "", shown: Shown = None, key: Key = None) -> dict[str, Any]:
        """Say yes, signed."""
        return answer(operations.judge(context, job_id, "approve", reason, proposal_digest=shown, key=key))

    @router.post("/jobs/{job_id}/deny", response_model=JobDetail, responses=refusals(404, 409))
    async def deny(job_id: JobPath, reason: Reason = "", shown: Shown = None, key: Key = None) -> dict[str, Any]:
        """Say no, signed; the job then ends at every party."""
        return answer(operations.judge(context, job_id, "deny", reason, proposal_digest=shown, key=key))

    @router.post("/jobs/{job_id}/cancel", response_model=JobDetail, responses=refusals(404, 409))
    async def cancel(job_id: JobPath, reason: Reason = "", key: Key = None) -> dict[str, Any]:
        """End the job at every party."""
        return answer(operations.cancel(context, job_id, reason, key=key))

    @router.post("/jobs/{job_id}/suspend", response_model=JobDetail, responses=refusals(404, 409, 502))
    async def suspend(job_id: JobPath, reason: Reason = "") -> dict[str, Any]:
        """Stop it for now at every party; Kuscia mode only."""
        found = operations.find(context, job_id)
        await stop_or_go_on(context, found, "suspend", reason)
        return answer(found)

    @router.post("/jobs/{job_id}/restart", response_model=JobDetail, responses=refusals(404, 409, 502))
    async def restart(job_id: JobPath, reason: Reason = "") -> dict[str, Any]:
        """Go on with what was suspended, from the tasks that had not succeeded; Kuscia mode only."""
        found = operations.find(context, job_id)
        await stop_or_go_on(context, found, "restart", reason)
        return answer(found)

    @router.get("/jobs/{job_id}/logs", response_class=Response, responses=_TEXT | refusals(404, 502))
    async def logs(
        request: Request,
        job_id: JobPath,
        attempt: Annotated[int | None, Query(ge=1, le=10_000)] = None,
        follow: bool = False,
    ) -> Response:
        """This party's driver output. `follow` streams until the attempt has ended."""
        found = operations.find(context, job_id)
        number = attempt or max(found.attempt, 1)
        text = await read_logs(context, job_id, number)  # before the answer begins: it may be a refusal
        if not follow:
            return PlainTextResponse(text)
        return StreamingResponse(_follow(context, request, job_id, number), media_type="text/plain; charset=utf-8")

    @router.get("/jobs/{job_id}/result", response_model=JsonValue, responses=refusals(404, 500))
    async def result(job_id: JobPath) -> Any:
        """What this party learnt from the job: its own result.json."""
        content = _output(context, operations.find(context, job_id), "result.json")
        try:
            return json.loads(content)
        except ValueError as e:
            raise RefusedError(500, f"job {job_id}: result.json is not JSON: {e}") from e

    @router.get("/jobs/{job_id}/files", response_model=OutputFiles, responses=refusals(404))
    async def files(job_id: JobPath) -> dict[str, Any]:
        """Names and sizes of this party's output files."""
        found = operations.find(context, job_id)
        folder = context.attempt_dir(job_id, found.attempt) / "output"
        here = sorted(p for p in folder.glob("*") if p.is_file() and not p.is_symlink()) if folder.is_dir() else []
        return {"files": [{"name": p.name, "bytes": p.stat().st_size} for p in here]}

    @router.get(
        "/jobs/{job_id}/files/{name}",
        response_class=Response,
        responses=_BYTES | refusals(404),
    )
    async def file(job_id: JobPath, name: FileName) -> Response:
        """One of this party's output files."""
        content = _output(context, operations.find(context, job_id), name)
        return Response(content, media_type="application/octet-stream")

    @router.get("/audit", response_class=StreamingResponse, responses=_LINES)
    async def audit(start: AuditPlace = None, end: AuditPlace = None) -> StreamingResponse:
        """The audit log as JSON Lines (docs/audit.md), whole or from one record or UTC date to another."""
        state = context.config.state_dir / "coordinator.db"
        try:
            first, last = await asyncio.to_thread(range_of, state, start, end)
            _, lines = await asyncio.to_thread(export_of, state, context.signer, first, last)
        except RangeError as e:
            raise RefusedError(422, str(e)) from e
        context.store.note(time.time(), "exported", f"records {first} to {last} given to the operator")
        return StreamingResponse(lines, media_type="application/jsonl")

    add_backup_route(router, context)
    add_hold_routes(router, context, worker)
    return router


def _output(context: Context, job: Job, name: str) -> bytes:
    if context.kuscia:
        raise RefusedError(404, where_results_are(context, job))
    content = read_output(context.attempt_dir(job.job_id, job.attempt) / "output" / name)
    if content is None:
        raise RefusedError(404, f"job {job.job_id} is {job.phase}: {context.config.party} has no output file {name!r}")
    return content


async def read_logs(context: Context, job_id: str, attempt: int) -> str:
    """Driver output of an attempt, its end when it is long; RefusedError 502 when Ray does not answer."""
    return (await _read_log(context, job_id, attempt)).shown()


async def _read_log(context: Context, job_id: str, attempt: int) -> Log:
    try:
        if context.kuscia:
            return await task_logs(context, operations.find(context, job_id), attempt)
        return await context.launcher.logs(submission_id(job_id, attempt))
    except (LauncherError, KusciaError) as e:
        raise RefusedError(502, f"logs of {job_id}, attempt {attempt}: {e}") from e


async def _follow(context: Context, request: Request, job_id: str, attempt: int) -> AsyncIterator[str]:
    sent = 0
    while not await request.is_disconnected():
        job = context.store.load(job_id)
        ended = job is None or job.phase.terminal or job.attempt > attempt
        try:
            found = await _read_log(context, job_id, attempt)
        except RefusedError as e:
            yield f"\n(this is not the end: {e})\n"
            return
        if found.total > sent:
            yield found.since(sent)
            sent = found.total
        if ended:
            return
        await asyncio.sleep(0.5)
