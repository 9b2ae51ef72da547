"""What lies between two gateways: cut, slow, lossy, narrow, half-open.

`relayed` puts a relay on the way of every link, once, so that a fault changes a link with its connections in place.
Without it a fault puts its own relay there; connections that stand already then stay on the straight way.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import resources
from typing import Literal

from docker.models.containers import Container

from consortium.errors import UsageError
from testing.consortium import Consortium
from testing.faults import envoy
from testing.faults.fault import fault, until
from testing.faults.hands import SYSTEM_PYTHON, network_administrator, remove_container
from testing.party import Party

RELAY_PORT = 8443
Ways = Literal["there", "both"]

_ROUTE = """
import socket, struct, sys
new, delete, request, acknowledge, create = 24, 25, 1, 4, 0x400
message = new if sys.argv[1] == "add" else delete
route = struct.pack("BBBBBBBBI", socket.AF_INET, 32, 0, 0, 254, 3, 0, 6, 0)  # main table, blackhole
route += struct.pack("HH4s", 8, 1, socket.inet_aton(sys.argv[2]))
link = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
link.send(struct.pack("IHHII", 16 + len(route), message, request | acknowledge | create, 1, 0) + route)
sys.exit(-struct.unpack_from("i", link.recv(4096), 16)[0])
"""


@dataclass(frozen=True)
class Relay:
    """The relay on the way from one party to another."""

    container: Container

    @property
    def address(self) -> str:
        networks = self.container.attrs["NetworkSettings"]["Networks"]
        return str(next(iter(networks.values()))["IPAddress"])

    @contextmanager
    def set(self, **settings: float | str) -> Iterator[None]:
        """Other settings for a while; they fall back to what a relay does by itself."""
        try:
            self._write(settings)
            yield
        finally:
            self._write({"delay_s": 0, "loss": 0, "bytes_per_s": 0, "mode": "pass"})

    def _write(self, settings: dict[str, float | str]) -> None:
        text = json.dumps(settings)
        shell = 'printf %s "$0" > /tmp/settings.new && mv /tmp/settings.new /tmp/settings.json && sleep 0.05'
        code, output = self.container.exec_run(["sh", "-c", shell, text])
        if code:
            raise AssertionError(f"{self.container.name} did not take {text}: {output!r}")


@contextmanager
def relay(consortium: Consortium, name: str, party: Party, target: str) -> Iterator[Relay]:
    """A relay to `target` on the outside network of a party; it runs in the party's node image."""
    gateway = party.gateway.container
    full = f"{consortium.name}-{name}"
    program = resources.files("testing.faults").joinpath("relay.py").read_text()
    try:
        container = consortium.engine.containers.run(
            gateway.attrs["Image"],
            ["-I", "-u", "-c", program, str(RELAY_PORT), target],
            entrypoint=SYSTEM_PYTHON,
            name=full,
            user="nobody",
            network=f"{consortium.name}-{party.name}-outside",
            labels={"consortium.name": consortium.name, "consortium.role": "fault"},
            cap_drop=["ALL"],
            detach=True,
        )
        probe = f"import socket; socket.create_connection(('127.0.0.1', {RELAY_PORT}), 1)"
        until(lambda: container.exec_run([SYSTEM_PYTHON, "-I", "-c", probe])[0] == 0, f"the start of {full}", 30)
        container.reload()
        yield Relay(container)
    finally:
        remove_container(consortium, full)


@contextmanager
def _between(consortium: Consortium, sender: str, receiver: str) -> Iterator[Relay]:
    """The relay that stands on this link, or a new one."""
    name = _name(sender, receiver)
    standing = consortium.engine.containers.list(ignore_removed=True, filters={"name": f"^/?{consortium.name}-{name}$"})
    if standing:
        yield Relay(standing[0])
        return
    gateway, chosen = consortium.party(sender).gateway, _clusters(receiver)
    host, port = next(address for cluster, address in envoy.endpoints(gateway).items() if chosen(cluster))
    with (
        relay(consortium, name, consortium.party(sender), f"{host}:{port}") as made,
        envoy.leading(gateway, chosen, (made.address, RELAY_PORT)),
    ):
        yield made


