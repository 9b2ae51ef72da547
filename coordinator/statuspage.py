"""The status page: rendered on the server, no assets from outside. A cookie session after the operator's token."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Annotated, Any, Literal

from fastapi import APIRouter, FastAPI, Form, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse, Response
from starlette.exceptions import HTTPException

from coordinator import submit as operations
from coordinator import views
from coordinator.accept import RefusedError
from coordinator.api_operator import JobPath, read_logs
from coordinator.attention import attention
from coordinator.bundle import BundleError, unpack
from coordinator.config import Party
from coordinator.context import Context
from coordinator.model import Job, Phase
from coordinator.page_parts import COOKIE, SESSION_S, Pages, Sessions, fragment
from coordinator.previous import Previous, approved_before, compared
from coordinator.worker import Worker

_ON_A_PAGE, _MOST_PAGES = 25, 400
_MOST_ASKED = 20  # approvals shown on the first page
_FILE_CHARACTERS, _LOG_CHARACTERS = 100_000, 20_000
_MACHINES = ("/api/", "/metrics", "/healthz")

PhaseFilter = Annotated[Phase | Literal[""], Query()]
PartyFilter = Annotated[Party | Literal[""], Query()]


def page_routes(context: Context, worker: Worker) -> APIRouter:
    """Routes of the page."""
    router = APIRouter(include_in_schema=False)
    sessions, pages = Sessions(), Pages(context.config)

    def to(path: str) -> RedirectResponse:
        return RedirectResponse(path, 303)

    def login_first(request: Request) -> Response:
        if fragment(request):
            return Response("the session has ended", 401)
        return pages.render(request, "login.html", wrong=False) if request.url.path == "/" else to("/")

    @router.get("/")
    async def home(
        request: Request,
        phase: PhaseFilter = "",
        initiator: PartyFilter = "",
        page: Annotated[int, Query(ge=1, le=_MOST_PAGES)] = 1,
    ) -> Response:
        """Approvals to give, jobs, peers."""
        if (csrf := sessions.csrf(request)) is None:
            return login_first(request)
        start = (page - 1) * _ON_A_PAGE
        found = context.store.find_jobs(phase, initiator, limit=_ON_A_PAGE + 1, offset=start)
        asked = context.store.find_jobs(undecided=context.config.party, limit=_MOST_ASKED)
        return pages.render(
            request,
            "home.html",
            csrf=csrf,
            status=(status := views.status(context)),
            attention=attention(context, status),
            asked=[views.detail(context, job) for job in _load(context, asked)],
            jobs=[views.summary(context, job) for job in _load(context, found[:_ON_A_PAGE])],
            more=len(found) > _ON_A_PAGE and page < _MOST_PAGES,
            chosen={"phase": phase, "initiator": initiator, "page": page},
            phases=list(Phase),
        )

    @router.post("/login")
    async def login(request: Request, token: Annotated[str, Form(max_length=1000)] = "") -> Response:
        """Exchange the operator's token for a session."""
        if not context.guard.right(request, token.strip()):
            context.refusals.stranger("login page", "wrong operator's token")
            return pages.render(request, "login.html", 401, wrong=True)
        response = to("/")
        response.set_cookie(COOKIE, sessions.begin(), max_age=SESSION_S, httponly=True, samesite="strict")
        return response

    @router.post("/logout")
    async def logout(request: Request, csrf: Annotated[str, Form()] = "") -> Response:
        """End the session."""
        sessions.check(request, csrf)
        sessions.end(request)
        return to("/")

    @router.get("/audit")
    async def audit(request: Request, before: Annotated[int | None, Query(ge=1)] = None) -> Response:
        """This party's audit log, newest first, and what the peers say of it."""
        if (csrf := sessions.csrf(request)) is None:
            return login_first(request)
        status = views.status(context)
        records = views.audit_records(context, before, _ON_A_PAGE)
        return pages.render(request, "audit.html", csrf=csrf, status=status, records=records, before=before)

    @router.get("/policy")
    async def policy(request: Request) -> Response:
        """What is approved without a person."""
        if (csrf := sessions.csrf(request)) is None:
            return login_first(request)
        config = context.config
        datasets = {name: str(path) for name, path in sorted(config.datasets.items())}
        shown = config.policy.model_dump(mode="json")
        return pages.render(
            request, "policy.html", csrf=csrf, policy=shown, datasets=datasets, versions=config.versions
        )

    @router.get("/jobs/{job_id}")
    async def job(request: Request, job_id: JobPath) -> Response:
        """One job: program, statements, history, logs."""
        if (csrf := sessions.csrf(request)) is None:
            return login_first(request)
        found = operations.find(context, job_id)
        shown = views.detail(context, found)
        program = _program(context, found) if fragment(request) != "live" else None
        log = await _log(context, found)
        previous = await _previous(context, found) if program and views.waits_for_me(found) else None
        return pages.render(request, "job.html", csrf=csrf, job=shown, program=program, log=log, previous=previous)

    @router.post("/jobs/{job_id}/{verb}")
    async def act(
        request: Request,
        job_id: JobPath,
        verb: str,
        csrf: Annotated[str, Form()] = "",
        digest: Annotated[str, Form(max_length=64)] = "",
        reason: Annotated[str, Form(max_length=500)] = "",
    ) -> Response:
        """Approve, deny or cancel."""
        sessions.check(request, csrf)
        if verb == "approve":
            operations.judge(context, job_id, "approve", reason, proposal_digest=digest)
        elif verb == "deny":
            operations.judge(context, job_id, "deny", reason)
        elif verb == "cancel":
            operations.cancel(context, job_id, reason)
        else:
            raise RefusedError(404, f"{verb[:40]!r}: approve, deny and cancel are possible")
        worker.enqueue(job_id)
        return to(f"/jobs/{job_id}")

    return router


