"""`consortium revoke`: what it writes, whom it asks, and that it puts it in force at once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from consortium.errors import EXIT_DOCUMENTS, EXIT_USAGE
from consortium.workspace import Workspace
from tests.consortium import builders
from tests.consortium.conftest import Command


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pulumi: Callable[..., Path]) -> Path:
    pulumi()
    monkeypatch.chdir(builders.write(tmp_path))
    return tmp_path


def settings(place: Path) -> dict[str, Any]:
    file = yaml.safe_load((place / "stacks/Pulumi.alice.yaml").read_text())
    return dict(file["config"]["consortium:settings"])


def ups(place: Path) -> list[list[str]]:
    calls = place / "calls.jsonl"
    return [json.loads(line)[0] for line in calls.read_text().splitlines()] if calls.exists() else []


def test_it_is_written_and_in_force_at_once_and_taken_back(place: Path, command: Command) -> None:
    before = settings(place)
    said = command("revoke", "bob", "--yes", "--json")
    assert said.json() == {"party": "alice", "revoked": ["bob"], "changed": True, "in_force": True}
    assert settings(place) == {**before, "revoked": ["bob"]}
    assert ups(place) == [["up", "--yes", "--skip-preview", "--stack", "alice"]]
    again = command("revoke", "bob", "--yes", "--json").json()
    assert (again["changed"], again["revoked"], len(ups(place))) == (False, ["bob"], 2), (
        "up runs again: it may have failed"
    )
    undone = command("revoke", "bob", "--undo", "--yes")
    assert "bob is trusted again by alice" in undone.out
    assert settings(place) == before


def test_it_asks_first_and_shows_whose_ca_is_to_be_trusted_again(
    place: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr("typer.confirm", lambda question, **_: asked.append(question))
    command("revoke", "bob")
    command("revoke", "bob", "--undo", "--no-up")
    assert "Open jobs with it end" in asked[0]
    from consortium import trust

    assert trust.fingerprint(builders.authority("bob").certificate) in asked[1]
    assert len(ups(place)) == 1


def test_without_up_it_says_that_nothing_is_in_force(place: Path, command: Command) -> None:
    assert "not in force yet: consortium up" in command("revoke", "bob", "--yes", "--no-up").out
    assert (settings(place)["revoked"], ups(place)) == (["bob"], [])


@pytest.mark.parametrize("peer", ["bbo", "alice"])
def test_only_a_peer_can_be_revoked(place: Path, command: Command, peer: str) -> None:
    said = command("revoke", peer, "--yes")
    assert said.code == EXIT_USAGE
    assert "allowed: bob" in said.err
    assert "revoked" not in settings(place)
    assert command("revoke", peer, "--undo", "--yes").code == EXIT_USAGE


def test_with_wrong_documents_it_is_written_and_the_report_says_why_it_is_not_in_force(
    place: Path, command: Command
) -> None:
    (place / "parties/bob.yaml").write_text("party: bob\n")
    said = command("revoke", "bob", "--yes")
    assert said.code == EXIT_DOCUMENTS
    assert settings(place)["revoked"] == ["bob"]
    assert ups(place) == []
    assert Workspace(place).party() == "alice"
