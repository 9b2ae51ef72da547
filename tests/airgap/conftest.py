"""A built CLI, a tiny image, and stacks whose leftovers are removed."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(Path(__file__).parent), str(ROOT)]  # the helpers beside this file, and airgap

from airgap_harness import Stack  # noqa: E402
from tiny_image import archive  # noqa: E402


@pytest.fixture(scope="session")
def installed() -> dict[str, Any]:
    """The result of airgap/install; it builds the CLI on the first run of a machine only."""
    args = [sys.executable, str(ROOT / "airgap" / "install"), "--json"]
    said = subprocess.run(args, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(said.stdout))


@pytest.fixture(scope="session")
def daemon() -> Any:
    """The docker daemon; without one these tests fail, they do not skip."""
    import docker

    client = docker.APIClient(version="auto")
    client.ping()
    return client


@pytest.fixture(scope="session")
def image(daemon: Any) -> Iterator[str]:
    """A tiny image that exists on this daemon only."""
    name = f"airgap-test-{uuid.uuid4().hex[:8]}"
    daemon.import_image_from_data(archive(), repository=name, tag="1", changes=["CMD sleep 600"])
    yield f"{name}:1"
    daemon.remove_image(f"{name}:1", force=True)


@pytest.fixture
def new_stack(tmp_path: Path, installed: dict[str, Any], daemon: Any, image: str) -> Iterator[Callable[..., Stack]]:
    """Makes stacks; all are called dev of one project, and each has a backend of its own."""
    name = f"airgap-{uuid.uuid4().hex[:8]}"
    made: list[Stack] = []

    def make(env: dict[str, str] | None = None) -> Stack:
        folder = tmp_path / f"stack{len(made)}"
        made.append(Stack(folder, name, image, {**installed["env"], **(env or {})}))
        return made[-1]

    yield make
    for stack in made:
        stack.end()
    sweep(daemon, name)


@pytest.fixture
def stack(new_stack: Callable[..., Stack]) -> Stack:
    """One stack."""
    return new_stack()


def sweep(daemon: Any, name: str) -> None:
    """Removes everything whose name starts with a test's own."""
    filters = {"name": name}
    for container in daemon.containers(all=True, filters=filters):
        daemon.remove_container(container["Id"], force=True, v=True)
    for network in daemon.networks():
        if network["Name"].startswith(name):
            daemon.remove_network(network["Id"])
    for volume in daemon.volumes(filters=filters)["Volumes"] or []:
        daemon.remove_volume(volume["Name"])
