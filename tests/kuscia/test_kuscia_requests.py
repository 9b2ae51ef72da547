"""Objects as requests, and what counts as a difference."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consortium.kuscia.requests import differences, requests
from consortium.kuscia.wiring import changes
from tests.kuscia.kuscia_builders import of, own

ANY = st.recursive(
    st.text(max_size=5) | st.integers() | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def test_every_object_becomes_a_request_in_the_order_in_which_one_needs_the_other() -> None:
    assert list(requests(own())) == [
        "AppImage secretflow-image",
        "Domain bob",
        "ClusterDomainRoute alice-bob",
        "DomainDataSource alice/default-data-source",
        "DomainData alice/customers",
        "DomainDataGrant alice/customers-bob",
    ]


def test_a_partner_is_known_by_its_certificate_and_a_route_by_its_way() -> None:
    found = requests(own())
    assert found["Domain bob"]["body"]["cert"] == of(own(), "Domain", "bob")["spec"]["cert"]
    assert found["ClusterDomainRoute alice-bob"]["body"]["endpoint"] == {
        "host": "gateway.bob.example",
        "ports": [{"name": "http", "port": 8443, "protocol": "HTTP", "isTLS": True}],
    }


@given(st.dictionaries(st.text(min_size=1, max_size=5), ANY, max_size=4), st.dictionaries(st.text(max_size=5), ANY))
def test_what_is_equal_differs_in_nothing_whatever_else_is_said(body: dict[str, Any], more: dict[str, Any]) -> None:
    assert differences("Domain", body, {**more, **body}) == []


@pytest.mark.parametrize(
    ("wanted", "found", "where"),
    [
        ({"a": 86400}, {"a": "86400"}, []),
        ({"a": []}, {"a": None}, []),
        ({"a": {}}, {}, []),
        ({"a": {"b": [{"c": 1}]}}, {"a": {"b": [{"c": 2}]}}, ["a.b[0].c"]),
        ({"a": [1]}, {"a": [1, 2]}, ["a"]),
        ({"a": 1}, {}, ["a"]),
    ],
)
def test_a_difference_is_named_by_its_field(wanted: dict[str, Any], found: dict[str, Any], where: list[str]) -> None:
    assert differences("DomainData", wanted, found) == where


def test_a_grants_answer_lies_one_deeper_and_has_no_domain() -> None:
    body = requests(own())["DomainDataGrant alice/customers-bob"]["body"]
    assert differences("DomainDataGrant", body, {"data": {**body, "domain_id": ""}, "status": {}}) == []
    assert differences("DomainDataGrant", body, {"data": {**body, "grant_domain": "carol"}}) == ["grant_domain"]


def test_changes_are_named() -> None:
    old, new = requests(own()), requests(own("alice", "carol"))
    assert list(changes({"requests": old, "drift": {}}, {"requests": old})) == []
    found = list(changes({"requests": old, "drift": {"Domain bob": "is gone"}}, {"requests": new}))
    assert found[0] == "Domain bob is gone"
    assert {"Domain bob removed", "Domain carol added"} <= set(found)
    other = {**old, "Domain bob": {"kind": "Domain", "body": {}}}
    assert list(changes({"requests": old}, {"requests": other})) == ["Domain bob changed"]