def errors_as_pages(app: FastAPI, context: Context) -> None:
    """Show people a refusal as a page; programs go on getting JSON. To be called when `app` handles RefusedError."""
    pages = Pages(context.config)
    record: Callable[[Request, Any], Awaitable[Response]] = app.exception_handlers[RefusedError]  # type: ignore[assignment]
    fallback: Callable[[Request, Any], Awaitable[Response]] = app.exception_handlers[HTTPException]  # type: ignore[assignment]
    invalid: Callable[[Request, Any], Awaitable[Response]] = app.exception_handlers[RequestValidationError]  # type: ignore[assignment]

    def shown(request: Request, code: int, message: str) -> Response:
        title = HTTPStatus(code).phrase
        return pages.render(request, "error.html", code, heading=title, message=message)

    def for_people(request: Request) -> bool:
        return not request.url.path.startswith(_MACHINES)

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, RefusedError)
        answer = await record(request, error)
        return shown(request, error.status, str(error)[:2000]) if for_people(request) else answer

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if not for_people(request):
            return await fallback(request, error)
        return shown(request, error.status_code, "There is no such page, or it cannot be used this way.")

    async def malformed(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        if not for_people(request):
            return await invalid(request, error)
        wrong = "; ".join(f"{p['loc'][-1]}: {p['msg']}" for p in error.errors()[:5])
        return shown(request, 422, f"This address or form holds something that is not allowed. {wrong}"[:2000])

    app.add_exception_handler(RefusedError, refused)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, malformed)


def _load(context: Context, job_ids: list[str]) -> list[Job]:
    return [job for job_id in job_ids if (job := context.store.load(job_id))]


def _program(context: Context, job: Job) -> list[tuple[str, str]]:
    """(path, text) of the job folder; empty while it has not arrived."""
    try:
        data = context.bundle_path(job.proposal.program_digest).read_bytes()
        files = unpack(data, context.config.limits.bundle_bytes)
    except (OSError, BundleError):
        return []
    first = job.proposal.program
    order = sorted(files, key=lambda path: (path != first, path))
    return [(path, files[path][:_FILE_CHARACTERS].decode("utf-8", "replace")) for path in order]


async def _previous(context: Context, job: Job) -> Previous | None:
    """What changed since the last program of this name that this party approved."""
    earlier = approved_before(context, job)
    return await asyncio.to_thread(compared, context, earlier, job) if earlier else None


async def _log(context: Context, job: Job) -> dict[str, Any]:
    """The end of this party's driver output, or why it cannot be had."""
    if not job.attempt:
        return {"text": "", "cut": False, "error": ""}
    try:
        text = await read_logs(context, job.job_id, job.attempt)
    except RefusedError as e:
        return {"text": "", "cut": False, "error": str(e)}
    return {"text": text[-_LOG_CHARACTERS:], "cut": len(text) > _LOG_CHARACTERS, "error": ""}
