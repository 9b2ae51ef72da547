"""The table behind `timeouts.py`: how each timeout follows from the budget, who reads it, and why.

Facts are cited from secretflow-rayfed 0.2.1a2 (`fed/…`), secretflow 1.11.0b1 (`secretflow/…`), spu
0.9.3b0 and Envoy's documentation; re-read those places when a version changes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from consortium.timeouts import TimeoutBudget

IMPORT_S = 10
"""Importing SecretFlow and starting a driver takes about this long on a loaded machine with 2
cores.
"""

START_LEAD_S = 0.12
"""One delivery on a busy machine, with room for a second try."""

RPC_MAX_ATTEMPTS = 5
RPC_RETRY_CODES = ("UNAVAILABLE",)
BACKOFF_UNITS = 1 + 2 + 4 + 8
"""Four waits between five attempts, each twice the one before."""
BACKOFF_JITTER = 0.2

SPU_CONNECT_INTERVAL_MS = 1000
ERROR_DELIVERY_S = 30
"""fed/cleanup.py:189 waits this long, fixed, for an error to reach the peer while shutting down."""


@dataclass(frozen=True)
class Row:
    """One derived timeout."""

    name: str
    unit: str
    consumer: str
    formula: str
    reason: str
    compute: Callable[[TimeoutBudget, int], float]


def seconds(value: float) -> str:
    """A duration in the form gRPC's service config takes, at least a millisecond: `0.833s`."""
    return f"{max(value, 0.001):.3f}s"


def _ms(value_s: float) -> int:
    return math.ceil(value_s * 1000)


def _connect_s(b: TimeoutBudget) -> float:
    return min(max(b.peer_lost_after_s / 4, 0.5), 5)


def _request_s(b: TimeoutBudget) -> float:
    return _connect_s(b) + min(max(b.peer_lost_after_s / 4, 0.5), 5)


def _initial_backoff_s(b: TimeoutBudget) -> float:
    return b.peer_lost_after_s / (BACKOFF_UNITS * (1 - BACKOFF_JITTER))


