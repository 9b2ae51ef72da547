"""`consortium up` of a whole institution: the real head and Pulumi; in the node's place the conformance server.

The node's container passes what comes to its port 8082 on to that server, whose state is in a real API server.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import docker
import docker.errors
import httpx
import pytest

from consortium.workspace import Workspace
from testing.registry import Environment
from tests.kuscia.api_server import ApiServer
from tests.kuscia.conformance import Node
from tests.kuscia.institution import with_node

pytestmark = [pytest.mark.kubernetes, pytest.mark.docker, pytest.mark.pulumi]

ROUTE = "/apis/kuscia.secretflow/v1alpha1/clusterdomainroutes/alice-bob"


@dataclass(frozen=True)
class Institution:
    place: Workspace
    node: Node
    said: str

    def up(self, *more: str) -> str:
        return self.place.pulumi("up", "--yes", "--skip-preview", *more, party="alice")

    def coordinator(self, path: str, token: str | None = None) -> httpx.Response:
        outputs = json.loads(self.place.pulumi("stack", "output", "--json", party="alice"))
        token = self.place.token_file("alice").read_text().strip() if token is None else token
        headers = {"Authorization": f"Bearer {token}"}
        return httpx.get(outputs["coordinator_api"] + path, headers=headers, timeout=20, trust_env=False)


@pytest.fixture(scope="module")
def institution(
    kubernetes: ApiServer,
    engine: docker.DockerClient,
    claimed: Environment,
    base: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Institution]:
    with with_node(claimed, engine, kubernetes, base, tmp_path_factory) as (place, node):
        said = place.pulumi("up", "--yes", "--skip-preview", party="alice")
        yield Institution(place, node, said)


def there(institution: Institution, path: str) -> Any:
    return institution.node.store.call("GET", path)


def test_the_node_knows_its_peer_its_routes_and_its_data(institution: Institution) -> None:
    assert there(institution, ROUTE)["spec"]["endpoint"]["host"] == "gateway.bob.example"
    api = "/apis/kuscia.secretflow/v1alpha1"
    assert there(institution, f"{api}/domains/bob")["spec"]["role"] == "partner"
    assert there(institution, f"{api}/namespaces/alice/domaindatas/customers")["spec"]["columns"][0]["name"] == "id"


def test_the_coordinator_is_up_and_its_node_answers_it(institution: Institution) -> None:
    status = institution.coordinator("/status").json()
    assert (status["party"], status["kuscia"]["error"]) == ("alice", "")
    assert institution.coordinator("/status", token="wrong").status_code == 401


def test_a_second_up_changes_nothing(institution: Institution) -> None:
    said = institution.up()
    assert "unchanged" in said
    assert not [word for word in ("created", "updated", "replaced", "deleted") if f" {word}" in said]


def test_what_somebody_changed_by_hand_is_found_and_mended(institution: Institution) -> None:
    institution.node.store.call("DELETE", ROUTE)
    said = institution.up("--refresh")
    assert "ClusterDomainRoute alice-bob is gone" in said
    assert there(institution, ROUTE)["spec"]["source"] == "alice"


def test_only_the_door_and_the_operators_port_are_published(
    institution: Institution, engine: docker.DockerClient, claimed: Environment
) -> None:
    mine = engine.containers.list(filters={"label": f"consortium.name={claimed.name}"})
    found = {
        (container.labels["consortium.role"], inside)
        for container in mine
        for inside, bindings in container.ports.items()
        if bindings
    }
    assert found == {("kuscia", "1080/tcp"), ("head", "8080/tcp")}
