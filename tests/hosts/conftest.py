"""Machines for the tests of `placement: ssh`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from consortium.image import Downloads, bake
from consortium.settings import StackSettings
from tests.hosts import machine
from tests.hosts.machine import Machine, SshKey


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.docker)


@pytest.fixture(scope="session")
def engine() -> docker.DockerClient:
    return docker.from_env()


@pytest.fixture(scope="session")
def machine_image(engine: docker.DockerClient) -> str:
    """The node image with what makes it a machine: what is installed on nodes is there, and takes no time."""
    address = os.environ.get("DOCKER_HOST") or str(StackSettings.model_fields["engine"].default)
    return machine.machine_image(engine, bake(address, downloads=Downloads.from_environment(os.environ)))


@pytest.fixture(scope="session")
def ssh_key() -> SshKey:
    return machine.make_ssh_key()


@pytest.fixture(scope="module")
def one_machine(engine: docker.DockerClient, machine_image: str, ssh_key: SshKey) -> Iterator[Machine]:
    made = Machine(engine, machine_image, ssh_key.public)
    yield made
    made.remove()