TABLE: tuple[Row, ...] = (
    Row("start_window_s", "s", "coordinator", "start_window_s",
        "the budget: a program that is not loaded so long after the decision, or not connected to all "
        "peers so long after the agreed moment, will not be, and the attempt ends",
        lambda b, _: b.start_window_s),
    Row("heartbeat_s", "s", "coordinator", "heartbeat_s",
        "the budget: SecretFlow has no heartbeat of its own, a lost peer would be waited for "
        "without end",
        lambda b, _: b.heartbeat_s),
    Row("peer_lost_after_s", "s", "coordinator", "peer_lost_after_s",
        "the budget: leases run out after this silence and the attempt ends at every party",
        lambda b, _: b.peer_lost_after_s),
    Row("message_s", "s", "coordinator", "message_s",
        "the budget: what rayfed and SPU are given per message",
        lambda b, _: b.message_s),
    Row("job_s", "s", "coordinator", "job_s",
        "the budget: bounds what nothing else ends",
        lambda b, _: b.job_s),
    Row("start_lead_s", "s", "coordinator", f"{START_LEAD_S}",
        "from go to the agreed moment, beside four round trips to the slowest peer: go must have arrived at every "
        "party. The drivers have loaded by then, so nothing else has to fit in",
        lambda b, _: START_LEAD_S),
    Row("promise_s", "s", "coordinator", "start_lead_s + 3 × peer_lost_after_s",
        "a promise must outlive one coordinator's restart and the asking around for a decision, "
        "and not hold a "
        "slot much longer",
        lambda b, _: START_LEAD_S + 3 * b.peer_lost_after_s),
    Row("peer_request_s", "s", "coordinator",
        "gateway_connect_s + min(peer_lost_after_s ÷ 4, 5), each at least 0.5",
        "one request to a peer's coordinator must fail before the peer counts as lost, and after "
        "the gateway has "
        "had its time to connect, so that the cause is named",
        lambda b, _: _request_s(b)),
    Row("peer_transfer_s", "s", "coordinator", "message_s",
        "requests that carry a program bundle are as large as a message",
        lambda b, _: b.message_s),
    Row("shutdown_s", "s", "driver", f"max(message_s, {ERROR_DELIVERY_S}) + 5",
        "sf.shutdown() waits for sends in flight, each at most rayfed's timeout_in_ms, and a fixed "
        "30 s for an error "
        "(fed/cleanup.py:189); it can hang beyond that, so the driver is ended",
        lambda b, _: max(b.message_s, ERROR_DELIVERY_S) + 5),
    Row("stop_grace_s", "s", "coordinator", "3",
        "an ended attempt must be gone within peer_lost_after_s + 5 s: this long after SIGTERM "
        "comes SIGKILL",
        lambda b, _: 3),
    Row("rayfed_timeout_in_ms", "ms", "rayfed", "message_s",
        "deadline of one send with all its retries (fed/proxy/grpc/grpc_proxy.py:143; default "
        "60000, fed/config.py:126); "
        "also how long the proxy actors may take to start (fed/api.py:251)",
        lambda b, _: _ms(b.message_s)),
    Row("rayfed_barrier_s", "s", "driver", "start_window_s",
        "rayfed's own barrier tries 3600 times, up to 3 s each, and cannot be set (fed/api.py:297, "
        "fed/proxy/barriers.py:514): sf.init is bounded from outside",
        lambda b, _: b.start_window_s),
    Row("rayfed_retry_max_attempts", "", "rayfed", f"{RPC_MAX_ATTEMPTS}",
        "gRPC treats any greater number as 5 (gRPC proposal A6); rayfed's default is 5 "
        "(fed/proxy/grpc/grpc_options.py:20)",
        lambda b, _: RPC_MAX_ATTEMPTS),
    Row("rayfed_retry_initial_backoff_s", "s", "rayfed", "peer_lost_after_s ÷ (15 × 0.8)",
        "the four waits 1+2+4+8 with gRPC's jitter of ±20 % then last at least peer_lost_after_s: "
        "the coordinator "
        "judges a peer lost before a send gives up (rayfed's default begins at 5 s and takes 75 s)",
        lambda b, _: _initial_backoff_s(b)),
    Row("rayfed_retry_max_backoff_s", "s", "rayfed", "8 × rayfed_retry_initial_backoff_s",
        "the last of the four waits, uncapped",
        lambda b, _: 8 * _initial_backoff_s(b)),
    Row("rayfed_reconnect_backoff_ms", "ms", "rayfed", "min(rayfed_retry_initial_backoff_s, 1 s)",
        "gRPC's channel waits up to 120 s between connections by default and fails every call "
        "meanwhile, "
        "however often the call is retried",
        lambda b, _: _ms(min(_initial_backoff_s(b), 1))),
    Row("spu_connect_retry_times", "", "SPU",
        "start_window_s ÷ spu_connect_retry_interval_ms, rounded up",
        "SPU's default is 10 × 1000 ms (spu.libspu.link.Desc): a peer that needs longer fails the "
        "mesh",
        lambda b, _: math.ceil(b.start_window_s * 1000 / SPU_CONNECT_INTERVAL_MS)),
    Row("spu_connect_retry_interval_ms", "ms", "SPU", f"{SPU_CONNECT_INTERVAL_MS}",
        "SPU's own default; through a gateway a failed connection costs next to nothing",
        lambda b, _: SPU_CONNECT_INTERVAL_MS),
    Row("spu_recv_timeout_ms", "ms", "SPU", "job_s",
        "a party may compute for long between two messages (60 s were too short for ECDH on a busy machine, "
        "docs/secretflow.md); a dead peer is found by the leases "
        "(spu's default 30 s; secretflow/device/device/spu.py:103 sets 120 s)",
        lambda b, _: _ms(b.job_s)),
    Row("spu_http_timeout_ms", "ms", "SPU", "message_s",
        "one chunk's transfer (spu's default 20 s; secretflow/device/device/spu.py:106 sets 120 s)",
        lambda b, _: _ms(b.message_s)),
    Row("gateway_connect_s", "s", "gateway", "min(max(peer_lost_after_s ÷ 4, 0.5), 5)",
        "Envoy's connect_timeout to the peer's gateway; shorter than a coordinator's request, so "
        "that the gateway's "
        "reason reaches the coordinator",
        lambda b, _: _connect_s(b)),
    Row("gateway_handshake_s", "s", "gateway", "2 × gateway_connect_s",
        "Envoy's transport_socket_connect_timeout: who connects and offers no certificate does not "
        "hold a connection",
        lambda b, _: 2 * _connect_s(b)),
    Row("gateway_idle_s", "s", "gateway", "job_s + message_s",
        "Envoy's tcp_proxy idle_timeout (default 1 h): parties compute in silence, and a "
        "connection closed inside a "
        "job breaks the SPU mesh for good; dead peers are found by keepalive and heartbeats "
        "instead",
        lambda b, _: b.job_s + b.message_s),
    Row("gateway_http_idle_s", "s", "gateway", "message_s + 10 × heartbeat_s",
        "Envoy's HTTP idle_timeout for coordinators' connections: longer than a transfer and many "
        "heartbeats",
        lambda b, _: b.message_s + 10 * b.heartbeat_s),
    Row("gateway_request_s", "s", "gateway", "peer_transfer_s + 5",
        "Envoy's route timeout (default 15 s would cut a program bundle on a slow line), and its request_timeout: a "
        "peer's request that is not whole by then holds nothing any longer",
        lambda b, _: b.message_s + 5),
    Row("gateway_drain_s", "s", "gateway", "10",
        "Envoy's --drain-time-s (default 10 min): so long connections of a peer that has left live on, and "
        "those whose own settings changed; other peers' are not touched. It stands on Envoy's command line, so it "
        "follows from nothing: another value would restart the gateway",
        lambda b, _: 10),
    Row("gateway_keepalive_time_s", "s", "gateway", "min(peer_lost_after_s ÷ 2, 30), rounded up",
        "Linux's default of 2 h lets firewalls and address translators forget a silent connection",
        lambda b, _: math.ceil(min(b.peer_lost_after_s / 2, 30))),
    Row("gateway_keepalive_interval_s", "s", "gateway", "peer_lost_after_s ÷ 6, rounded up",
        "between unanswered probes",
        lambda b, _: math.ceil(b.peer_lost_after_s / 6)),
    Row("gateway_keepalive_probes", "", "gateway", "3",
        "unanswered probes after which the connection is closed, about when the peer counts as "
        "lost",
        lambda b, _: 3),
)  # fmt: skip
