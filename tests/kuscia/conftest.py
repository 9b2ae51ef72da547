"""The API server with Kuscia's own definitions."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import docker
import pytest
import yaml

from consortium import image
from consortium.engine import engine_address
from testing import registry
from testing.registry import Environment
from tests.kuscia import kuscia_builders
from tests.kuscia.api_server import ROOT, ApiServer, running
from tests.kuscia.conformance import Node, serving
from tests.kuscia.tls_files import tls_files

CRDS = "CONSORTIUM_KUSCIA_CRDS"


def definitions() -> list[dict[str, Any]]:
    """Kuscia's CustomResourceDefinitions, as its release ships them (crds/v1alpha1 of secretflow/kuscia).

    They lie in shared/kuscia/crds beside the checkout, or where the variable says.
    """
    beside = [folder / "shared" / "kuscia" / "crds" for folder in ROOT.parents]
    folders = [Path(os.environ[CRDS])] if CRDS in os.environ else beside
    for folder in folders:
        if found := sorted(folder.glob("kuscia.secretflow_*.yaml")):
            return [yaml.safe_load(path.read_text()) for path in found]
    raise AssertionError(
        f"no definitions of Kuscia in {', '.join(map(str, folders))}: "
        f"set {CRDS} to a folder with crds/v1alpha1 of secretflow/kuscia"
    )


@pytest.fixture(scope="session")
def kubernetes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """One server for all tests of this folder; each test takes a namespace of its own."""
    with running(tmp_path_factory.mktemp("kubernetes")) as server:
        for definition in definitions():
            server.define(definition)
        yield server


@pytest.fixture(scope="module")
def nodes(kubernetes: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Node]]:
    """KusciaAPI of alice and of bob, each with a real API server behind it."""
    with ExitStack() as stack:
        other = stack.enter_context(running(tmp_path_factory.mktemp("bob")))
        for definition in definitions():
            other.define(definition)
        found = {}
        for party, store in {"alice": kubernetes, "bob": other}.items():
            domain = kuscia_builders.domain(party)
            files = tls_files(domain, tmp_path_factory.mktemp(f"tls-{party}"))
            found[party] = stack.enter_context(serving(domain, store, files))
        yield found


@pytest.fixture(scope="module")
def engine() -> Iterator[docker.DockerClient]:
    client = docker.from_env()
    registry.reap(client)
    yield client
    client.close()


@pytest.fixture(scope="module")
def claimed(engine: docker.DockerClient) -> Iterator[Environment]:
    """A name and ports of its own; a killed run is reaped by the next."""
    environment = registry.claim(("alice", "bob"), engine_address())
    yield environment
    assert registry.sweep(engine, environment.name) == []


@pytest.fixture(scope="module")
def base() -> str:
    """The image of the head; baked now unless it is there."""
    return image.bake("unix:///var/run/docker.sock", on_progress=print)
