"""`consortium testing`, as a person and as a program read it."""

from __future__ import annotations

from pathlib import Path

import pytest

from testing import faults, registry
from tests.consortium.conftest import Command, command

__all__ = ["command"]  # the fixture


@pytest.fixture(autouse=True)
def own_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_the_list_says_whose_each_is(command: Command) -> None:
    assert command("testing", "list").out == "there is none\n"
    mine, kept = (registry.claim(["alice", "bob"], "127.0.0.1") for _ in range(2))
    kept.kept()
    listed = {one["name"]: one for one in command("testing", "list", "--json").json()}
    assert listed[mine.name]["state"] == "owned"
    assert listed[kept.name]["state"] == "kept"
    assert listed[mine.name]["operator_ports"] == mine.operator_ports
    assert f"{kept.name}  kept      alice, bob" in command("testing", "list").out


@pytest.mark.docker
def test_reaping_says_what_was_removed(command: Command) -> None:
    assert command("testing", "reap").out == "nothing to remove\n"
    kept = registry.claim(["alice"], "127.0.0.1").kept()
    assert command("testing", "reap", kept.name).out == f"{kept.name}: removed its folder\n"
    refused = command("testing", "reap", kept.name)
    assert refused.code == 1
    assert "no such throw-away consortium" in refused.err


def test_every_fault_is_listed_with_what_it_does(command: Command) -> None:
    listed = command("testing", "faults", "--json").json()
    assert {one["name"] for one in listed} == set(faults.FAULTS)
    assert all(one["text"] for one in listed)
    assert "pause(party, part, run)" in command("testing", "faults").out


def test_options_of_a_throw_away_consortium_need_it(command: Command) -> None:
    refused = command("up", "--parties", "3", "--detach")
    assert refused.code == 2
    assert "--parties --detach: only with --ephemeral" in refused.err
