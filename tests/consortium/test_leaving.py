"""Which nodes leave, what is done to the machines they stood on, and what those that stay must not forget meanwhile."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from consortium import converge
from consortium.ansible import AnsibleFailed, Event, Summary
from consortium.converge import ConvergeProvider
from consortium.leaving import Leaving, decide, meanwhile, merged, only
from consortium.nodefiles import files_for, hosts_of
from tests import builders

GROUPS = {"head": "head", "worker": "workers", "gateway": "gateway"}


def on_hosts(workers: Mapping[int, str], head: str = "10.0.0.5") -> dict[str, Any]:
    """Inputs of a converge; `workers`: number of a worker → its address. A machine's id is made of its address."""
    at = {"alice-head": head, "alice-gateway": "10.0.0.4"} | {f"alice-worker-{n}": a for n, a in workers.items()}
    role = {node: "worker" if "worker" in node else node.removeprefix("alice-") for node in at}
    return {
        "hosts": {node: f"id of {address}" for node, address in at.items()},
        "targets": {node: {"address": address, "port": 22} for node, address in at.items()},
        "variables": {node: {} for node in at},
        "payload": json.dumps({node: {"group": GROUPS[role[node]], "base_files": []} for node in at}),
        "drain": {"wait_s": 1, "force": False},
        "ssh_key": "key",
        "urn_": "urn",
    }


def on_engine(*nodes: str) -> dict[str, Any]:
    group = {node: GROUPS[node.split("-")[1]] for node in nodes}
    payload = {node: {"group": group[node], "base_files": []} for node in nodes}
    return {"engine": "unix:///x", "hosts": {node: f"id of {node}" for node in nodes}, "payload": json.dumps(payload)}


A, B, C = "10.0.0.10", "10.0.0.11", "10.0.0.12"
TWO = on_hosts({1: A, 2: B})


@pytest.mark.parametrize(
    ("news", "workers", "machines"),
    [
        pytest.param(TWO, [], [], id="nothing"),
        pytest.param(on_hosts({1: A, 2: B, 3: C}), [], [], id="one more"),
        pytest.param(on_hosts({1: A}), ["alice-worker-2"], ["alice-worker-2"], id="the last goes"),
        pytest.param(on_hosts({1: B}), ["alice-worker-1", "alice-worker-2"], None, id="the first goes"),
        pytest.param(on_hosts({1: C, 2: B}), ["alice-worker-1"], ["alice-worker-1"], id="another machine"),
        pytest.param(on_hosts({1: B, 2: A}), ["alice-worker-1", "alice-worker-2"], None, id="another order"),
        pytest.param(on_hosts({1: A}, head=C), [], ["alice-head", "alice-worker-2"], id="another head"),
        pytest.param(on_engine("alice-head"), [], sorted(TWO["hosts"]), id="containers from now on"),
    ],
)
def test_who_leaves_hosts(news: dict[str, Any], workers: list[str], machines: list[str] | None) -> None:
    found = decide(TWO, news)
    assert list(found.workers) == workers
    assert list(found.machines) == (workers if machines is None else machines)


def test_one_machine_under_another_address_and_another_at_the_same_leave_nothing() -> None:
    renamed = on_hosts({1: A, 2: "worker.example"})
    renamed["hosts"]["alice-worker-2"] = TWO["hosts"]["alice-worker-2"]
    assert decide(TWO, renamed) == Leaving(head="alice-head")
    replaced = on_hosts({1: A, 2: B})
    replaced["hosts"]["alice-worker-2"] = "id of a new machine"
    assert decide(TWO, replaced) == Leaving(head="alice-head")


def test_who_leaves_an_engine() -> None:
    olds = on_engine("alice-head", "alice-worker-1", "alice-worker-2", "alice-gateway")
    assert decide(olds, olds).workers == ()
    news = on_engine("alice-head", "alice-worker-1", "alice-gateway", "alice-worker-3")
    assert decide(olds, news) == Leaving(("alice-worker-2",), (), "alice-head")
    assert decide(olds, TWO) == Leaving(head="alice-head"), "Pulumi removes the containers"


