"""The interface for the other parties' coordinators. Reached only through the own gateway."""

from __future__ import annotations

import time
from typing import Annotated

import structlog
from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import APIKeyHeader
from starlette.applications import Starlette

from coordinator.accept import RefusedError, accept, accept_bundle, refuse_unpromised
from coordinator.api_models import PROBLEM, Taken, refusals
from coordinator.buckets import TooManyError
from coordinator.context import Context
from coordinator.findings import presents
from coordinator.messages import Batch, Heartbeat, HeartbeatAnswer, Known, Presented, Reach, Times
from coordinator.metrics import Metrics
from coordinator.peers import PeerError
from coordinator.statements import JobId, Kind
from coordinator.worker import Worker

log = structlog.get_logger()
JobPath = Annotated[JobId, Path()]
_TAR_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/x-tar": {"schema": {"type": "string", "format": "binary"}}},
    }
}
# Documents what GatewayOnly checks before a request comes here.
_GATEWAY = APIKeyHeader(
    name="x-consortium-gateway-token",
    scheme_name="gateway",
    description="The secret of the own gateway, which sets x-consortium-party beside it: the peer whose certificate it "
    "has verified. What a peer sends under these names is dropped.",
    auto_error=False,
)


def peer_routes(context: Context, worker: Worker) -> APIRouter:
    """Routes under /peer/v1. The caller's identity is `request.state.party`, set by GatewayOnly."""
    router = APIRouter(
        prefix="/peer/v1",
        tags=["peer"],
        dependencies=[Depends(_GATEWAY)],
        responses=refusals(400, 401, 403, 413, 429, 503, 507) | PROBLEM,
    )

    def heard(request: Request) -> str:
        party: str = request.state.party
        structlog.contextvars.bind_contextvars(peer=party)
        context.peers.state[party].heard = time.monotonic()
        return party

    def add_statement_route(kind: Kind) -> None:
        @router.post(
            f"/{kind}",
            name=f"receive_{kind}",
            summary=f"Receive signed {kind} statements of one job",
            responses=refusals(404, 409),
        )
        async def receive(request: Request, batch: Batch) -> Taken:
            """A statement is known by job, attempt, kind and party: sending it again changes nothing."""
            job_id = accept(context, heard(request), kind, batch.statements)
            worker.enqueue(job_id)
            return Taken(job_id=job_id)

    for kind in Kind:
        add_statement_route(kind)

    @router.post("/bundle/{job_id}", openapi_extra=_TAR_BODY, responses=refusals(404, 409))
    async def bundle(request: Request, job_id: JobPath) -> Taken:
        """Receive the job folder of a proposal, as an uncompressed tar. Sending it again changes nothing."""
        accept_bundle(context, heard(request), job_id, await request.body())
        worker.enqueue(job_id)
        return Taken(job_id=job_id)

    @router.post("/heartbeat")
    async def heartbeat(request: Request, beat: Heartbeat) -> HeartbeatAnswer:
        """Receive a sign of life; answer with the times for the sender's clock measurement."""
        received = time.time()
        party = heard(request)
        state = context.peers.state[party]
        now = time.monotonic()
        # what is no longer named was alive until just now: its outcome may be on its way behind this heartbeat
        shown = ((a.job_id, a.attempt) for a in beat.alive)
        state.alive.update((attempt, now) for attempt in shown if attempt in context.watched_since)
        said = context.heads.receive(party, beat.audit_head) if beat.audit_head else None
        return HeartbeatAnswer(received_at=received, sent_at=time.time(), audit_head=said)

    @router.get("/time")
    async def clock(request: Request) -> Times:
        """Answer with the own clock."""
        received = time.time()
        heard(request)
        return Times(received_at=received, sent_at=time.time())

    @router.get("/presented")
    async def presented(request: Request) -> Presented:
        """What is in force here: digest of the consortium files, versions."""
        heard(request)
        return await presents(context)

    @router.post("/reach", responses=refusals(502))
    async def reach(request: Request, ask: Reach) -> Reach:
        """Bring the nonce back to the asker through the gateways, then answer."""
        party = heard(request)
        try:
            await context.peers.reach_back(party, ask.nonce)
        except PeerError as e:
            # 429: the asker may try again, its way here is not broken
            raise RefusedError(429 if e.status == 429 else 502, f"{context.config.party} cannot come back: {e}") from e
        return ask

    @router.post("/reach-back")
    async def reach_back(request: Request, brought: Reach) -> Reach:
        """Receive a nonce that was brought back."""
        context.peers.state[heard(request)].nonces.append(brought.nonce)
        return brought

    @router.get("/jobs/{job_id}/decision", responses=refusals(404))
    async def decision(request: Request, job_id: JobPath, attempt: Annotated[int, Query(ge=1, le=10_000)]) -> Known:
        """What is known here of the decision on an attempt (cooperative termination)."""
        found = refuse_unpromised(context, heard(request), job_id, attempt)
        worker.enqueue(job_id)
        return Known(statements=found)

    return router


def handle_refusals(app: Starlette, context: Context, metrics: Metrics) -> None:
    """Answer a refused message with its reason; what was refused for a forged or lying content is recorded."""

    async def refused(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RefusedError)
        party = getattr(request.state, "party", "unknown")
        metrics.refused.labels(party, str(error.status)).inc()
        log.warning("message refused", peer=party, path=request.url.path, status=error.status, reason=str(error))
        if error.status in (403, 409, 422):
            context.refusals.add(party, request.url.path, str(error))
        headers = {"retry-after": "10"} if error.status == 429 else None
        return JSONResponse({"detail": str(error)[:2000]}, error.status, headers)

    async def too_many(_: Request, error: Exception) -> JSONResponse:
        metrics.refused.labels("operator", "429").inc()
        context.refusals.add("operator", "", str(error), flood=True)
        return JSONResponse({"detail": str(error)}, 429, {"retry-after": "10"})

    app.add_exception_handler(TooManyError, too_many)

    async def malformed(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        told = "; ".join(f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in error.errors()[:20])
        log.warning("malformed request", path=request.url.path, reason=told[:500])
        return JSONResponse({"detail": told[:2000]}, 422)

    app.add_exception_handler(RequestValidationError, malformed)
    app.add_exception_handler(RefusedError, refused)  # handlers are matched by class, so the argument is one
