"""From Ray to Kuscia and back: a real head and gateway, Pulumi, and the conformance server in the node's place."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import docker.errors
import pytest
import yaml

from consortium.client import Coordinator, operator_token, operator_url
from consortium.migration.documents import with_mode
from consortium.stackfile import StackFile
from consortium.subcommand import CommandFailed
from consortium.subcommand import run as command
from consortium.workspace import Workspace
from testing.registry import Environment
from tests.kuscia.api_server import ApiServer
from tests.kuscia.conformance import Node
from tests.kuscia.institution import with_node

pytestmark = [pytest.mark.kubernetes, pytest.mark.docker, pytest.mark.pulumi]


@dataclass(frozen=True)
class Alice:
    place: Workspace
    node: Node
    settings: Path

    def migrate(self, *arguments: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.cli("migrate", *arguments, "--json"))
        return found

    def cli(self, *arguments: str) -> str:
        return str(command(self.place.root, *arguments))

    def status(self) -> dict[str, Any]:
        own = Coordinator(operator_url(self.place, "alice"), operator_token(self.place, "alice"))
        return dict(own.get("/status"))


@pytest.fixture(scope="module")
def alice(
    kubernetes: ApiServer,
    engine: docker.DockerClient,
    claimed: Environment,
    base: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Alice]:
    """Up in mode: ray, prepared for the other."""
    try:
        with with_node(claimed, engine, kubernetes, base, tmp_path_factory) as (place, node):
            stack = StackFile(place.stack_file("alice"))
            settings = stack.config()["settings"]
            (place.root / "node.yaml").write_text(yaml.safe_dump(settings.pop("kuscia")))
            stack.update(settings={**settings, "workers": 0})
            agreement = place.root / "consortium.yaml"
            agreement.write_text(with_mode(agreement.read_text(), "ray"))
            place.pulumi("up", "--yes", "--skip-preview", party="alice")
            yield Alice(place, node, place.root / "node.yaml")
    finally:
        for volume in engine.volumes.list(filters={"label": f"consortium.name={claimed.name}"}):
            volume.remove(force=True)


def test_there_and_back(alice: Alice, engine: docker.DockerClient, claimed: Environment) -> None:
    there = ("--to", "kuscia", "--settings", str(alice.settings))
    plan = alice.migrate(*there)
    assert (plan["from"], plan["refused"], plan["migrated"]) == ("ray", [], False)
    before = alice.status()
    volumes = {volume.name for volume in engine.volumes.list(filters={"label": f"consortium.name={claimed.name}"})}

    # A node that does not take the objects: both documents and the nodes are put back, jobs begin again.
    documents = {path: path.read_bytes() for path in alice.place.root.rglob("*.yaml")}
    alice.node.trouble.broken.add("appimage/create")
    with pytest.raises(CommandFailed, match="mode: ray is in force again"):
        alice.migrate(*there, "--run", "--yes")
    alice.node.trouble.broken.clear()
    assert {path: path.read_bytes() for path in documents} == documents
    back = alice.status()
    assert (back["held"], back["consortium_digest"]) == ("", before["consortium_digest"])

    assert alice.migrate(*there, "--run", "--yes")["migrated"] is True
    assert "mode: kuscia\n" in (alice.place.root / "consortium.yaml").read_text()
    now = alice.status()
    assert (now["held"], now["kuscia"]["error"]) == ("", "")
    assert alice.migrate(*there, "--run", "--yes")["migrated"] is False
    left = {volume.name for volume in engine.volumes.list(filters={"label": f"consortium.name={claimed.name}"})}
    assert volumes <= left, "the access log stays on the engine"

    assert alice.migrate("--to", "ray", "--run", "--yes")["migrated"] is True
    assert alice.status()["held"] == ""
    kept = {volume.name for volume in engine.volumes.list(filters={"label": f"consortium.name={claimed.name}"})}
    assert left <= kept, "the node's database and results stay on the engine"
    assert alice.migrate("--to", "kuscia")["refused"] == [], "what was put aside is found again"
    assert "records 1 to" in alice.cli("audit", "verify"), "one chain through both modes"
