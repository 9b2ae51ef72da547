"""Two real institutions for the whole session: what `make demo` makes, under another name and on free ports."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from consortium.demo import Demo, DemoParty
from consortium.engine import engine_address


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.e2e)
            item.add_marker(pytest.mark.timeout(1800))


def free_ports(address: str, count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind((address, 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()


@pytest.fixture(scope="session")
def engine() -> docker.DockerClient:
    return docker.from_env()


@pytest.fixture(scope="session")
def institutions(tmp_path_factory: pytest.TempPathFactory, engine: docker.DockerClient) -> Iterator[Demo]:
    """Both institutions up and connected. The name is new for each run, so an earlier run's remains do not matter."""
    gateway_ports, operator_ports = free_ports(engine_address(), 2), free_ports("127.0.0.1", 2)
    demo = Demo(
        folder=tmp_path_factory.mktemp("institutions"),
        name=f"e2e-{secrets.token_hex(3)}",
        parties=tuple(
            DemoParty(name, gateway, operator)
            for name, gateway, operator in zip(("alice", "bob"), gateway_ports, operator_ports, strict=True)
        ),
    )
    try:
        demo.prepare()
        demo.up()
        yield demo
    finally:
        demo.down()
        left = [
            thing.name
            for things in (engine.containers.list(all=True), engine.networks.list(), engine.volumes.list())
            for thing in things
            if thing.name.startswith(f"{demo.name}-")
        ]
        assert left == [], f"taking the institutions down left {left}"


class Nodes:
    """The containers of one institution, by host name, and what can be asked of them."""

    def __init__(self, engine: docker.DockerClient, demo: Demo, party: str) -> None:
        self._engine, self._demo, self.party = engine, demo, party

    def __getitem__(self, role: str) -> docker.models.containers.Container:
        return self._engine.containers.get(f"{self._demo.name}-{self.party}-{role}")

    def run(self, role: str, *command: str, user: str = "root") -> tuple[int, str]:
        code, output = self[role].exec_run(list(command), user=user)
        return int(code), output.decode(errors="replace")

    def read(self, role: str, path: str) -> str:
        code, text = self.run(role, "cat", path)
        assert code == 0, text
        return text

    def address(self, role: str) -> str:
        networks = self[role].attrs["NetworkSettings"]["Networks"]
        return next(n["IPAddress"] for name, n in networks.items() if name.endswith("-inside"))


@pytest.fixture(scope="session")
def alice(engine: docker.DockerClient, institutions: Demo) -> Nodes:
    return Nodes(engine, institutions, "alice")


@pytest.fixture(scope="session")
def bob(engine: docker.DockerClient, institutions: Demo) -> Nodes:
    return Nodes(engine, institutions, "bob")
