"""roles/ray/library/ray_drain.py: which nodes it waits for, and whom it names."""

from __future__ import annotations

import importlib.util
import json
import re
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from consortium.node_paths import RAY_LEAVING

ROLE = Path(__file__).parents[2] / "roles" / "ray"


@pytest.fixture(scope="module")
def drain() -> ModuleType:
    spec = importlib.util.spec_from_file_location("ray_drain", ROLE / "library" / "ray_drain.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Nodes:
    """A Ray whose nodes end `lasts` looks after they were drained."""

    def __init__(self, lasts: int, *names: str) -> None:
        self.alive = {name.encode().hex(): (name, True) for name in names}
        self.lasts, self.drained = lasts, list[str]()

    def nodes(self) -> dict[str, tuple[str, bool]]:
        self.lasts -= bool(self.drained)
        if self.lasts < 0:
            self.alive |= {node: (self.alive[node][0], False) for node in self.drained}
        return dict(self.alive)

    def drain(self, node: str) -> None:
        self.drained.append(node)

    def holder(self, node: str) -> str:
        return f"task of {node}"


def test_a_node_that_has_ended_and_one_of_another_name_are_not_waited_for(drain: ModuleType) -> None:
    nodes = {"1": ("alice-worker-1", True), "2": ("alice-worker-2", False), "3": ("alice-worker-2", True)}
    assert drain.still_there(["alice-worker-2", "alice-worker-9"], nodes) == {"3": "alice-worker-2"}


def test_a_worker_is_drained_once_and_its_end_awaited(drain: ModuleType) -> None:
    ray = Nodes(2, "alice-worker-1", "alice-worker-2")
    assert drain.wait(ray, ["alice-worker-2"], time.time() + 60) == {}
    assert ray.drained == [b"alice-worker-2".hex()]


def test_at_the_end_of_a_round_who_holds_it_is_said(drain: ModuleType) -> None:
    held = drain.wait(Nodes(1000, "alice-worker-2"), ["alice-worker-2"], 0)
    assert held == {"alice-worker-2": f"task of {b'alice-worker-2'.hex()}"}


@pytest.mark.parametrize(
    ("uses", "said"),
    [
        ([("01", "task work")], "task work of job abc-d, attempt 2"),
        ([("02", "actor A")], "actor A of Ray job by-hand"),
        ([("03", "actor A")], "actor A of Ray job 03"),
        ([], "data of Ray job by-hand or job abc-d, attempt 2 (Busy.)"),
    ],
)
def test_jobs_are_named_as_the_operator_knows_them(drain: ModuleType, uses: Any, said: str) -> None:
    assert drain.held_by({"01": "consortium-abc-d-2", "02": "by-hand"}, uses, ["Busy."]) == said


def test_a_ray_that_does_not_answer_is_no_drained_worker(drain: ModuleType, tmp_path: Path) -> None:
    config = tmp_path / "coordinator.json"
    config.write_text(json.dumps({"ray": {"address": "127.0.0.1:1", "jobs_url": "http://127.0.0.1:1"}}))
    drained, text = drain.one_round(str(config), ["alice-worker-2"], time.time())
    assert not drained
    assert "does not answer" in text


def test_launcher_and_role_speak_of_the_same_file() -> None:
    for step in ("leave", "stay"):
        found = re.findall(r"^    (?:dest|path): (\S+)$", (ROLE / "tasks" / f"{step}.yml").read_text(), re.M)
        assert found == [str(RAY_LEAVING)]
