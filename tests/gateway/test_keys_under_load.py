"""Certificates and CAs change while connections come and go, and none fails; a peer that is revoked is out at once."""

from __future__ import annotations

import contextlib
import os
import secrets as random_source
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from consortium import ports, trust
from tests import builders
from tests.gateway.conftest import Gateway, run
from tests.gateway.loopback_gateways import wait_for
from tests.gateway.test_between_gateways import as_coordinator, echo, get, outbound, refused
from tests.gateway.test_party_leaves import Held, closed, converge, stat

BOTH = ("alice", "bob")


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Gateway, Gateway]]:
    """alice and bob on addresses of their own."""
    net = f"127.{random_source.randbelow(200) + 20}.{os.getpid() % 250 + 1}"
    names = [n for p in BOTH for n in (p, f"{p}-head")]
    addresses = {name: f"{net}.{k + 101}" for k, name in enumerate(names)}
    with contextlib.ExitStack() as stack:
        made = []
        for party in BOTH:
            (tmp_path / party).mkdir()
            made.append(run(party, builders.model(own=party), tmp_path / party, addresses))
            stack.callback(made[-1].stop)
        alice, bob = made
        wait_for(lambda: echo(outbound(alice, "bob", "fed-0"), b"up") == b"up")
        yield alice, bob


class Load:
    """New connections without end, both ways, of data and to the coordinator; what failed is kept."""

    def __init__(self, alice: Gateway, bob: Gateway) -> None:
        self.passed: Counter[str] = Counter()
        self.failed: list[str] = []
        self._stop = threading.Event()
        self._threads = []
        for one, other in ((alice, bob), (bob, alice)):
            data, http = (outbound(one, other.party, service) for service in ("fed-0", "coordinator"))
            headers = as_coordinator(one.party)
            self._begin(f"data {one.party}", lambda to=data: echo(to, b"x" * 2000) == b"x" * 2000)
            self._begin(f"http {one.party}", lambda to=http, h=headers: get(*to, "/peer/v1/time", h)[0] == 200)

    def _begin(self, name: str, once: Callable[[], bool]) -> None:
        def work() -> None:
            while not self._stop.is_set():
                try:
                    good, why = once(), "another answer"
                except OSError as error:
                    good, why = False, repr(error)
                if good:
                    self.passed[name] += 1
                else:
                    self.failed.append(f"{name}: {why}")
                time.sleep(0.002)

        self._threads.append(threading.Thread(target=work, daemon=True))
        self._threads[-1].start()

    def goes_on(self) -> None:
        """Wait until every kind has passed twenty times more."""
        until = {name: self.passed[name] + 20 for name in self.passed}
        wait_for(lambda: len(self.passed) == 4 and all(self.passed[name] >= n for name, n in until.items()))

    def __enter__(self) -> Load:
        self.goes_on()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def in_force(gateway: Gateway, certificate: str) -> bool:
    return f"{trust._load(certificate).serial_number:x}" in gateway.admin("/certs")


def test_certificate_and_ca_are_replaced_under_load_and_no_connection_fails(pair: tuple[Gateway, Gateway]) -> None:
    alice, bob = pair
    old, new = builders.authority("alice"), trust.make_ca("alice", builders.CONSORTIUM)
    held = [Held(outbound(alice, "bob", "fed-0")), Held(outbound(bob, "alice", "fed-0"))]
    own = builders.secrets("alice")

    def lay(ca: trust.KeyPair, *trusted: trust.KeyPair) -> None:
        """alice shows a new certificate of `ca`, and everybody has a party file of hers with these CAs."""
        issued = trust.issue_gateway(ca, "alice", builders.CONSORTIUM)
        file = {"alice": {"ca_certificates": [one.certificate for one in trusted]}}
        converge(bob, builders.model(own="bob", parties=file), builders.secrets("bob"))
        mine = replace(own, gateway_certificate=issued.certificate, gateway_key=issued.key)
        converge(alice, builders.model(own="alice", parties=file), mine)
        wait_for(lambda: in_force(alice, issued.certificate))
        load.goes_on()

    with Load(alice, bob) as load:
        lay(old, old)  # consortium rotate certificate
        lay(old, old, new)  # consortium rotate ca begin, and the party file at every peer
        lay(new, old, new)  # consortium rotate ca issue
        lay(new, new)  # consortium rotate ca finish
    assert load.failed == []
    assert all(one.lives() for one in held), "a connection that was open before did not stay"
    # And the overlap was needed: what the old CA issued is good for nothing now.
    converge(alice, builders.model(own="alice"), own)
    wait_for(lambda: in_force(alice, own.gateway_certificate))
    wait_for(lambda: refused(outbound(alice, "bob", "fed-0")))
    assert all(gateway.process and gateway.process.poll() is None for gateway in pair)


def test_a_revoked_peer_is_refused_at_once_and_what_it_had_open_ends(pair: tuple[Gateway, Gateway]) -> None:
    """bob is alice's only peer: a listener without chains would be refused by Envoy, and the old one go on."""
    alice, bob = pair
    to_alice, to_bob = outbound(bob, "alice", "fed-0"), outbound(alice, "bob", "fed-0")
    held = [Held(to_alice), Held(to_bob)]
    assert all(one.lives() for one in held)
    heard = alice.fed.connections
    began = time.monotonic()
    converge(alice, builders.model(own="alice", settings={"revoked": ["bob"]}))
    wait_for(lambda: refused(to_alice) and closed(to_bob), timeout_s=5)
    wait_for(lambda: not any(one.lives() for one in held), timeout_s=alice.drain_s + 5)
    assert time.monotonic() - began < alice.drain_s + 5
    assert stat(alice, "listener_manager.lds.update_rejected") == 0
    assert not (alice.folder / "sds" / "peer-bob.yaml").exists()
    assert get(*outbound(bob, "alice", "coordinator"), "/peer/v1/time", as_coordinator("bob"))[0] == 503
    known = alice.fed.connections
    assert refused(to_alice)
    assert alice.fed.connections == known <= heard + 1, "something inside heard of a revoked peer"
    assert any(line["service"] == "rejected" for line in alice.log)
    assert get(alice.address, ports.GATEWAY_OPERATOR_PORT, "/api/v1/status")[0] == 200

    converge(alice, builders.model(own="alice"))
    wait_for(lambda: echo(to_alice, b"again") == b"again" == echo(to_bob, b"again"))
    assert alice.process is not None
    assert alice.process.poll() is None
