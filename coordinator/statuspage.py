"""The status page: rendered on the server, no assets from outside. A cookie session after the operator's token."""

from __future__ import annotations

import hmac
import secrets
import time
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from jinja2 import Environment, PackageLoader, StrictUndefined

from coordinator import submit as operations
from coordinator import views
from coordinator.accept import RefusedError
from coordinator.api_operator import JobPath, read_logs
from coordinator.bundle import BundleError, unpack
from coordinator.context import Context
from coordinator.worker import Worker

_COOKIE = "consortium_session"
_SESSION_S = 8 * 3600
_HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; "
    "frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
}


def _when(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds)) + " UTC"


class _Sessions:
    """Sessions of people who showed the token: cookie -> (CSRF token, end). In memory: a restart asks again."""

    def __init__(self) -> None:
        self._open: dict[str, tuple[str, float]] = {}

    def begin(self) -> str:
        now = time.monotonic()
        self._open = {k: v for k, v in self._open.items() if v[1] > now}
        cookie = secrets.token_urlsafe(32)
        self._open[cookie] = (secrets.token_urlsafe(32), now + _SESSION_S)
        return cookie

    def csrf(self, request: Request) -> str | None:
        """CSRF token of the request's session, None without one."""
        found = self._open.get(request.cookies.get(_COOKIE, ""))
        return found[0] if found and found[1] > time.monotonic() else None

    def end(self, request: Request) -> None:
        self._open.pop(request.cookies.get(_COOKIE, ""), None)


def page_routes(context: Context, worker: Worker) -> APIRouter:
    """Routes of the page."""
    router = APIRouter(include_in_schema=False)
    sessions = _Sessions()
    environment = Environment(
        loader=PackageLoader("coordinator"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["when"] = _when

    def render(name: str, code: int = 200, **values: Any) -> HTMLResponse:
        text = environment.get_template(name).render(
            party=context.config.party, consortium=context.config.consortium, now=time.time(), **values
        )
        return HTMLResponse(text, code, _HEADERS)

    def to(path: str) -> RedirectResponse:
        return RedirectResponse(path, 303)

    @router.get("/")
    async def home(request: Request) -> Response:
        """Jobs, peers, approvals to give."""
        csrf = sessions.csrf(request)
        if csrf is None:
            return render("login.html", wrong=False)
        jobs = [job for job_id in context.store.job_ids(100) if (job := context.store.load(job_id))]
        listed = [views.summary(context, job) for job in jobs]
        return render("home.html", csrf=csrf, status=views.status(context), jobs=listed)

    @router.post("/login")
    async def login(request: Request, token: Annotated[str, Form(max_length=1000)] = "") -> Response:
        """Exchange the operator's token for a session."""
        if not context.guard.right(request, token.strip()):
            context.strangers.refused("login page", "wrong operator's token")
            return render("login.html", 401, wrong=True)
        response = to("/")
        response.set_cookie(_COOKIE, sessions.begin(), max_age=_SESSION_S, httponly=True, samesite="strict")
        return response

    @router.post("/logout")
    async def logout(request: Request, csrf: Annotated[str, Form()] = "") -> Response:
        """End the session."""
        _check(sessions, request, csrf)
        sessions.end(request)
        return to("/")

    @router.get("/jobs/{job_id}")
    async def job(request: Request, job_id: JobPath) -> Response:
        """One job: program, statements, history, logs."""
        csrf = sessions.csrf(request)
        if csrf is None:
            return to("/")
        found = operations.find(context, job_id)
        try:
            data = context.bundle_path(found.proposal.program_digest).read_bytes()
            raw = unpack(data, context.config.limits.bundle_bytes)
            files = {path: content[:100_000].decode("utf-8", "replace") for path, content in raw.items()}
        except (OSError, BundleError):
            files = {}
        try:
            logs = (await read_logs(context, job_id, found.attempt))[-20_000:] if found.attempt else ""
        except RefusedError as e:
            logs = str(e)
        return render("job.html", csrf=csrf, job=views.detail(context, found), files=files, logs=logs)

    @router.post("/jobs/{job_id}/{verb}")
    async def act(
        request: Request,
        job_id: JobPath,
        verb: str,
        csrf: Annotated[str, Form()] = "",
        reason: Annotated[str, Form(max_length=500)] = "",
    ) -> Response:
        """Approve, deny or cancel."""
        _check(sessions, request, csrf)
        if verb == "approve":
            operations.judge(context, job_id, "approve", reason)
        elif verb == "deny":
            operations.judge(context, job_id, "deny", reason)
        elif verb == "cancel":
            operations.cancel(context, job_id, reason)
        else:
            raise RefusedError(404, f"{verb!r}: approve, deny and cancel are possible")
        worker.enqueue(job_id)
        return to(f"/jobs/{job_id}")

    return router


def _check(sessions: _Sessions, request: Request, given: str) -> None:
    wanted = sessions.csrf(request)
    if wanted is None or not hmac.compare_digest(given.encode(), wanted.encode()):
        raise RefusedError(403, "the page is out of date or the request came from elsewhere: reload and try again")
