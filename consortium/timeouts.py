"""One budget of five numbers in, every timeout of the stack out, and the rules between them.

Rayfed, SPU, Envoy and the coordinator each have timeouts of their own; one set against another is
the field's commonest cause of jobs that hang or fail for no visible reason. Nobody sets them here
one by one: the formulas and their reasons stand in `timeout_table.py`, the inequalities that must
hold in `timeout_rules.py`.
"""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from consortium.timeout_rules import RULES
from consortium.timeout_table import RPC_RETRY_CODES, TABLE, Row, seconds

__all__ = ["RULES", "TABLE", "Row", "TimeoutBudget", "Timeouts", "derive", "lint"]

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Milliseconds = Annotated[int, Field(gt=0)]


class TimeoutBudget(BaseModel):
    """What the members agree on in consortium.yaml; all in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    start_window_s: float = Field(60, ge=20, le=1800, allow_inf_nan=False)
    """From the decision until every party's program must have loaded, and from the agreed moment until each must be
    connected to all the others.
    """
    heartbeat_s: float = Field(1, ge=0.2, le=60, allow_inf_nan=False)
    """How often coordinators tell one another that an attempt is alive."""
    peer_lost_after_s: float = Field(10, ge=2, le=600, allow_inf_nan=False)
    """Silence after which a peer counts as lost and the attempt ends everywhere."""
    message_s: float = Field(120, ge=20, le=3600, allow_inf_nan=False)
    """The longest one message between programs may take, or one party may compute while another
    waits.
    """
    job_s: float = Field(3600, ge=60, le=30 * 86400, allow_inf_nan=False)
    """The longest an attempt may run."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.peer_lost_after_s < 3 * self.heartbeat_s:
            raise ValueError(
                f"peer_lost_after_s is {self.peer_lost_after_s:g} and heartbeat_s "
                f"{self.heartbeat_s:g}: "
                "peer_lost_after_s must be at least 3 × heartbeat_s, or one late heartbeat ends a "
                "job"
            )
        if self.message_s < 2 * self.peer_lost_after_s:
            raise ValueError(
                f"message_s is {self.message_s:g} and peer_lost_after_s "
                f"{self.peer_lost_after_s:g}: "
                "message_s must be at least 2 × peer_lost_after_s, so that a lost peer is named "
                "before a message fails"
            )
        if self.job_s < self.start_window_s + self.message_s:
            raise ValueError(
                f"job_s is {self.job_s:g}: it must be at least start_window_s + message_s = "
                f"{self.start_window_s + self.message_s:g}, or no job can end in time"
            )
        return self


class Timeouts(BaseModel):
    """Every derived timeout; the unit is the last part of the name. Meaning and reason: `TABLE`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # coordinator
    start_window_s: Seconds
    heartbeat_s: Seconds
    peer_lost_after_s: Seconds
    message_s: Seconds
    job_s: Seconds
    start_lead_s: Seconds
    promise_s: Seconds
    peer_request_s: Seconds
    peer_transfer_s: Seconds
    shutdown_s: Seconds
    stop_grace_s: Seconds
    # rayfed
    rayfed_timeout_in_ms: Milliseconds
    rayfed_barrier_s: Seconds
    rayfed_retry_max_attempts: int = Field(ge=2)
    rayfed_retry_initial_backoff_s: Seconds
    rayfed_retry_max_backoff_s: Seconds
    rayfed_reconnect_backoff_ms: Milliseconds
    # SPU
    spu_connect_retry_times: int = Field(ge=1)
    spu_connect_retry_interval_ms: Milliseconds
    spu_recv_timeout_ms: Milliseconds
    spu_http_timeout_ms: Milliseconds
    # gateway
    gateway_connect_s: Seconds
    gateway_handshake_s: Seconds
    gateway_idle_s: Seconds
    gateway_http_idle_s: Seconds
    gateway_request_s: Seconds
    gateway_drain_s: int = Field(ge=1)
    gateway_keepalive_time_s: int = Field(ge=1)
    gateway_keepalive_interval_s: int = Field(ge=1)
    gateway_keepalive_probes: int = Field(ge=1)

    def cross_silo_comm_options(self) -> dict[str, Any]:
        """What `sf.init(cross_silo_comm_options=…)` needs from here."""
        return {
            "timeout_in_ms": self.rayfed_timeout_in_ms,
            "grpc_retry_policy": {
                "maxAttempts": self.rayfed_retry_max_attempts,
                "initialBackoff": seconds(self.rayfed_retry_initial_backoff_s),
                "maxBackoff": seconds(self.rayfed_retry_max_backoff_s),
                "backoffMultiplier": 2,
                "retryableStatusCodes": list(RPC_RETRY_CODES),
            },
            "grpc_channel_options": [
                ["grpc.initial_reconnect_backoff_ms", self.rayfed_reconnect_backoff_ms],
                ["grpc.max_reconnect_backoff_ms", self.rayfed_reconnect_backoff_ms],
            ],
        }

    def spu_link_desc(self) -> dict[str, int]:
        """What `sf.SPU(link_desc=…)` needs from here."""
        return {
            "connect_retry_times": self.spu_connect_retry_times,
            "connect_retry_interval_ms": self.spu_connect_retry_interval_ms,
            "recv_timeout_ms": self.spu_recv_timeout_ms,
            "http_timeout_ms": self.spu_http_timeout_ms,
        }

    def as_variables(self) -> dict[str, Any]:
        """All values by name, and the two groups SecretFlow takes as they are; ready for JSON and templates."""
        return {
            **self.model_dump(mode="json"),
            "cross_silo_comm_options": self.cross_silo_comm_options(),
            "spu_link_desc": self.spu_link_desc(),
        }


def derive(budget: TimeoutBudget, slots: int) -> Timeouts:
    """Every timeout from the budget and the number of concurrent jobs per party."""
    values = {row.name: row.compute(budget, slots) for row in TABLE}
    return Timeouts.model_validate(values)


def lint(timeouts: Timeouts) -> list[str]:
    """The rules that `timeouts` breaks, each a sentence with the numbers; empty when all hold."""
    return [
        f"{rule.text} does not hold ({rule.numbers(timeouts)}): {rule.reason}"
        for rule in RULES
        if not rule.holds(timeouts)
    ]
