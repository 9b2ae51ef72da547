"""The manifest must be one that the operator's own schema takes, and one that a pod can act on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.consortium import builders
from tests.consortium.conftest import Command, command

__all__ = ["command"]

SCHEMA = json.loads((Path(__file__).parent / "stack-crd-v2.json").read_text())
"""`spec` of the CRD of pulumi/pulumi-kubernetes-operator 2.9.0 (Apache-2.0), less what the manifest does not use; a
field that it does not know is refused."""
IMAGE = f"registry.example/consortium@sha256:{'a' * 64}"
GIVEN = {"--repo": "https://git.bank.example/c.git", "--backend": "s3://bank-state", "--image": IMAGE}


def arguments(**more: str) -> list[str]:
    whole = {**GIVEN, **{f"--{name}": value for name, value in more.items()}}
    return [word for pair in whole.items() for word in pair]


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    settings = builders.settings(engine="ssh://ops@10.0.0.1")
    return builders.write(tmp_path, stack=builders.stack(settings=settings))


def test_the_manifest_is_what_the_operators_schema_takes(command: Command, workspace: Path) -> None:
    said = command("gitops", "operator", "-w", workspace, *arguments())
    assert said.code == 0, said.err
    document: dict[str, Any] = yaml.safe_load(said.out)
    assert (document["apiVersion"], document["kind"]) == ("pulumi.com/v1", "Stack")
    jsonschema.validate(document["spec"], SCHEMA)
    spec = document["spec"]
    assert (spec["stack"], spec["branch"]) == ("alice", "main")
    assert spec["workspaceTemplate"]["spec"]["image"] == IMAGE
    assert spec["destroyOnFinalize"] is False
    assert command("gitops", "operator", "--json", "-w", workspace, *arguments()).json() == document


def test_no_secret_stands_in_it(command: Command, workspace: Path) -> None:
    spec = yaml.safe_load(command("gitops", "operator", "-w", workspace, *arguments()).out)["spec"]
    assert {ref["type"] for ref in (*spec["envRefs"].values(), *spec["gitAuth"].values())} == {"Secret"}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"repo": "http://git/c.git"}, "--repo"),
        ({"backend": "file:///state"}, "--backend"),
        ({"image": "consortium:latest"}, "--image"),
        ({"namespace": "No Such"}, "--namespace"),
    ],
)
def test_what_a_pod_could_not_use_is_refused(
    command: Command, workspace: Path, more: dict[str, str], said: str
) -> None:
    found = command("gitops", "operator", "-w", workspace, *arguments(**more))
    assert found.code == 3
    assert said in found.err


def test_an_engine_on_a_socket_is_refused(command: Command, tmp_path: Path) -> None:
    builders.write(tmp_path)
    assert "a pod does not reach" in command("gitops", "operator", "-w", tmp_path, *arguments()).err
