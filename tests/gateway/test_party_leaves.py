"""A peer comes and goes by files alone: the process stays, and so do the connections of everybody else."""

from __future__ import annotations

import contextlib
import os
import secrets as random_source
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from consortium.nodefiles import Secrets
from consortium.spec import Model
from tests import builders
from tests.gateway.conftest import Gateway, connect, run
from tests.gateway.loopback_gateways import gateway_files, wait_for
from tests.gateway.test_between_gateways import echo, outbound, refused

TWO, THREE = ("alice", "bob"), ("alice", "bob", "carol")


class Held:
    """A connection that stays open, and whether bytes still come back on it."""

    def __init__(self, to: tuple[str, int]) -> None:
        self.socket = connect(*to)
        self.count = 0

    def lives(self) -> bool:
        self.count += 1
        sent = f"{self.count:09}".encode()
        try:
            self.socket.sendall(sent)
            return self.socket.recv(9, socket.MSG_WAITALL) == sent
        except OSError:
            return False


@pytest.fixture
def apart() -> dict[str, str]:
    """Addresses of their own: the gateways of the other tests keep theirs."""
    net = f"127.{random_source.randbelow(30) + 221}.{os.getpid() % 250 + 1}"
    return {name: f"{net}.{k + 2}" for k, name in enumerate(n for p in THREE for n in (p, f"{p}-head"))}


@pytest.fixture
def three(tmp_path: Path, apart: dict[str, str]) -> Iterator[dict[str, Gateway]]:
    """alice and bob, who know one another, and carol, whom they do not know yet."""
    with contextlib.ExitStack() as stack:
        running = {}
        for party in THREE:
            (tmp_path / party).mkdir()
            model = builders.model(*(THREE if party == "carol" else TWO), own=party)
            running[party] = run(party, model, tmp_path / party, apart)
            stack.callback(running[party].stop)
        yield running


def converge(gateway: Gateway, model: Model, secrets: Secrets | None = None) -> None:
    """What roles/base does: rename new files into place, in their order; remove at the end what is listed no more."""
    wanted = gateway_files(model, secrets or builders.secrets(gateway.party), gateway.folder, gateway.replaced)
    for name, content in wanted.items():
        if not (gateway.folder / name).exists() or (gateway.folder / name).read_text() != content:
            gateway.lay(name, content)
    for old in (gateway.folder / "sds").glob("*.yaml"):
        if f"sds/{old.name}" not in wanted:
            old.unlink()


def stat(gateway: Gateway, name: str) -> int:
    return int(gateway.admin(f"/stats?filter=^{name}$").rpartition(": ")[2])


def test_a_peer_comes_and_goes_by_files_and_the_others_connections_stay(
    three: dict[str, Gateway],
) -> None:
    alice, bob, carol = (three[name] for name in THREE)
    pids = {name: gateway.process.pid for name, gateway in three.items()}
    held = [Held(outbound(alice, "bob", "fed-0")), Held(outbound(bob, "alice", "fed-0"))]
    assert all(one.lives() for one in held)
    assert refused(outbound(carol, "alice", "fed-0"))
    with pytest.raises(ConnectionRefusedError):
        connect(*outbound(alice, "carol", "fed-0"))
    bootstraps = {name: (three[name].folder / "bootstrap.yaml").read_text() for name in TWO}

    for name in TWO:
        converge(three[name], builders.model(*THREE, own=name))
    for one in (alice, bob):
        wait_for(lambda one=one: echo(outbound(one, "carol", "fed-0"), b"out") == b"out")  # type: ignore[misc]
        wait_for(lambda one=one: echo(outbound(carol, one.party, "fed-0"), b"in") == b"in")  # type: ignore[misc]
        assert stat(one, "listener_manager.listener_in_place_updated") == 1
        assert stat(one, "listener_manager.lds.update_rejected") == 0
    assert all(one.lives() for one in held)

    of_carol = [Held(outbound(carol, "alice", "fed-0")), Held(outbound(alice, "carol", "fed-0"))]
    assert all(one.lives() for one in of_carol)
    for name in TWO:
        converge(three[name], builders.model(*THREE, own=name, left=("carol",)))
    for one in (alice, bob):
        wait_for(lambda one=one: refused(outbound(carol, one.party, "fed-0")))  # type: ignore[misc]
        wait_for(lambda one=one: closed(outbound(one, "carol", "fed-0")))  # type: ignore[misc]
        assert not (one.folder / "sds" / "peer-carol.yaml").exists()
        assert "carol" not in (one.folder / "lds.yaml").read_text() + (one.folder / "cds.yaml").read_text()
    # What was open ends too, when gateway_drain_s has passed.
    wait_for(lambda: not any(one.lives() for one in of_carol), timeout_s=60)
    assert all(one.lives() for one in held)
    assert {name: gateway.process.pid for name, gateway in three.items()} == pids
    assert all(gateway.process.poll() is None for gateway in three.values())
    assert {name: (three[name].folder / "bootstrap.yaml").read_text() for name in TWO} == bootstraps


def closed(to: tuple[str, int]) -> bool:
    try:
        connect(*to).close()
    except ConnectionRefusedError:
        return True
    return False
