"""The two HTTP applications of one coordinator and the tasks beside them."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import time
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import structlog
import uvicorn
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse, Response

from coordinator import failpoints, gauges
from coordinator.api_operator import operator_routes
from coordinator.api_peer import handle_refusals, peer_routes
from coordinator.audit_daily import AuditFiles
from coordinator.config import Limits, settings_digest
from coordinator.context import Context
from coordinator.group_commit import StoreError
from coordinator.kuscia.worker import KusciaWorker
from coordinator.launcher import Launcher, LauncherError, submission_id
from coordinator.limits import BodyLimit, Durable, GatewayOnly, PeerRate, cannot_write
from coordinator.messages import Alive, Heartbeat
from coordinator.metrics import Timed
from coordinator.model import Phase
from coordinator.openapi import OPERATOR, PEER
from coordinator.peers import PeerError
from coordinator.policy import policy_digest
from coordinator.reload import Reloaded, ReloadError, reload
from coordinator.retention import Retention
from coordinator.statuspage import errors_as_pages, page_routes
from coordinator.worker import Worker

log = structlog.get_logger()
_BUNDLE_OVERHEAD = 1_000_000  # multipart and tar headers around the files
_BODIES_AT_ONCE = 4  # of the longest kind, from one peer; what is short does not come near
_SWEEP_S = 30.0
_REMOVAL_S = 3600.0
_KEEP_ALIVE_S = 7200
"""Longer than the gateway keeps an idle connection (Envoy: an hour), so that it is the gateway that closes: a request
sent in the moment in which this side closes would be answered 503."""


def _release() -> str:
    try:
        return version("consortium")
    except PackageNotFoundError:  # on a node the source lies beside the environment
        return "0"


class Coordinator:
    """One party's coordinator: two servers, heartbeats, the worker, the sweep for orphans."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.worker = (KusciaWorker if context.kuscia else Worker)(context, context.metrics)
        self._tasks: list[asyncio.Task[None]] = []
        self._beats: dict[str, asyncio.Task[None]] = {}  # peer -> its heartbeats
        self._reloading = asyncio.Lock()
        self._signalled: asyncio.Task[None] | None = None
        self._servers: list[uvicorn.Server] = []
        self.ports: tuple[int, int] = (0, 0)

    def peer_app(self) -> FastAPI:
        """What peers reach through the gateway."""
        app = FastAPI(**PEER)
        app.include_router(peer_routes(self.context, self.worker))
        handle_refusals(app, self.context, self.context.metrics)
        me = self.context.config.party

        def body_limit(path: str) -> int:
            return self._bundle_limit() if path.startswith("/peer/v1/bundle/") else self._limits().message_bytes

        app.add_middleware(BodyLimit, limit=body_limit, at_once=lambda: _BODIES_AT_ONCE * self._bundle_limit())

        def flooded(party: str, path: str, why: str) -> None:
            self.context.metrics.refused.labels(party, "429").inc()
            self.context.refusals.add(party, path, why, flood=True)

        app.add_middleware(
            PeerRate, bound=lambda: (self._limits().peer_requests_per_s, self._limits().peer_burst), refused=flooded
        )  # each one added is passed before those above
        app.add_middleware(
            GatewayOnly,
            token=self.context.gateway_token,
            peers=lambda: self.context.config.peers.keys(),
            refused=self.context.refusals.stranger,
        )
        app.add_middleware(Durable, store=self.context.store, tell=lambda e: cannot_write(me, e))
        app.add_middleware(Timed, metrics=self.context.metrics, interface="peer")
        return app

    def operator_app(self) -> FastAPI:
        """What the institution's own people reach."""
        app = FastAPI(**OPERATOR)
        app.include_router(operator_routes(self.context, self.worker, self.reload))
        app.include_router(page_routes(self.context, self.worker))
        handle_refusals(app, self.context, self.context.metrics)
        errors_as_pages(app, self.context)
        app.add_middleware(BodyLimit, limit=lambda _: self._bundle_limit())
        app.add_middleware(Durable, store=self.context.store, tell=str)
        app.add_middleware(Timed, metrics=self.context.metrics, interface="operator")

        @app.get("/healthz", response_class=PlainTextResponse, include_in_schema=False)
        async def healthz() -> str:
            """200 while the coordinator answers and its state can be read."""
            self.context.store.head()
            return "ok\n"

        @app.get("/metrics", response_class=Response, include_in_schema=False)
        async def metrics() -> Response:
            """Prometheus metrics."""
            return Response(gauges.render(self.context), media_type="text/plain; version=0.0.4")

        return app

    def _limits(self) -> Limits:
        return self.context.config.limits

    def _bundle_limit(self) -> int:
        return self._limits().bundle_bytes + _BUNDLE_OVERHEAD

    async def reload(self) -> Reloaded:
        """Take up the configuration on the disk; open jobs are looked at anew. Raises ReloadError, StoreError."""
        async with self._reloading:
            done = await reload(self.context)
        self._follow_peers()
        self.worker.enqueue_all()
        return done

    def reload_soon(self) -> None:
        """On SIGHUP. What is wrong with the file stands in the log and in the audit log."""

        async def work() -> None:
            with contextlib.suppress(ReloadError, StoreError):
                await self.reload()

        self._signalled = asyncio.get_running_loop().create_task(work())

    def _follow_peers(self) -> None:
        """Heartbeats to those who are peers now, and to nobody else."""
        peers = self.context.config.peers
        for gone in [name for name in self._beats if name not in peers]:
            self._beats.pop(gone).cancel()
        for new in [name for name in peers if name not in self._beats]:
            self._beats[new] = asyncio.get_running_loop().create_task(self._heartbeats(new))

    async def start(self) -> None:
        """Listen, go on with every unfinished job. Raises OSError when a port is in use."""
        config = self.context.config
        failpoints.party.set(config.party)  # for every task begun here
        # where Kuscia carries jobs, no coordinator speaks to another
        apps = [(self.operator_app(), config.ports.operator)]
        apps += [] if self.context.kuscia else [(self.peer_app(), config.ports.peer)]
        sockets = [_listen(config.bind, port) for _, port in apps]
        self.ports = (sockets[0].getsockname()[1], sockets[-1].getsockname()[1])
        for (app, _), listening in zip(apps, sockets, strict=True):
            server = uvicorn.Server(
                uvicorn.Config(
                    app,
                    log_config=None,
                    access_log=False,
                    lifespan="off",
                    timeout_graceful_shutdown=1,
                    timeout_keep_alive=_KEEP_ALIVE_S,
                )
            )
            server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
            server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]
            self._servers.append(server)
            self._spawn(server.serve(sockets=[listening]))
        about: dict[str, Any] = {"settings": settings_digest(config), "policy": policy_digest(config.policy)}
        if config.revoked:
            about["revoked"] = sorted(config.revoked)
        self.context.store.note(time.time(), "started", f"coordinator {_release()} of {config.party}", **about)
        await self.context.store.durable()
        self._spawn(self.worker.tick())
        if isinstance(self.worker, KusciaWorker):
            self._spawn(self.worker.watch())
        self._spawn(self._sweep())
        self._spawn(AuditFiles(self.context).run())
        self._follow_peers()
        self.worker.enqueue_all()
        log.info("listening", party=config.party, operator=self.ports[0], peer=self.ports[1])

    async def stop(self) -> None:
        """Close everything; drivers go on and are found again at the next start."""
        for server in self._servers:
            server.should_exit = True
        await self.worker.close()
        self.context.ways.release_all()
        for task in (*self._tasks[len(self._servers) :], *self._beats.values()):
            task.cancel()
        await asyncio.gather(*self._tasks, *self._beats.values(), return_exceptions=True)
        await self.context.peers.close()
        if self.context.kuscia:
            await self.context.kuscia.api.close()
        self.context.store.close()

    def _spawn(self, work: contextlib.AbstractAsyncContextManager[None] | object) -> None:
        self._tasks.append(asyncio.get_running_loop().create_task(work))  # type: ignore[arg-type]

    async def _heartbeats(self, peer: str) -> None:
        structlog.contextvars.bind_contextvars(peer=peer)
        up = False
        while True:
            try:
                beat = self._beat(peer)
                await self.context.store.durable()  # a beat says which attempts live
                said = await self.context.peers.heartbeat(peer, beat)
                if beat.audit_head:
                    self.context.heads.confirmed(peer, beat.audit_head, said)
                if not up:
                    self.worker.enqueue_all()  # deliveries wait for this peer
                up = True
            except PeerError as e:
                if up:
                    log.warning("peer does not answer", peer=peer, error=str(e))
                up = False
            except StoreError as e:
                log.warning("no heartbeat: the state could not be written", peer=peer, error=str(e))
            every_s = self.context.config.timeouts.heartbeat_s
            await asyncio.sleep(every_s * random.uniform(0.9, 1.0))  # noqa: S311 (only spreads the load)

    def _beat(self, peer: str) -> Heartbeat:
        store = self.context.store
        jobs = [store.load(job_id) for job_id in store.used_slots().values()]
        alive = [
            Alive(job_id=job.job_id, attempt=job.attempt)
            for job in jobs
            if job and job.phase in (Phase.STARTING, Phase.RUNNING) and peer in job.proposal.parties
        ]
        return Heartbeat(alive=tuple(alive), audit_head=self.context.heads.due(peer))

    async def _sweep(self) -> None:
        """Remove what is old; end drivers that no record wants: left by a crash between a launch and its record."""
        retention, next_removal = Retention(self.context), 0.0
        while True:
            try:
                if time.monotonic() > next_removal:
                    next_removal = time.monotonic() + _REMOVAL_S
                    await retention.sweep()
                self.context.refusals.flush()
                if self.context.ray:
                    await self._end_orphans(self.context.ray)
            except LauncherError as e:
                log.info("Ray does not answer", error=str(e))
            except StoreError as e:
                log.warning("the state could not be written", error=str(e))
            await asyncio.sleep(_SWEEP_S)

    async def _end_orphans(self, ray: Launcher) -> None:
        before = self.context.store.failures
        live = await ray.live()  # first: what is launched after this is not ours to judge
        wanted = set()
        for job_id in self.context.store.unfinished():
            job = self.context.store.load(job_id)
            if job and job.phase in (Phase.STARTING, Phase.RUNNING):
                wanted.add(submission_id(job_id, job.attempt))
        await self.context.store.durable(before)
        for orphan in sorted(set(live) - wanted):
            log.warning("stopping a driver that no job wants", submission=orphan)
            self.context.store.note(time.time(), "orphan", f"stopping the driver {orphan}: no job wants it")
            await ray.stop(orphan)


def _listen(host: str, port: int) -> socket.socket:
    # with the protocol named asyncio sets TCP_NODELAY; without, each answer waits 40 ms for a delayed acknowledgement
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind((host, port))
    return listening
