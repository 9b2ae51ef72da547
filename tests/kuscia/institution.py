"""A Kuscia institution for tests: alice's workspace, and the archive of an image to put in the node."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import docker
import docker.errors
import pytest
import yaml

from consortium import toolchain, trust
from consortium.base_image import DEFAULT_BASE, ensure_base
from consortium.engine import engine_address
from consortium.founding import found
from consortium.joining import Wishes, join
from consortium.kuscia import keys
from consortium.stackfile import StackFile
from consortium.workspace import Workspace
from testing.registry import Environment
from tests.kuscia import stand_in
from tests.kuscia.api_server import ApiServer
from tests.kuscia.conformance import Node, serving
from tests.kuscia.kuscia_builders import DIGEST, ENGINE
from tests.kuscia.test_kuscia_documents import party
from tests.kuscia.tls_files import tls_files

ENGINE_URL = "unix:///var/run/docker.sock"


@contextmanager
def joined(claimed: Environment, folder: Path) -> Iterator[Workspace]:
    """Alice has joined, and knows bob by his party file."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("PULUMI_BACKEND_URL", "PULUMI_CONFIG_PASSPHRASE", "PULUMI_CONFIG_PASSPHRASE_FILE"):
            patch.delenv(name, raising=False)
        tools = toolchain.pulumi_environment()
        patch.setattr(toolchain, "pulumi_environment", lambda: tools)
        found(folder, claimed.name, ["alice", "bob"], mode="kuscia")
        bob = party("bob", ca_certificates=[trust.make_ca("bob", claimed.name).certificate])
        (folder / "parties/bob.yaml").write_text(yaml.safe_dump(bob))
        (folder / "customers.csv").write_text("id,age\n1,2\n")
        workspace = Workspace(folder)
        wishes = Wishes(
            endpoint=("alice.example", claimed.gateway_ports["alice"]),
            bind=engine_address(),
            operator_port=claimed.operator_ports["alice"],
            datasets={"customers": "customers.csv"},
        )
        join(workspace, "alice", wishes)
        yield workspace


@contextmanager
def with_node(
    claimed: Environment, engine: docker.DockerClient, store: ApiServer, base: str, folders: pytest.TempPathFactory
) -> Iterator[tuple[Workspace, Node]]:
    """Alice has joined, and her settings name an image whose KusciaAPI is the conformance server. Nothing is up yet;
    whatever is then goes in the end.
    """
    with joined(claimed, folders.mktemp("alice")) as place:
        shown = json.loads(place.pulumi("config", "--show-secrets", "--json", party="alice"))
        domain = keys.domain("alice", shown["consortium:kusciaKey"]["value"])
        with serving(domain, store, tls_files(domain, folders.mktemp("tls")), host=engine_address()) as node:
            image, archive = saved(engine, folders.mktemp("archive"), node.url.removeprefix("https://"))
            shutil.copy(archive, place.root / "kuscia.tar")
            settle(place, base, image_id=image, archive="kuscia.tar")
            try:
                yield place, node
            finally:
                place.pulumi("state", "unprotect", "--all", "--yes", party="alice")
                place.pulumi("destroy", "--yes", "--skip-preview", party="alice")
                with suppress(docker.errors.ImageNotFound):
                    engine.images.remove(image, force=True)


def settle(place: Workspace, base: str, **node: Any) -> None:
    stack = StackFile(place.stack_file("alice"))
    settings = stack.config()["settings"] | {
        "engine": ENGINE_URL,
        "image": base,
        "resources": {"kuscia": {"memory_mb": 512, "cpus": 0.5}},
        "kuscia": {"image": f"registry.example/kuscia@{DIGEST}", "engine": ENGINE, **node},
    }
    stack.update(settings=settings)


def saved(engine: docker.DockerClient, folder: Path, forward: str = "") -> tuple[str, Path]:
    """A stand-in's id and its archive of `docker save`; the engine has it no more."""
    name = f"consortium-kuscia-stand-in:{os.getpid()}"
    made = stand_in.build(engine, ensure_base(engine, DEFAULT_BASE, None, print), name, forward)
    path = folder / "kuscia.tar"
    with path.open("wb") as file:
        for piece in engine.images.get(made).save():
            file.write(piece)
    engine.images.remove(name, force=True)
    return made, path
