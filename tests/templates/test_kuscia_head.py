"""The head beside a Kuscia node: a coordinator without Ray and gateway, and what it needs to reach KusciaAPI."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from consortium.kuscia import keys
from consortium.kuscia.node_config import NodeSecrets
from consortium.nodefiles import NodeFile, files_for, hosts_of
from consortium.spec import Model
from coordinator.config import Config
from tests import builders
from tests.kuscia.kuscia_builders import DIGEST, ENGINE, domain

NODE = {"image": f"registry.example/kuscia@{DIGEST}", "engine": ENGINE}


@pytest.fixture(scope="module")
def model() -> Model:
    return builders.model(consortium={"mode": "kuscia"}, settings={"workers": 3, "kuscia": NODE})


@pytest.fixture(scope="module")
def files(model: Model) -> dict[str, NodeFile]:
    own = domain("alice")
    known = replace(builders.secrets(), kuscia=NodeSecrets(own, client=keys.issue_client(own)))
    (head,) = hosts_of(model)
    return {file.path: file for file in files_for(model, known, head)}


def test_the_one_node_of_ours_is_the_head(model: Model) -> None:
    assert [(host.name, host.role) for host in hosts_of(model)] == [("alice-head", "head")]
    assert model.limits_of("head") == model.settings.resources.coordinator
    assert builders.model().limits_of("head").memory_mb > model.limits_of("head").memory_mb


def test_nothing_of_ray_stands_there(files: dict[str, NodeFile]) -> None:
    assert "/etc/consortium/services/coordinator" in files
    assert not [path for path, file in files.items() if file.service in ("ray", "gateway") or path.endswith("/ray")]
    checks = json.loads(files["/etc/consortium/health.json"].content)["http"]
    assert [check["url"] for check in checks] == ["http://127.0.0.1:8080/healthz"]


def test_the_coordinator_is_told_where_kuscia_is_and_finds_every_file(files: dict[str, NodeFile]) -> None:
    told = json.loads(files["/etc/consortium/coordinator.json"].content)["kuscia"]
    assert told["url"] == "https://alice-kuscia:8082"
    assert {path for name, path in told.items() if name.endswith("_file")} <= set(files)
    token, key = files[told["token_file"]], files[told["key_file"]]
    assert token.content == keys.api_token(domain("alice"))
    for secret in (token, key):
        assert (secret.secret, secret.mode, secret.owner) == (True, "0400", "coordinator")
        assert secret.content not in "".join(file.content for file in files.values() if not file.secret)
    assert files[told["ca_file"]].content == domain("alice").certificate


def test_the_nodes_own_key_goes_to_no_node_of_ours(files: dict[str, NodeFile]) -> None:
    lines = domain("alice").key.splitlines()[-4]
    assert not [path for path, file in files.items() if lines in file.content]


def test_the_coordinator_takes_its_settings(files: dict[str, NodeFile]) -> None:
    config = Config.model_validate_json(files["/etc/consortium/coordinator.json"].content)
    assert config.kuscia is not None
    assert set(config.keys) == {"bob"}
