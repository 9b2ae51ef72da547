"""What happens, counted for Prometheus as it happens; `coordinator.gauges` adds what can be looked up at any time.

Every coordinator has a registry of its own, so that several can live in one process. Labels come from closed sets:
members, phases, route templates, status codes, slots. Nothing a stranger writes becomes a label.
"""

from __future__ import annotations

import time
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, disable_created_metrics
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from coordinator.model import Job, Phase

disable_created_metrics()  # type: ignore[no-untyped-call]  # else each counter brings a series that nobody reads
_PHASES_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600, 86400)
_STARTS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)
_LAUNCHES_S = (0.05, 0.1, 0.25, 0.5, 1, 2, 3, 5, 10, 30)
_REQUESTS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)


class Metrics:
    """Counters and histograms of one coordinator."""

    def __init__(self) -> None:
        self.registry = own = CollectorRegistry()
        ProcessCollector(registry=own)  # memory, open files, CPU time, start time of this process
        self._moves = Counter(
            "consortium_job_transitions_total", "Changes of a job's phase at this party.", ["to"], registry=own
        )
        self._phase = Histogram(
            "consortium_phase_seconds",
            "Time a job spent in a phase, since this process started.",
            ["phase"],
            buckets=_PHASES_S,
            registry=own,
        )
        self._jobs_ended = Counter(
            "consortium_jobs_ended_total", "Jobs that reached a terminal phase.", ["outcome"], registry=own
        )
        self._attempts_ended = Counter(
            "consortium_attempts_ended_total",
            "Attempts for which this party signed an outcome.",
            ["status"],
            registry=own,
        )
        self._skew = Histogram(
            "consortium_start_skew_seconds",
            "Time between the first and the last party's entry of sf.init, per attempt that all parties entered.",
            buckets=_STARTS_S,
            registry=own,
        )
        self.launch = Histogram(
            "consortium_driver_launch_seconds",
            "Time from asking Ray for a driver to its answer, folder and files included.",
            buckets=_LAUNCHES_S,
            registry=own,
        )
        self.undelivered = Counter(
            "consortium_delivery_failures_total", "Deliveries to a peer that failed.", ["peer"], registry=own
        )
        self.refused = Counter(
            "consortium_messages_refused_total",
            "Requests refused with a reason; peer is `unknown` for the operator's own.",
            ["peer", "status"],
            registry=own,
        )
        self.requests = Histogram(
            "consortium_http_request_seconds",
            "Time until the answer to a request began, by interface, route template, method and status.",
            ["interface", "route", "method", "status"],
            buckets=_REQUESTS_S,
            registry=own,
        )
        for phase in Phase:
            self._moves.labels(phase)
            if phase.terminal:
                self._jobs_ended.labels(phase)
        for status in ("succeeded", "failed", "cancelled"):
            self._attempts_ended.labels(status)
        self._since: dict[str, float] = {}

    def moved(self, old: Job, new: Job, skew_ms: float | None = None) -> None:
        """Count a change of phase and the time spent in the phase left; `skew_ms` of the attempt's start if known."""
        if old.phase is not new.phase:
            now = time.monotonic()
            if old.job_id in self._since:
                self._phase.labels(old.phase).observe(now - self._since[old.job_id])
            self._moves.labels(new.phase).inc()
            self._since[new.job_id] = now
            if new.phase is Phase.ENDING and (own := new.outcomes(new.attempt).get(new.me)):
                self._attempts_ended.labels(own.status).inc()
            if old.phase is Phase.ENDING and skew_ms is not None:
                self._skew.observe(skew_ms / 1000)
            if new.phase.terminal and not old.phase.terminal:
                self._jobs_ended.labels(new.phase).inc()
        if new.phase.terminal:
            self._since.pop(new.job_id, None)


class Timed:
    """Middleware: how long each answer took to begin (a followed log ends hours later). No route: `none`."""

    def __init__(self, app: ASGIApp, metrics: Metrics, interface: str) -> None:
        self._app, self._metrics, self._interface = app, metrics, interface

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and measure."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status, took_s = time.perf_counter(), 500, None

        async def watch(message: Message) -> None:
            nonlocal status, took_s
            if message["type"] == "http.response.start":
                status, took_s = message["status"], time.perf_counter() - began
            await send(message)

        try:
            await self._app(scope, receive, watch)
        finally:
            route: Any = scope.get("route")
            template = getattr(route, "path", "none")
            known = scope["method"] in (getattr(route, "methods", None) or ())
            method = scope["method"] if known else "none"  # a client may send any word as method
            labels = (self._interface, template, method, str(status))
            self._metrics.requests.labels(*labels).observe(took_s or time.perf_counter() - began)
