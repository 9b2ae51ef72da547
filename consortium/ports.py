"""Every port number inside an institution, in one place. Templates and roles receive numbers and
compute none.

Only one port of an institution is public (the gateway's); everything here lives on its inside
network.
"""

from __future__ import annotations

from collections.abc import Sequence

RAY_GCS_PORT = 6379
RAY_JOBS_PORT = 8265
"""Ray's dashboard and Jobs API; on the head's loopback only."""

RAY_FIXED_PORTS = {
    "node-manager-port": 6380,
    "object-manager-port": 6381,
    "runtime-env-agent-port": 6382,
    "dashboard-agent-grpc-port": 6383,
    "dashboard-agent-listen-port": 6384,
    "metrics-export-port": 6385,
    "min-worker-port": 10002,
    "max-worker-port": 19999,
}
"""Options of `ray start`, on head and workers. Left alone, Ray picks ports at random, slot ports included."""

COORDINATOR_OPERATOR_PORT = 8080
COORDINATOR_PEER_PORT = 8081

GATEWAY_PUBLIC_PORT = 8443
"""The gateway's mTLS port inside its container; the engine publishes it where the stack settings
say.
"""
GATEWAY_OPERATOR_PORT = 8080
"""The gateway's listener that leads to the coordinator's operator API."""
GATEWAY_ADMIN_PORT = 9901
"""Envoy's admin interface, on loopback only."""

MAX_SLOTS = 20
MAX_MEMBERS = 100
"""Keeps the outbound listeners below 32768, where Linux begins to hand out ports of its own choice.
"""

_FIRST_SLOT_PORT = 20000  # Ray's worker processes use 10002 to 19999
_FIRST_OUTBOUND_PORT = 21000
_PORTS_PER_PEER = 100

COORDINATOR = "coordinator"


def fed_port(slot: int) -> int:
    """Where rayfed's receiver of `slot` (from 0) listens on the head. ValueError outside
    0..MAX_SLOTS-1.
    """
    return _FIRST_SLOT_PORT + 2 * _checked(slot)


def spu_port(slot: int) -> int:
    """Where the SPU of `slot` (from 0) listens on the head. ValueError outside 0..MAX_SLOTS-1."""
    return _FIRST_SLOT_PORT + 1 + 2 * _checked(slot)


def fed_service(slot: int) -> str:
    """The name of a slot's rayfed service, as it stands in the SNI."""
    return f"fed-{_checked(slot)}"


def spu_service(slot: int) -> str:
    """The name of a slot's SPU service, as it stands in the SNI."""
    return f"spu-{_checked(slot)}"


def services(slots: int) -> dict[str, int]:
    """Every service a gateway forwards inwards, with its port on the head, in a fixed order."""
    found = {COORDINATOR: COORDINATOR_PEER_PORT}
    for slot in range(slots):
        found[fed_service(slot)] = fed_port(slot)
        found[spu_service(slot)] = spu_port(slot)
    return found


def outbound_port(members: Sequence[str], peer: str, service: str) -> int:
    """The gateway's listener on the inside network that leads to `service` of `peer`.

    `members` is the consortium's append-only list, so a new member moves nobody's port. ValueError
    for an unknown peer or service.
    """
    if peer not in members:
        raise ValueError(f"{peer!r} is not a member; members are {', '.join(members)}")
    index = members.index(peer)
    if index >= MAX_MEMBERS:
        raise ValueError(f"{peer!r} is member {index + 1}; at most {MAX_MEMBERS} are possible")
    return _FIRST_OUTBOUND_PORT + _PORTS_PER_PEER * index + _offset(service)


def outbound_ports(members: Sequence[str], own: str, slots: int) -> dict[str, dict[str, int]]:
    """Peer → service → the own gateway's outbound listener, for every peer of `own`."""
    return {
        peer: {service: outbound_port(members, peer, service) for service in services(slots)}
        for peer in members
        if peer != own
    }


def _offset(service: str) -> int:
    if service == COORDINATOR:
        return 0
    kind, _, number = service.partition("-")
    if kind not in ("fed", "spu") or not number.isdecimal():
        raise ValueError(f"{service!r} is not a service; allowed: coordinator, fed-<k>, spu-<k>")
    return (1 if kind == "fed" else 2) + 2 * _checked(int(number))


def _checked(slot: int) -> int:
    if not 0 <= slot < MAX_SLOTS:
        raise ValueError(f"slot {slot} is outside 0..{MAX_SLOTS - 1}")
    return slot
