"""The API server that judges objects, and what it is built from."""

from __future__ import annotations

import re

import pytest

from tests.kuscia.api_server import ROOT, ApiServer, Rejected, lost
from tests.kuscia.conftest import definitions

GO_MOD = (ROOT / "tools" / "kubernetes" / "go.mod").read_text()


def test_every_module_of_kubernetes_is_of_the_servers_own_version() -> None:
    """Upstream replaces them by folders of its repository; another version of one would be another server."""
    found = re.search(r"k8s\.io/kubernetes v1\.(\S+)", GO_MOD)
    assert found
    replaced = re.findall(r"^\t(k8s\.io/\S+) => (\S+) (\S+)$", GO_MOD, re.MULTILINE)
    assert len(replaced) > 25
    assert all(name == by and version == f"v0.{found.group(1)}" for name, by, version in replaced)


@pytest.mark.kubernetes
def test_the_server_is_the_pinned_one(kubernetes: ApiServer) -> None:
    assert f"k8s.io/kubernetes {kubernetes.call('GET', '/version')['gitVersion']} " in GO_MOD


@pytest.mark.kubernetes
def test_every_definition_of_kuscia_is_served(kubernetes: ApiServer) -> None:
    served = {r["kind"] for r in kubernetes.call("GET", "/apis/kuscia.secretflow/v1alpha1")["resources"]}
    assert {d["spec"]["names"]["kind"] for d in definitions()} <= served


@pytest.mark.kubernetes
def test_what_is_not_there_is_not_found(kubernetes: ApiServer) -> None:
    missing = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "missing"}}
    with pytest.raises(Rejected) as error:
        kubernetes.read(missing)
    assert error.value.code == 404


@pytest.mark.kubernetes
def test_a_stranger_is_refused(kubernetes: ApiServer) -> None:
    answer = kubernetes.client.get("/api/v1/secrets", headers={"Authorization": "Bearer another"})
    assert answer.status_code == 401


@pytest.mark.parametrize(
    ("wanted", "found", "same"),
    [
        ({"a": 1}, {"a": 1, "b": 2}, True),
        ({"a": {"b": [1, {"c": 2}]}}, {"a": {"b": [1, {"c": 2, "d": 3}]}}, True),
        ({"a": 1}, {"b": 1}, False),
        ({"a": [1]}, {"a": [1, 2]}, False),
        ({"a": "1"}, {"a": 1}, False),
        ({"limits": {"memory": "4096Mi", "cpu": "1.5"}}, {"limits": {"memory": "4Gi", "cpu": "1500m"}}, True),
        ({"limits": {"memory": "4096Mi"}}, {"limits": {"memory": "4G"}}, False),
        ({"name": "4096Mi"}, {"name": "4Gi"}, False),
    ],
)
def test_what_was_sent_is_looked_for_in_what_is_stored(wanted: object, found: object, same: bool) -> None:
    assert (lost(wanted, found) == []) is same
