"""From one mode to the other: what is planned, what is refused, and what stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from consortium.documents import load_model
from consortium.errors import Problem
from consortium.migration import documents
from consortium.migration.decide import Seen, kept, refused, steps
from consortium.migration.run import containers, keeping_volumes
from consortium.stackfile import StackFile
from consortium.workspace import Workspace
from tests.consortium import builders
from tests.consortium.conftest import Command
from tests.kuscia.kuscia_builders import DIGEST, ENGINE, domain

NODE = {"image": f"registry.example/kuscia@{DIGEST}", "engine": ENGINE}


def seen(**changed: Any) -> Seen:
    return Seen(**{"party": "alice", "now": "ray", "to": "kuscia", "datasets": ("customers",), "workers": 2} | changed)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, []),
        ({"now": "kuscia", "waiting": ("j-1",)}, []),
        ({"documents": (Problem("no certificate", where="parties/bob.yaml"),)}, ["no certificate"]),
        ({"answers": False}, ["does not answer"]),
        ({"waiting": ("j-1",)}, ["only mode: ray can run"]),
        ({"waiting": tuple(f"j-{n}" for n in range(12)), "answers": False}, ["does not answer", "only mode: ray"]),
    ],
)
def test_every_reason_is_said_at_once(changed: dict[str, Any], said: list[str]) -> None:
    found = refused(seen(**changed))
    assert len(found) == len(said)
    assert all(text in str(problem) for text, problem in zip(said, found, strict=True))


def test_the_plan_names_what_goes_what_comes_and_what_stays() -> None:
    there = "\n".join(steps(seen(active={"running": 2})))
    assert "2 running" in there
    assert "2 Ray workers" in there
    assert "the Kuscia node" in there
    back = "\n".join(steps(seen(now="kuscia", to="ray", workers=0)))
    assert "its volumes stay" in back
    assert "workers" not in back.split("make:")[0]
    assert steps(seen(now="kuscia")) == []
    assert "customers" in kept(seen())[0]
    assert kept(seen(datasets=()))[0] == "0 data sources"


LINES = st.lists(
    st.sampled_from(["# a word", "members: [alice, bob]", "slots: 2", "versions:", "  ray: 2.9.3"]), max_size=5
)


@given(LINES, st.sampled_from(["", "mode: ray", "mode: kuscia   # agreed"]), st.sampled_from(["ray", "kuscia"]))
def test_only_the_mode_changes_and_every_member_writes_the_same(lines: list[str], mode: str, to: Any) -> None:
    text = "\n".join(["name: demo", *lines, *([mode] if mode else [])]) + "\n"
    changed = documents.with_mode(text, to)
    assert f"mode: {to}\n" in changed
    assert [line for line in changed.splitlines() if not line.startswith("mode:")] == [
        line for line in text.splitlines() if not line.startswith("mode:")
    ]
    assert documents.with_mode(changed, to) == changed


def workspace(folder: Path, **changed: Any) -> Workspace:
    """In mode: ray, prepared for the other one."""
    certificates = {n: builders.party(n, kuscia={"certificate": domain(n).certificate}) for n in ("alice", "bob")}
    keys = dict.fromkeys(("kusciaKey", "kusciaClientKey"), builders.SECRET)
    builders.write(folder, **{**certificates, "stack": builders.stack(**keys), **changed})
    return Workspace(folder)


def problems(place: Workspace, node: dict[str, Any] | None = None) -> list[str]:
    path = place.root / "node.yaml"
    path.write_text(yaml.safe_dump(node or NODE))
    return [str(p) for p in documents.problems(place, "alice", documents.planned(place, "alice", "kuscia", path))]


def test_the_documents_are_tried_in_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "_images", lambda _: [])
    place = workspace(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.yaml")}
    assert problems(place) == []
    assert {path: path.read_bytes() for path in before} == before
    assert "parties/bob.yaml" in problems(workspace(tmp_path, bob=builders.party("bob")))[0]
    assert "unknown field" in problems(workspace(tmp_path), {**NODE, "runtim": "runp"})[0]


def test_an_image_that_is_nowhere_is_said_before_anything_is_held(tmp_path: Path) -> None:
    place = workspace(tmp_path, stack=builders.stack(
        settings=builders.settings(engine="unix:///nowhere.sock"), kusciaKey=builders.SECRET,
        kusciaClientKey=builders.SECRET,
    ))  # fmt: skip
    assert "does not answer" in problems(place)[0]


def test_there_and_back_the_documents_are_as_they_were(tmp_path: Path) -> None:
    place = workspace(tmp_path)
    node = tmp_path / "node.yaml"
    node.write_text(yaml.safe_dump(NODE))
    there = documents.planned(place, "alice", "kuscia", node)
    documents.write(place, "alice", there)
    assert load_model(tmp_path, "alice").kuscia is not None
    documents.write(place, "alice", there, back=True)
    assert load_model(tmp_path, "alice").kuscia is None
    documents.write(place, "alice", there)
    documents.write(place, "alice", documents.planned(place, "alice", "ray", None))
    assert load_model(tmp_path, "alice").consortium.mode == "ray"
    assert "kuscia" not in StackFile(place.stack_file("alice")).config()["settings"]
    again = documents.planned(place, "alice", "kuscia", None)
    assert again.settings[1]["kuscia"]["image"] == NODE["image"], "what was put aside is found again"
    assert (place.private / documents.ASIDE).stat().st_mode & 0o077 == 0


def test_volumes_of_one_mode_may_leave_the_stack_and_stay_on_the_engine() -> None:
    urn = "urn:pulumi:alice::consortium::consortium:index:Institution$"
    volume = "docker:index/volume:Volume"
    resources = [
        {"urn": f"{urn}{volume}::alice-state", "type": volume, "protect": True},
        {"urn": f"{urn}{volume}::alice-access", "type": volume, "protect": True},
        {"urn": f"{urn}consortium:index:KusciaNode${volume}::alice-kuscia-storage", "type": volume, "protect": True},
        {"urn": f"{urn}docker:index/container:Container::alice-access", "type": "docker:index/container:Container"},
        {"urn": f"{urn}docker:index/container:Container::alice-gateway", "type": "docker:index/container:Container"},
    ]
    found = keeping_volumes({"version": 3, "deployment": {"manifest": {}, "resources": resources}})
    fates = [(one.get("protect"), one.get("retainOnDelete")) for one in found["deployment"]["resources"]]
    assert fates == [(True, None), (False, True), (False, True), (None, None), (None, None)]
    assert found["version"] == 3
    names = [urn.rpartition("::")[2] for urn in containers(found)]
    assert names == ["alice-access", "alice-gateway"]
    assert found["deployment"]["manifest"] == {}


def test_the_plan_on_the_screen_and_as_data(tmp_path: Path, command: Command) -> None:
    (workspace(tmp_path).private / "alice.token").write_text("token")
    said = command("migrate", "--to", "kuscia", "-w", tmp_path, "--api", "http://127.0.0.1:1/api/v1")
    assert said.code == 1
    assert "from mode: ray to mode: kuscia" in said.out
    assert "settings of the Kuscia node are missing" in said.out
    assert "the own coordinator does not answer" in said.out
    data = command("migrate", "--to", "ray", "-w", tmp_path, "--api", "http://127.0.0.1:1/api/v1", "--json").json()
    assert (data["from"], data["steps"], data["refused"], data["migrated"]) == ("ray", [], [], False)
    refusal = command(
        "migrate", "--to", "kuscia", "--run", "--yes", "-w", tmp_path, "--api", "http://127.0.0.1:1/api/v1"
    )
    assert refusal.code == 1
    assert "nothing was changed" in refusal.err
    assert "nothing is to be prepared for Ray" in command("migrate", "--to", "ray", "--prepare", "-w", tmp_path).err
