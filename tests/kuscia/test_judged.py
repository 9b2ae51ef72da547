"""Every object, judged by a real API server with Kuscia's definitions: strictly created, read back, nothing lost."""

from __future__ import annotations

from copy import deepcopy

import pytest

from consortium.kuscia.objects import namespaces
from consortium.kuscia.settings import KusciaSettings
from tests.kuscia.api_server import ApiServer, Rejected, lost
from tests.kuscia.kuscia_builders import Object, node, of, own, runk, settings

pytestmark = pytest.mark.kubernetes


def keep(server: ApiServer, found: list[Object], namespace: str) -> None:
    """Create each, read it back, and compare; Kuscia's own cluster-wide objects are removed again."""
    cluster_wide = []
    try:
        for body in found:
            server.create(body, namespace)
            if "/namespaces/" not in server.path(body, namespace):
                cluster_wide.append(body)
            stored = dict(server.read(body, namespace))
            if body["kind"] == "Secret":
                assert set(stored["data"]) == set(body["stringData"])
                continue
            assert lost(body, stored) == []
    finally:
        for body in cluster_wide:
            server.call("DELETE", f"{server.path(body, namespace)}/{body['metadata']['name']}")


@pytest.mark.parametrize("names", [("alice", "bob"), ("alice", "bob", "carol")], ids=["two", "three"])
def test_kuscia_takes_every_object_of_an_institution(kubernetes: ApiServer, names: tuple[str, ...]) -> None:
    found = own(*names)
    assert namespaces(found) == {"alice"}
    namespace = kubernetes.namespace()
    for body in found:
        if "namespace" in body["metadata"]:
            body["metadata"]["namespace"] = namespace
    keep(kubernetes, found, namespace)


@pytest.mark.parametrize("given", [settings(), runk()], ids=["runp", "runk"])
def test_kubernetes_takes_every_object_of_a_node(kubernetes: ApiServer, given: KusciaSettings) -> None:
    keep(kubernetes, node(given), kubernetes.namespace())


def test_a_misspelt_field_is_an_error_and_not_dropped(kubernetes: ApiServer) -> None:
    wrong = deepcopy(of(own(), "ClusterDomainRoute", "alice-bob"))
    wrong["spec"]["endpoint"]["ports"][0]["isTls"] = True
    with pytest.raises(Rejected, match="unknown field"):
        kubernetes.create(wrong)


def test_a_missing_field_is_an_error(kubernetes: ApiServer) -> None:
    wrong = deepcopy(of(own(), "ClusterDomainRoute", "alice-bob"))
    del wrong["spec"]["source"]
    with pytest.raises(Rejected, match=r"spec\.source"):
        kubernetes.create(wrong)


def test_a_route_to_an_ipv6_address_is_what_kuscia_refuses(kubernetes: ApiServer) -> None:
    wrong = deepcopy(of(own(), "ClusterDomainRoute", "alice-bob"))
    wrong["spec"]["endpoint"]["host"] = "2001:db8::1"
    with pytest.raises(Rejected, match=r"endpoint\.host"):
        kubernetes.create(wrong)


def test_a_misspelt_field_of_a_pod_is_an_error(kubernetes: ApiServer) -> None:
    wrong = deepcopy(of(node(settings()), "Deployment", "alice-kuscia"))
    wrong["spec"]["template"]["spec"]["containers"][0]["livenesProbe"] = {}
    with pytest.raises(Rejected, match="unknown field"):
        kubernetes.create(wrong)
