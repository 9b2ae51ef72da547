"""The interface for this institution's own people and programs. Bearer token on everything under /api/v1."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Header, Path, Query, Request, UploadFile
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from coordinator import submit as operations
from coordinator import views
from coordinator.accept import RefusedError
from coordinator.bundle import BundleError, unpack
from coordinator.context import Context
from coordinator.driver import read_output
from coordinator.launcher import LauncherError, submission_id
from coordinator.logs import Log
from coordinator.model import Job
from coordinator.statements import JobId
from coordinator.worker import Worker

JobPath = Annotated[JobId, Path()]
FileName = Annotated[str, Path(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}$")]
BearerToken = Annotated[HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))]
Reason = Annotated[str, Form(max_length=500)]


def operator_routes(context: Context, worker: Worker) -> APIRouter:
    """Routes under /api/v1."""

    def authorised(request: Request, token: BearerToken) -> None:
        if not context.guard.right(request, token.credentials if token else ""):
            raise RefusedError(401, "the operator's token is needed: Authorization: Bearer <token>")

    router = APIRouter(prefix="/api/v1", tags=["operator"], dependencies=[Depends(authorised)])

    def answer(job: Job, status: int = 200) -> JSONResponse:
        worker.enqueue(job.job_id)
        return JSONResponse(views.detail(context, job), status)

    @router.get("/status")
    async def status() -> dict[str, Any]:
        """This institution, its peers, slots, versions and audit chain."""
        return views.status(context)

    @router.get("/jobs")
    async def jobs(limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> dict[str, Any]:
        """Newest jobs first."""
        found = [context.store.load(job_id) for job_id in context.store.job_ids(limit)]
        return {"jobs": [views.summary(context, job) for job in found if job]}

    @router.post("/jobs", status_code=201)
    async def submit(
        bundle: UploadFile, idempotency_key: Annotated[str | None, Header(max_length=100)] = None
    ) -> JSONResponse:
        """Submit a job folder (an uncompressed tar with job.yaml). 200 when the Idempotency-Key was seen before."""
        job, new = operations.submit(context, await bundle.read(), idempotency_key)
        return answer(job, 201 if new else 200)

    @router.get("/jobs/{job_id}")
    async def job(job_id: JobPath) -> dict[str, Any]:
        """Phases per party, attempts, approvals, outcome with all signatures, skew, history."""
        return views.detail(context, operations.find(context, job_id))

    @router.get("/jobs/{job_id}/program")
    async def program(job_id: JobPath) -> dict[str, Any]:
        """The job folder's text, to read before approving."""
        found = operations.find(context, job_id)
        try:
            data = context.bundle_path(found.proposal.program_digest).read_bytes()
            files = unpack(data, context.config.limits.bundle_bytes)
        except (OSError, BundleError) as e:
            raise RefusedError(404, f"job {job_id}: its job folder is not here yet: {e}") from e
        return {
            "program_digest": found.proposal.program_digest,
            "files": {path: content.decode("utf-8", "replace") for path, content in files.items()},
        }

    @router.post("/jobs/{job_id}/approve")
    async def approve(job_id: JobPath, reason: Reason = "") -> JSONResponse:
        """Say yes, signed."""
        return answer(operations.judge(context, job_id, "approve", reason))

    @router.post("/jobs/{job_id}/deny")
    async def deny(job_id: JobPath, reason: Reason = "") -> JSONResponse:
        """Say no, signed."""
        return answer(operations.judge(context, job_id, "deny", reason))

    @router.post("/jobs/{job_id}/cancel")
    async def cancel(job_id: JobPath, reason: Reason = "") -> JSONResponse:
        """End the job at every party."""
        return answer(operations.cancel(context, job_id, reason))

    @router.get("/jobs/{job_id}/logs", response_class=PlainTextResponse)
    async def logs(
        request: Request,
        job_id: JobPath,
        attempt: Annotated[int | None, Query(ge=1, le=10_000)] = None,
        follow: bool = False,
    ) -> Response:
        """This party's driver output. `follow` streams until the attempt has ended."""
        found = operations.find(context, job_id)
        number = attempt or max(found.attempt, 1)
        if not follow:
            return PlainTextResponse(await read_logs(context, job_id, number))
        return StreamingResponse(_follow(context, request, job_id, number), media_type="text/plain; charset=utf-8")

    @router.get("/jobs/{job_id}/result")
    async def result(job_id: JobPath) -> Any:
        """What this party learnt from the job: its own result.json."""
        content = _output(context, operations.find(context, job_id), "result.json")
        try:
            return json.loads(content)
        except ValueError as e:
            raise RefusedError(500, f"job {job_id}: result.json is not JSON: {e}") from e

    @router.get("/jobs/{job_id}/files")
    async def files(job_id: JobPath) -> dict[str, Any]:
        """Names and sizes of this party's output files."""
        found = operations.find(context, job_id)
        folder = context.attempt_dir(job_id, found.attempt) / "output"
        here = sorted(p for p in folder.glob("*") if p.is_file() and not p.is_symlink()) if folder.is_dir() else []
        return {"files": [{"name": p.name, "bytes": p.stat().st_size} for p in here]}

    @router.get("/jobs/{job_id}/files/{name}")
    async def file(job_id: JobPath, name: FileName) -> Response:
        """One of this party's output files."""
        content = _output(context, operations.find(context, job_id), name)
        return Response(content, media_type="application/octet-stream")

    @router.get("/audit")
    async def audit(start: Annotated[int, Query(ge=1)] = 1) -> StreamingResponse:
        """The audit log as JSON Lines, from record `start`."""
        lines = (record.line() + "\n" for record in context.store.records(start))
        return StreamingResponse(lines, media_type="application/jsonl")

    return router


def _output(context: Context, job: Job, name: str) -> bytes:
    content = read_output(context.attempt_dir(job.job_id, job.attempt) / "output" / name)
    if content is None:
        raise RefusedError(404, f"job {job.job_id} is {job.phase}: {context.config.party} has no output file {name!r}")
    return content


async def read_logs(context: Context, job_id: str, attempt: int) -> str:
    """Driver output of an attempt, its end when it is long; RefusedError 502 when Ray does not answer."""
    return (await _read_log(context, job_id, attempt)).shown()


async def _read_log(context: Context, job_id: str, attempt: int) -> Log:
    try:
        return await context.launcher.logs(submission_id(job_id, attempt))
    except LauncherError as e:
        raise RefusedError(502, f"logs of {job_id}, attempt {attempt}: {e}") from e


async def _follow(context: Context, request: Request, job_id: str, attempt: int) -> AsyncIterator[str]:
    sent = 0
    while not await request.is_disconnected():
        job = context.store.load(job_id)
        ended = job is None or job.phase.terminal or job.attempt > attempt
        found = await _read_log(context, job_id, attempt)
        if found.total > sent:
            yield found.since(sent)
            sent = found.total
        if ended:
            return
        await asyncio.sleep(0.5)
