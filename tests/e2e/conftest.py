"""Two real institutions for the whole session: what `make demo` makes, under another name and on free ports."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from consortium.demo import Demo, DemoParty
from consortium.engine import engine_address
from testing import Consortium, Party, registry


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.e2e)
            item.add_marker(pytest.mark.timeout(1800))


@pytest.fixture(scope="session")
def engine() -> docker.DockerClient:
    return docker.from_env()


@pytest.fixture(scope="session")
def institutions(engine: docker.DockerClient) -> Iterator[Demo]:
    """Both institutions up and connected, by the commands of the demo. Registered, so that a killed run is reaped."""
    registry.reap(engine)
    demo = claimed_demo()
    try:
        demo.prepare()
        demo.up()
        yield demo
    finally:
        demo.down()
        left = registry.sweep(engine, demo.name)
        assert left == [], f"taking the institutions down left {left}"


def claimed_demo() -> Demo:
    """A demo with a name and ports of its own. Nothing is made yet."""
    environment = registry.claim(("alice", "bob"), engine_address())
    ports = zip(environment.gateway_ports.items(), environment.operator_ports.values(), strict=True)
    return Demo(
        folder=environment.folder,
        name=environment.name,
        parties=tuple(DemoParty(name, gateway, operator) for (name, gateway), operator in ports),
    )


@pytest.fixture(scope="session")
def consortium(institutions: Demo) -> Consortium:
    """The same two institutions, as the package `testing` sees them."""
    return Consortium.attach(institutions.name)


@pytest.fixture(scope="session")
def alice(consortium: Consortium) -> Party:
    return consortium.party("alice")


@pytest.fixture(scope="session")
def bob(consortium: Consortium) -> Party:
    return consortium.party("bob")
