"""Preview must name what a converge would be for; nothing else may cause one."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from consortium.converge import Converge, role_digests
from consortium.engine_log import child_urn
from consortium.reasons import changes


def inputs(**overrides: Any) -> dict[str, Any]:
    """What a converged institution has in state; equal inputs mean nothing to do."""
    base = {
        "party": "alice",
        "hosts": {"alice-head": "id-1", "alice-gateway": "id-2"},
        "roles": {"ray": "aa", "gateway": "bb"},
        "files": {"alice-head": {"/etc/a": "1"}, "alice-gateway": {"/etc/b": "2"}},
        "payload": "secret",
        "drift": {},
    }
    return {**copy.deepcopy(base), **overrides}


def test_equal_inputs_need_nothing() -> None:
    assert list(changes(inputs(), inputs())) == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ({}, {"roles": {"ray": "XX", "gateway": "bb"}}, ["role ray changed"]),
        ({}, {"roles": {"ray": "aa", "gateway": "bb", "kuscia": "cc"}}, ["role kuscia added"]),
        ({}, {"roles": {"gateway": "bb"}}, ["role ray removed"]),
        ({}, {"hosts": {"alice-head": "id-9", "alice-gateway": "id-2"}}, ["alice-head changed"]),
        (
            {},
            {"files": {"alice-head": {"/etc/a": "9"}, "alice-gateway": {}}},
            ["alice-head:/etc/a changed", "alice-gateway:/etc/b removed"],
        ),
        ({"drift": {"alice-head": ["lay the files"]}}, {}, ["alice-head has drifted (lay the files)"]),
    ],
)
def test_each_difference_is_named(old: dict[str, Any], new: dict[str, Any], said: list[str]) -> None:
    assert list(changes(inputs(**old), inputs(**new))) == said


def test_the_secret_payload_alone_is_never_a_reason() -> None:
    # Encryption and key order may differ between runs; the digests of files say whether contents do.
    assert list(changes(inputs(), inputs(payload="other"))) == []


def test_ids_that_preview_cannot_know_yet_count_as_a_change() -> None:
    assert list(changes(inputs(), inputs(hosts="04da6b54-80e4-46f7-96ec-b56ff0331ba9")))


def test_an_edited_role_always_has_another_digest(tmp_path: Path) -> None:
    (tmp_path / "ray" / "tasks").mkdir(parents=True)
    task = tmp_path / "ray" / "tasks" / "main.yml"
    task.write_text("- a: 1\n")
    before = role_digests(tmp_path)
    task.write_text("- a: 2\n")
    assert role_digests(tmp_path) != before
    task.write_text("- a: 1\n")
    assert role_digests(tmp_path) == before
    task.rename(task.with_name("other.yml"))
    assert role_digests(tmp_path) != before


def test_progress_is_shown_on_the_resources_own_row() -> None:
    parent = "urn:pulumi:alice::consortium::consortium:index:Institution::alice"
    assert child_urn(parent, Converge._resource_type_name, "alice-converge") == (
        "urn:pulumi:alice::consortium::consortium:index:Institution$"
        "pulumi-python:dynamic/consortium:Converge::alice-converge"
    )
