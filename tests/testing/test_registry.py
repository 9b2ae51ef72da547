"""Names and ports are given once, and what a killed process left is found and removed, on a real engine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from consortium.errors import ConsortiumError
from testing import registry
from tests.airgap.tiny_image import archive

CLAIM = """
import sys, time
from testing import registry
environment = registry.claim(["alice", "bob"], "127.0.0.1")
print(environment.name, *environment.gateway_ports.values(), *environment.operator_ports.values(), flush=True)
sys.stdin.read()
"""
LABELS = {"consortium.party": "alice"}


@pytest.fixture(autouse=True)
def own_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def claimant() -> Iterator[subprocess.Popen[str]]:
    """Another process that has claimed a consortium and waits."""
    with subprocess.Popen([sys.executable, "-c", CLAIM], stdin=-1, stdout=-1, text=True) as process:
        yield process
        process.kill()


def test_two_claims_share_no_name_and_no_port(claimant: subprocess.Popen[str]) -> None:
    assert claimant.stdout is not None
    other, *ports = claimant.stdout.readline().split()
    mine = registry.claim(["alice", "bob", "carol"], "127.0.0.1")
    own = {*mine.gateway_ports.values(), *mine.operator_ports.values()}
    assert len(own) == 6
    assert mine.name != other
    assert own.isdisjoint(map(int, ports))
    assert {e.name for e in registry.environments()} == {mine.name, other}


def test_a_port_in_use_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    first = registry.claim(["alice"], "127.0.0.1")
    port = first.gateway_ports["alice"]
    monkeypatch.setattr(registry.random, "sample", lambda population, k: [port, *range(port + 1, port + 50)])
    assert port not in registry.claim(["alice"], "127.0.0.1").gateway_ports.values()


def test_an_owner_that_lives_is_no_orphan_and_a_killed_one_is(claimant: subprocess.Popen[str]) -> None:
    assert claimant.stdout is not None
    name = claimant.stdout.readline().split()[0]
    assert not registry.find(name).orphaned
    os.kill(claimant.pid, signal.SIGKILL)
    claimant.wait()
    assert registry.find(name).orphaned


def test_a_later_process_with_the_same_number_is_not_the_owner() -> None:
    mine = registry.claim(["alice"], "127.0.0.1")
    assert mine.owner is not None
    earlier = mine.model_copy(update={"owner": mine.owner.model_copy(update={"started": "an-earlier-boot:1"})})
    earlier.save()
    assert registry.find(mine.name).orphaned


def test_one_that_is_kept_is_removed_by_name_only() -> None:
    kept = registry.claim(["alice"], "127.0.0.1").kept()
    engine = docker.from_env()
    assert registry.reap(engine) == {}
    assert registry.reap(engine, [kept.name]) == {kept.name: []}
    assert not kept.folder.exists()


def test_a_name_that_is_not_there_is_refused_with_those_that_are() -> None:
    mine = registry.claim(["alice"], "127.0.0.1")
    with pytest.raises(ConsortiumError, match=f"found: t-none\n  allowed: {mine.name}"):
        registry.reap(docker.from_env(), ["t-none"])


@pytest.mark.docker
def test_reaping_removes_what_carries_the_label_and_nothing_else(claimant: subprocess.Popen[str]) -> None:
    assert claimant.stdout is not None
    name = claimant.stdout.readline().split()[0]
    engine = docker.from_env()
    ours, foreign = {**LABELS, "consortium.name": name}, {**LABELS, "consortium.name": f"{name}-not"}
    image = engine.images.get(engine.api.import_image_from_data(archive(), repository="consortium-test", tag=name) and f"consortium-test:{name}")  # fmt: skip # noqa: E501
    made = {f"{name}-head", f"{name}-inside", f"{name}-state"}
    try:
        network = engine.networks.create(f"{name}-inside", labels=ours)
        engine.volumes.create(f"{name}-state", labels=ours)
        engine.networks.create(f"{name}-foreign", labels=foreign)
        engine.containers.run(
            image, ["sleep", "600"], name=f"{name}-head", labels=ours, network=network.name, detach=True
        )
        assert registry.reap(engine) == {}, "its owner lives"
        claimant.kill()
        claimant.wait()
        (removed,) = registry.reap(engine).values()
        assert set(removed) == made
        left = {thing.name for things in (engine.networks, engine.volumes) for thing in things.list()}
        assert not made & left
        assert f"{name}-foreign" in left
        assert registry.environments() == []
        assert registry.reap(engine) == {}, "a second time there is nothing to do"
    finally:
        registry.sweep(engine, name)
        registry.sweep(engine, f"{name}-not")
        image.remove(force=True)
