"""Two things on one port would reach the wrong peer, so no two may ever meet."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consortium import ports


@given(st.integers(2, ports.MAX_MEMBERS), st.integers(1, ports.MAX_SLOTS))
def test_no_two_outbound_listeners_share_a_port_nor_take_one_of_the_kernel_s(members: int, slots: int) -> None:
    names = [f"p{n}" for n in range(members)]
    numbers = [port for peer in ports.outbound_ports(names, "p0", slots).values() for port in peer.values()]
    fixed = [ports.RAY_GCS_PORT, ports.RAY_JOBS_PORT, ports.GATEWAY_PUBLIC_PORT, ports.GATEWAY_OPERATOR_PORT]
    inside = list(ports.services(slots).values())
    assert len({*numbers, *inside, *fixed}) == len(numbers) + len(inside) + len(fixed) - 0
    assert max(numbers) < 32768


def test_the_contract_s_numbers() -> None:
    assert ports.services(1) == {"coordinator": 8081, "fed-0": 20000, "spu-0": 20001}
    assert ports.outbound_ports(["alice", "bob"], "alice", 2) == {
        "bob": {"coordinator": 21100, "fed-0": 21101, "spu-0": 21102, "fed-1": 21103, "spu-1": 21104}
    }


def test_a_new_member_moves_nobody_s_port() -> None:
    before = ports.outbound_ports(["alice", "bob"], "bob", 3)
    assert ports.outbound_ports(["alice", "bob", "carol"], "bob", 3)["alice"] == before["alice"]


@pytest.mark.parametrize("call", [
    lambda: ports.fed_port(20),
    lambda: ports.spu_port(-1),
    lambda: ports.outbound_port(["alice"], "bob", "coordinator"),
    lambda: ports.outbound_port(["alice"], "alice", "ssh"),
    lambda: ports.outbound_port(["alice"], "alice", "fed-x"),
    lambda: ports.outbound_port([f"p{n}" for n in range(101)], "p100", "coordinator"),
])  # fmt: skip
def test_what_has_no_port_is_refused(call: object) -> None:
    with pytest.raises(ValueError, match=r"slot|member|service"):
        call()  # type: ignore[operator]
