"""The inequalities between derived timeouts; each broken one is a hang or a failure without a
cause.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from consortium.timeout_table import BACKOFF_JITTER, IMPORT_S, RPC_MAX_ATTEMPTS

if TYPE_CHECKING:
    from consortium.timeouts import Timeouts


@dataclass(frozen=True)
class Rule:
    """An inequality between derived timeouts."""

    text: str
    names: tuple[str, ...]
    reason: str
    holds: Callable[[Timeouts], bool]

    def numbers(self, timeouts: Timeouts) -> str:
        """The values the rule speaks of, for a message."""
        return ", ".join(f"{name} = {getattr(timeouts, name):g}" for name in self.names)


def _backoff_s(t: Timeouts) -> float:
    waits = [t.rayfed_retry_initial_backoff_s * 2.0**n for n in range(t.rayfed_retry_max_attempts - 1)]
    return sum(min(wait, t.rayfed_retry_max_backoff_s) for wait in waits)


_ROUNDING_S = 3  # keepalive's numbers are whole seconds

RULES: tuple[Rule, ...] = (
    Rule("peer_lost_after_s ≥ 3 × heartbeat_s", ("peer_lost_after_s", "heartbeat_s"),
         "one late heartbeat would end a job",
         lambda t: t.peer_lost_after_s >= 3 * t.heartbeat_s),
    Rule("start_lead_s ≤ start_window_s", ("start_lead_s", "start_window_s"),
         "drivers would be given up before they begin",
         lambda t: t.start_lead_s <= t.start_window_s),
    Rule("promise_s > start_lead_s + peer_lost_after_s",
         ("promise_s", "start_lead_s", "peer_lost_after_s"),
         "a promise would run out before the start it was given for",
         lambda t: t.promise_s > t.start_lead_s + t.peer_lost_after_s),
    Rule("gateway_connect_s < peer_request_s", ("gateway_connect_s", "peer_request_s"),
         "a coordinator would give up before its gateway can say why",
         lambda t: t.gateway_connect_s < t.peer_request_s),
    Rule("peer_request_s < peer_lost_after_s", ("peer_request_s", "peer_lost_after_s"),
         "one slow request would look like a lost peer",
         lambda t: t.peer_request_s < t.peer_lost_after_s),
    Rule("peer_transfer_s < gateway_request_s", ("peer_transfer_s", "gateway_request_s"),
         "the gateway would cut a transfer the coordinator still waits for",
         lambda t: t.peer_transfer_s < t.gateway_request_s),
    Rule("gateway_http_idle_s > message_s", ("gateway_http_idle_s", "message_s"),
         "the gateway would close connections under a transfer",
         lambda t: t.gateway_http_idle_s > t.message_s),
    Rule("rayfed's retries last ≥ peer_lost_after_s",
         ("rayfed_retry_initial_backoff_s", "rayfed_retry_max_backoff_s", "peer_lost_after_s"),
         "a send would give up before the coordinators judge the peer",
         lambda t: _backoff_s(t) * (1 - BACKOFF_JITTER) >= t.peer_lost_after_s * 0.999),
    Rule("rayfed's retries last ≤ rayfed_timeout_in_ms",
         ("rayfed_retry_initial_backoff_s", "rayfed_retry_max_backoff_s", "rayfed_timeout_in_ms"),
         "the deadline would cut the last attempts",
         lambda t: _backoff_s(t) * (1 + BACKOFF_JITTER) * 1000 <= t.rayfed_timeout_in_ms),
    Rule("rayfed_retry_max_attempts ≤ 5", ("rayfed_retry_max_attempts",),
         "gRPC treats any greater number as 5, so the rest would be a promise not kept",
         lambda t: t.rayfed_retry_max_attempts <= RPC_MAX_ATTEMPTS),
    Rule(f"rayfed_timeout_in_ms ≥ 2 × {IMPORT_S} s", ("rayfed_timeout_in_ms",),
         "rayfed's proxy actors must start within it on a loaded machine",
         lambda t: t.rayfed_timeout_in_ms >= 2 * IMPORT_S * 1000),
    Rule("rayfed_barrier_s ≥ start_window_s", ("rayfed_barrier_s", "start_window_s"),
         "sf.init would be ended inside the start window",
         lambda t: t.rayfed_barrier_s >= t.start_window_s),
    Rule("shutdown_s > rayfed_timeout_in_ms", ("shutdown_s", "rayfed_timeout_in_ms"),
         "a driver would be ended while its last message is on the way",
         lambda t: t.shutdown_s * 1000 > t.rayfed_timeout_in_ms),
    Rule("spu_connect_retry_times × spu_connect_retry_interval_ms ≥ start_window_s",
         ("spu_connect_retry_times", "spu_connect_retry_interval_ms", "start_window_s"),
         "the SPU mesh would give up inside the start window",
         lambda t: t.spu_connect_retry_times * t.spu_connect_retry_interval_ms
         >= t.start_window_s * 1000),
    Rule("spu_recv_timeout_ms ≥ start_window_s", ("spu_recv_timeout_ms", "start_window_s"),
         "the SPU mesh would give up on a peer that is still connecting",
         lambda t: t.spu_recv_timeout_ms >= t.start_window_s * 1000),
    Rule("spu_http_timeout_ms ≤ spu_recv_timeout_ms",
         ("spu_http_timeout_ms", "spu_recv_timeout_ms"),
         "the receiver would give up on a chunk that is still being sent",
         lambda t: t.spu_http_timeout_ms <= t.spu_recv_timeout_ms),
    Rule("gateway_idle_s ≥ job_s", ("gateway_idle_s", "job_s"),
         "the gateway would close connections inside a job",
         lambda t: t.gateway_idle_s >= t.job_s),
    Rule("gateway_idle_s > rayfed_timeout_in_ms and spu_recv_timeout_ms",
         ("gateway_idle_s", "rayfed_timeout_in_ms", "spu_recv_timeout_ms"),
         "an outer timeout must be longer than every inner one, or the cause is lost",
         lambda t: t.gateway_idle_s * 1000 > max(t.rayfed_timeout_in_ms, t.spu_recv_timeout_ms)),
    Rule("keepalive's time + interval × probes ≤ 2 × peer_lost_after_s + rounding",
         ("gateway_keepalive_time_s", "gateway_keepalive_interval_s", "peer_lost_after_s"),
         "dead connections would pile up at the gateway",
         lambda t: t.gateway_keepalive_time_s
         + t.gateway_keepalive_interval_s * t.gateway_keepalive_probes
         <= 2 * t.peer_lost_after_s + _ROUNDING_S),
    Rule("job_s > start_window_s", ("job_s", "start_window_s"),
         "a job would end before it has begun",
         lambda t: t.job_s > t.start_window_s),
)  # fmt: skip
