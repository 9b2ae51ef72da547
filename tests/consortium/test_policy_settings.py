"""The policy in the stack settings is the policy of the coordinator, word for word."""

from __future__ import annotations

from typing import Any

from consortium.head_view import coordinator_config
from consortium.settings import Policy
from coordinator.config import Policy as Received
from tests.consortium import builders

WHOLE = {
    "default": "deny",
    "rules": [
        {
            "name": "night runs",
            "verdict": "approve",
            "programs": ["a" * 64],
            "initiators": ["bob"],
            "datasets": "any",
            "parties": ["bob"],
            "window": {"days": ["mon"], "from": "22:00", "to": "06:00", "timezone": "Europe/Berlin"},
            "until": "2026-12-31",
        },
        {"name": "no", "verdict": "deny", "datasets": ["a"]},
    ],
}


def form(schema: Any) -> Any:
    """A JSON schema without the words for people."""
    if isinstance(schema, dict):
        return {k: form(v) for k, v in schema.items() if k not in ("title", "description")}
    return [form(v) for v in schema] if isinstance(schema, list) else schema


def test_both_sides_have_the_same_fields_and_bounds() -> None:
    ours, theirs = form(Policy.model_json_schema()), form(Received.model_json_schema())
    for names in (ours, theirs):  # the two have their own ideas of how long a party's name may be
        for field in ("initiators", "parties"):
            del names["$defs"]["Rule"]["properties"][field]["anyOf"][0]["items"]
    assert ours == theirs


def test_what_an_operator_writes_arrives(tmp_path: Any) -> None:
    from consortium.documents import load_model

    settings = builders.settings(policy=WHOLE, datasets={"a": {"path": "x"}})
    own = builders.party("alice", datasets={"a": {}})
    place = builders.write(tmp_path, stack=builders.stack(settings=settings), alice=own)
    sent = coordinator_config(load_model(place, "alice"), {})["policy"]
    assert Received.model_validate(sent).model_dump(mode="json") == Received.model_validate(WHOLE).model_dump(
        mode="json"
    )
    assert sent["rules"][0]["window"]["from"] == "22:00"
