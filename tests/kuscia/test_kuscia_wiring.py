"""The resource that brings objects into a node: against KusciaAPI with a real API server behind it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from consortium.errors import Refused, Unreachable
from consortium.kuscia import wiring
from consortium.kuscia.requests import requests
from consortium.kuscia.wiring import Access, WiringProvider
from tests.kuscia import kuscia_builders
from tests.kuscia.api_server import ApiServer
from tests.kuscia.conformance import Node, serving
from tests.kuscia.tls_files import tls_files

pytestmark = pytest.mark.kubernetes


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the resource shows on its row: there is no engine here that would show it."""
    lines: list[str] = []
    monkeypatch.setattr(wiring, "tell", lambda _urn, message, **_: lines.append(message))
    return lines


@pytest.fixture(scope="module")
def node(kubernetes: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    domain = kuscia_builders.domain("alice")
    with serving(domain, kubernetes, tls_files(domain, tmp_path_factory.mktemp("tls"))) as found:
        yield found


def props(node: Node, *names: str, **access: str) -> dict[str, Any]:
    files = node.files
    opens = Access(node.url, files.ca.read_text(), files.certificate.read_text(), files.key.read_text(), node.token)
    return {
        "party": "alice",
        "access": {**vars(opens), **access},
        "requests": requests(kuscia_builders.own(*names)),
        "drift": {},
        "urn_": "urn",
    }


def test_objects_come_change_drift_and_go(node: Node, said: list[str]) -> None:
    provider, two = WiringProvider(), props(node)
    made = provider.create(two)
    assert made.id == "alice"
    assert set(said) == {f"{key} made" for key in two["requests"]}
    assert provider.diff("alice", made.outs or {}, two).changes is False
    said.clear()
    assert provider.create(two).outs == made.outs
    assert said == [], "a second time changes nothing"

    # somebody takes one away and changes another by hand
    store = node.store
    store.call("DELETE", "/apis/kuscia.secretflow/v1alpha1/namespaces/alice/domaindatagrants/customers-bob")
    route = store.call("GET", "/apis/kuscia.secretflow/v1alpha1/clusterdomainroutes/alice-bob")
    route["spec"]["endpoint"]["host"] = "elsewhere.example"
    store.call("PUT", "/apis/kuscia.secretflow/v1alpha1/clusterdomainroutes/alice-bob", route)
    seen = provider.read("alice", made.outs or {}).outs
    assert seen["drift"] == {
        "ClusterDomainRoute alice-bob": "differs in endpoint.host",
        "DomainDataGrant alice/customers-bob": "is gone",
    }
    assert provider.diff("alice", seen, two).changes is True
    mended = provider.update("alice", seen, two).outs
    assert provider.read("alice", mended or {}).outs["drift"] == {}

    three = props(node, "alice", "bob", "carol")
    said.clear()
    provider.update("alice", mended or {}, three)
    assert "Domain carol made" in said
    provider.update("alice", three, two)
    assert "Domain carol removed" in said
    provider.delete("alice", two)
    assert set(provider.read("alice", two).outs["drift"]) == set(two["requests"])


def test_a_node_that_is_away_is_drift_and_keeps_nobody_from_going(node: Node, said: list[str]) -> None:
    provider, away = WiringProvider(), props(node, url="https://127.0.0.1:1")
    with pytest.raises(Unreachable, match="does not answer"):
        provider.create(away)
    assert "does not answer" in provider.read("alice", away).outs["drift"]["the node"]
    provider.delete("alice", away)
    assert "its objects stay in the node" in said[-1]


def test_a_wrong_token_is_said_and_stops(node: Node, said: list[str]) -> None:
    with pytest.raises(Refused, match="does not let this stack in"):
        WiringProvider().delete("alice", props(node, token="0" * 32))
    assert said == []


def test_half_of_the_objects_is_gone_on_with(node: Node, said: list[str]) -> None:
    provider, wanted = WiringProvider(), props(node)
    node.trouble.broken.add("domaindata/create")
    try:
        with pytest.raises(Refused, match="does not take an object"):
            provider.create(wanted)
    finally:
        node.trouble.broken.clear()
    provider.create(wanted)
    assert provider.read("alice", wanted).outs["drift"] == {}
    provider.delete("alice", wanted)


def test_the_order_of_a_map_that_pulumi_shuffled_makes_no_difference(node: Node, said: list[str]) -> None:
    """A grant needs its data, and data their source; a map loses its order on the way through the engine."""
    provider, wanted = WiringProvider(), props(node)
    wanted["requests"] = dict(sorted(wanted["requests"].items(), reverse=True))
    provider.create(wanted)
    assert said[-1] == "DomainDataGrant alice/customers-bob made"
    provider.delete("alice", wanted)
    assert set(provider.read("alice", wanted).outs["drift"]) == set(wanted["requests"])
