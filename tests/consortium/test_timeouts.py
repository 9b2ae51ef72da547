"""A timeout set against another is a hang nobody can explain: the rules must hold for every budget that is accepted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from consortium.timeouts import RULES, TABLE, TimeoutBudget, Timeouts, derive, lint


@st.composite
def budgets(draw: st.DrawFn) -> TimeoutBudget:
    heartbeat = draw(st.floats(0.2, 60))
    lost = draw(st.floats(max(2, 3 * heartbeat), 600))
    message = draw(st.floats(max(20, 2 * lost), 3600))
    start = draw(st.floats(20, 1800))
    job = draw(st.floats(max(60, start + message), 30 * 86400))
    return TimeoutBudget(
        start_window_s=start, heartbeat_s=heartbeat, peer_lost_after_s=lost, message_s=message, job_s=job
    )


@given(budgets(), st.integers(1, 20))
def test_no_rule_is_broken_by_what_is_derived(budget: TimeoutBudget, slots: int) -> None:
    assert lint(derive(budget, slots)) == []


@given(budgets(), st.integers(1, 20))
def test_spu_retries_cover_the_start_window_and_grpc_tries_at_most_five_times(
    budget: TimeoutBudget, slots: int
) -> None:
    derived = derive(budget, slots)
    link = derived.spu_link_desc()
    assert link["connect_retry_times"] * link["connect_retry_interval_ms"] >= budget.start_window_s * 1000
    policy = derived.cross_silo_comm_options()["grpc_retry_policy"]
    assert policy["maxAttempts"] <= 5
    assert float(policy["initialBackoff"].removesuffix("s")) > 0


def test_table_and_model_name_the_same_timeouts_and_the_unit_is_the_name_s_end() -> None:
    assert [row.name for row in TABLE] == list(Timeouts.model_fields)
    for row in TABLE:
        assert row.unit == "" or row.name.endswith(f"_{row.unit}"), row.name
        assert row.reason
        assert row.formula


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("heartbeat_s", 5, "heartbeat_s"),
        ("start_lead_s", 61, "start_lead_s ≤"),
        ("promise_s", 10, "promise_s"),
        ("peer_request_s", 2, "gateway_connect_s <"),
        ("peer_request_s", 11, "peer_request_s <"),
        ("gateway_request_s", 15, "peer_transfer_s"),
        ("gateway_http_idle_s", 60, "gateway_http_idle_s"),
        ("rayfed_retry_initial_backoff_s", 0.1, "rayfed's retries last ≥"),
        ("rayfed_timeout_in_ms", 10_000, "rayfed's retries last ≤"),
        ("rayfed_timeout_in_ms", 19_000, "rayfed_timeout_in_ms ≥"),
        ("rayfed_retry_max_attempts", 6, "≤ 5"),
        ("rayfed_barrier_s", 59, "rayfed_barrier_s"),
        ("shutdown_s", 100, "shutdown_s"),
        ("spu_connect_retry_times", 10, "spu_connect_retry_times"),
        ("spu_recv_timeout_ms", 30_000, "spu_recv_timeout_ms ≥"),
        ("spu_http_timeout_ms", 3_601_000, "spu_http_timeout_ms"),
        ("gateway_idle_s", 3000, "gateway_idle_s ≥"),
        ("gateway_idle_s", 100, "gateway_idle_s > rayfed"),
        ("gateway_keepalive_time_s", 7200, "keepalive"),
        ("job_s", 60, "job_s >"),
    ],
)
def test_a_value_set_by_hand_against_another_is_named(name: str, value: float, rule: str) -> None:
    derived = derive(TimeoutBudget(), 2).model_copy(update={name: value})
    problems = lint(derived)
    assert any(rule in problem and name in problem for problem in problems), problems


def test_every_rule_has_a_reason() -> None:
    assert all(rule.reason and rule.names for rule in RULES)


@pytest.mark.parametrize(
    ("budget", "named"),
    [
        ({"heartbeat_s": 4}, "3 × heartbeat_s"),
        ({"message_s": 20, "peer_lost_after_s": 11}, "2 × peer_lost_after_s"),
        ({"job_s": 100}, "start_window_s + message_s"),
        ({"start_window_s": 5}, "start_window_s"),
        ({"start_window": 60}, "start_window"),
    ],
)
def test_a_budget_that_cannot_work_is_refused(budget: dict[str, float], named: str) -> None:
    with pytest.raises(ValidationError, match=named.replace("+", r"\+")):
        TimeoutBudget.model_validate(budget)


def test_variables_hold_every_value_and_what_secretflow_takes() -> None:
    variables = derive(TimeoutBudget(), 2).as_variables()
    assert set(variables) == {*Timeouts.model_fields, "cross_silo_comm_options", "spu_link_desc"}