def test_workers_that_go_are_reached_where_they_are() -> None:
    there = merged(TWO, on_hosts({1: B}), ["alice-worker-1", "alice-worker-2"])
    assert there["targets"]["alice-worker-1"]["address"] == A
    assert there["targets"]["alice-worker-2"]["address"] == B
    assert set(only(there, ["alice-head"])["hosts"]) == {"alice-head"}


def converged(workers: int, **more: Any) -> dict[str, Any]:
    model, secrets = builders.model(settings=builders.on_hosts(workers, **more)), builders.secrets()
    files = {h: [f.as_variables() for f in files_for(model, secrets, h)] for h in hosts_of(model)}
    return {
        **on_hosts({n + 1: f"10.0.0.{10 + n}" for n in range(workers)}),
        "payload": json.dumps({h.name: {"group": GROUPS[h.role], "base_files": found} for h, found in files.items()}),
    }


def texts(props: Mapping[str, Any], node: str) -> dict[str, str]:
    return {file["path"]: file["content"] for file in json.loads(props["payload"])[node]["base_files"]}


def test_those_that_stay_take_everything_new_but_still_let_those_in_that_go() -> None:
    olds, news = converged(2), converged(1, resources={"worker": {"memory_mb": 8192, "cpus": 2}})
    props = meanwhile(olds, news, decide(olds, news))
    assert set(props["hosts"]) == {"alice-head", "alice-worker-1", "alice-gateway"}
    for node in ("alice-head", "alice-worker-1"):
        shut, still_open = texts(news, node), texts(props, node)
        kept = {path for path in shut if shut[path] != still_open[path]}
        assert {path.rpartition("/")[2] for path in kept} == {"firewall.nft", "addresses.conf"}
        assert all("10.0.0.11" in still_open[path] and "10.0.0.11" not in shut[path] for path in kept)
    assert "MemoryMax=8192M" in texts(props, "alice-worker-1")["/etc/systemd/system/consortium-ray.service"]


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """What the provider does, in order; how each is done on machines is seen in tests/hosts."""
    done: list[tuple[str, ...]] = []

    def run(props: Mapping[str, Any], *, leave: bool = False, **_: Any) -> Summary:
        done.append(("leave" if leave else "converge", *sorted(props["hosts"])))
        return Summary(0, 0)

    monkeypatch.setattr(converge, "_run", run)
    monkeypatch.setattr(converge, "_drain", lambda _o, _n, leaving: done.append(("drain", *leaving.workers)))
    monkeypatch.setattr(converge, "tell", lambda *_, **__: None)
    return done


def test_a_host_is_drained_then_left_and_only_then_shut_out(steps: list[tuple[str, ...]]) -> None:
    ConvergeProvider().update("alice", TWO, on_hosts({1: B}))
    assert steps == [
        ("converge", "alice-gateway", "alice-head"),
        ("drain", "alice-worker-1", "alice-worker-2"),
        ("leave", "alice-worker-1", "alice-worker-2"),
        ("converge", "alice-gateway", "alice-head", "alice-worker-1"),
    ]


def test_a_container_is_drained_after_all_else_is_in_force(steps: list[tuple[str, ...]]) -> None:
    more = {"urn_": "urn", "drain": {}}
    olds, news = (on_engine("alice-head", *workers) | more for workers in (["alice-worker-1"], []))
    ConvergeProvider().update("alice", olds, news)
    assert steps == [("converge", "alice-head"), ("drain", "alice-worker-1")]


@pytest.mark.parametrize("kinds", [{"unreachable"}, {"unreachable", "failed"}, {"failed"}, set()])
def test_a_machine_that_is_gone_holds_nothing_up_and_one_that_refuses_does(
    kinds: set[str], steps: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(converge, "tell", lambda _urn, text, **_: said.append(text))

    def run(_props: Mapping[str, Any], *, on_event: Any, **_: Any) -> Summary:
        for kind in sorted(kinds):
            on_event("urn", Event(kind, "Stop and disable them", "alice-worker-2", "no"))
        raise AnsibleFailed("no")

    monkeypatch.setattr(converge, "_run", run)
    if kinds == {"unreachable"}:
        converge._leave(TWO, on_hosts({1: A}), ["alice-worker-2"])
        assert f"alice-worker-2 at {B} could not be reached" in said[-1]
    else:
        with pytest.raises(AnsibleFailed):
            converge._leave(TWO, on_hosts({1: A}), ["alice-worker-2"])