@contextmanager
def relayed(consortium: Consortium) -> Iterator[None]:
    """A relay on every link, for as long as the body lasts. Enter it before the jobs that faults shall strike."""
    with ExitStack() as undo:
        for sender in consortium.parties:
            for receiver in consortium.parties:
                if sender != receiver:
                    undo.enter_context(_between(consortium, sender, receiver))
        yield


def _name(sender: str, receiver: str) -> str:
    return f"relay-{sender}-to-{receiver}"


def _clusters(receiver: str) -> Callable[[str], bool]:
    return lambda cluster: cluster.startswith(f"out-{receiver}-")


def _links(sender: str, receiver: str, ways: Ways) -> list[tuple[str, str]]:
    return [(sender, receiver), (receiver, sender)] if ways == "both" else [(sender, receiver)]


@contextmanager
def _under(consortium: Consortium, links: list[tuple[str, str]], **conditions: float | str) -> Iterator[None]:
    """These links under conditions of their relays (`Relay.set`)."""
    with ExitStack() as undo:
        for link in links:
            undo.enter_context(undo.enter_context(_between(consortium, *link)).set(**conditions))
        yield


def _arrow(sender: str, receiver: str, ways: Ways) -> str:
    return f"{sender} {'<->' if ways == 'both' else '->'} {receiver}"


@fault("links")
def cut(consortium: Consortium, sender: str, receiver: str, ways: Ways = "there") -> Iterator[str]:
    """A link is cut: packets of the sender's gateway to the receiver disappear (a blackhole route).

    One way means: the sender cannot call the receiver, who can still call it and gets answers.
    """
    with ExitStack() as undo:
        for caller, called in _links(sender, receiver, ways):
            gateway = consortium.party(caller).gateway
            leads = envoy.endpoints(gateway)
            address = next(host for cluster, (host, _) in leads.items() if _clusters(called)(cluster))
            others = sorted(c for c, (host, _) in leads.items() if host == address and c.startswith("out-"))
            if any(not _clusters(called)(cluster) for cluster in others):
                raise UsageError(
                    f"{caller} reaches several parties at one address, and a route cuts an address",
                    value=", ".join(others),
                    fix="with relayed(consortium): ... gives every link its own address",
                )
            network_administrator(gateway, _ROUTE, "add", address)
            undo.callback(network_administrator, gateway, _ROUTE, "delete", address)
        yield f"cut {_arrow(sender, receiver, ways)}"


@fault("links")
def latency(
    consortium: Consortium, sender: str, receiver: str, delay_s: float = 0.2, ways: Ways = "both"
) -> Iterator[str]:
    """A link is slow: every byte needs `delay_s` seconds more in each direction."""
    with _under(consortium, _links(sender, receiver, ways), delay_s=delay_s):
        yield f"{_arrow(sender, receiver, ways)}: {delay_s * 1000:g} ms more in each direction"


@fault("links")
def loss(consortium: Consortium, sender: str, receiver: str, share: float = 0.05, ways: Ways = "both") -> Iterator[str]:
    """A link loses a share of what is sent: TCP sends it again, 0.2 s later and then twice as late each time."""
    with _under(consortium, _links(sender, receiver, ways), loss=share):
        yield f"{_arrow(sender, receiver, ways)}: {share:.0%} of the pieces are lost once or more"


@fault("links")
def bandwidth(
    consortium: Consortium, sender: str, receiver: str, bytes_per_s: float = 50_000, ways: Ways = "both"
) -> Iterator[str]:
    """A link is narrow: all its connections together get `bytes_per_s` in each direction."""
    with _under(consortium, _links(sender, receiver, ways), bytes_per_s=bytes_per_s):
        yield f"{_arrow(sender, receiver, ways)}: {bytes_per_s:g} bytes a second in each direction"


@fault("links")
def half_open(consortium: Consortium, sender: str, receiver: str, ways: Ways = "there") -> Iterator[str]:
    """Connections are half-open: the sender's stand, take bytes and give none; nobody is at their other end.

    New ones become so too. What was sent meanwhile is lost, so they are closed when the fault is undone.
    """
    with _under(consortium, _links(sender, receiver, ways), mode="deaf"):
        yield f"{_arrow(sender, receiver, ways)}: connections stand, and nothing comes through"
