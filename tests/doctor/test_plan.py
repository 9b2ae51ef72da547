"""Who differs from what is declared: a pure comparison. On real institutions: tests/e2e/test_doctor.py."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from consortium.client import Coordinator
from consortium.plan import APART, Presented, compare, observe
from tests import builders

MODEL = builders.model("alice", "bob", "carol")
GOOD: dict[str, Any] = {"files": MODEL.digest(), "versions": builders.VERSIONS, "ray": builders.VERSIONS["ray"]}


def differing(**bob: Any) -> list[tuple[str, str, str]]:
    seen = {"alice": Presented(**GOOD), "bob": Presented(**GOOD | bob), "carol": Presented(**GOOD)}
    return [(one.party, one.what, one.presented) for one in compare(MODEL, seen)]


def test_equals_do_not_differ() -> None:
    assert differing() == []


@pytest.mark.parametrize(
    ("bob", "what", "presented"),
    [
        ({"files": "f" * 64}, "consortium files", "f" * 64),
        ({"versions": builders.VERSIONS | {"spu": "0.9.4"}}, "version of spu", "0.9.4"),
        ({"versions": {k: v for k, v in builders.VERSIONS.items() if k != "spu"}}, "version of spu", "none"),
        ({"versions": builders.VERSIONS | {"extra": "1"}}, "version of extra", "1"),
        ({"ray": "2.10.0"}, "Ray that runs", "2.10.0"),
        ({"ray": ""}, "Ray that runs", "none answers"),
        ({"certificate": "it expired"}, "certificate", "it expired"),
        ({"error": "HTTP 503"}, "coordinator", "HTTP 503"),
    ],
)
def test_whoever_differs_is_named_with_both_values(bob: dict[str, Any], what: str, presented: str) -> None:
    assert differing(**bob) == [("bob", what, presented)]


def test_every_difference_has_a_fix_for_the_one_who_can_mend_it() -> None:
    seen = dict.fromkeys(("alice", "bob"), Presented("f" * 64, builders.VERSIONS, builders.VERSIONS["ray"]))
    fixes = {one.party: one.fix for one in compare(MODEL, seen)}
    assert fixes["alice"] == "consortium up"
    assert "bob runs `consortium up`" in fixes["bob"]


def test_with_kuscia_only_the_own_coordinator_is_compared() -> None:
    model = MODEL.model_copy(update={"consortium": MODEL.consortium.model_copy(update={"mode": "kuscia"})})
    said = {"consortium_digest": "f" * 64, "versions": builders.VERSIONS, "ray": ""}
    answer = {"parties": {"alice": {"presented": said, "error": ""}}}
    own = Coordinator(
        "http://own.invalid", "t", transport=httpx.MockTransport(lambda _: httpx.Response(200, json=answer))
    )
    seen = observe(model, own)
    assert (seen["bob"].unseen, seen["carol"].unseen) == (APART, APART)
    assert [(one.party, one.what) for one in compare(model, seen)] == [("alice", "consortium files")]
