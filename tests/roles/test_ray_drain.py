"""roles/ray/library/ray_drain.py: which nodes it waits for, and whom it names."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from consortium.node_paths import RAY_LEAVING

ROLE = Path(__file__).parents[2] / "roles" / "ray"


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def drain() -> ModuleType:
    return load(ROLE / "library" / "ray_drain.py")


@pytest.fixture(scope="module")
def finishing() -> ModuleType:
    return load(ROLE / "files" / "finishing.py")


class Nodes:
    """A Ray whose watches need `starts` looks to run, and whose nodes end `lasts` looks after they were drained."""

    def __init__(self, lasts: int, *names: str, starts: int = 0) -> None:
        self.alive = {name.encode().hex(): (name, True) for name in names}
        self.lasts, self.starts, self.drained = lasts, starts, list[str]()

    def nodes(self) -> dict[str, tuple[str, bool]]:
        self.lasts -= bool(self.drained)
        if self.lasts < 0:
            self.alive |= {node: (self.alive[node][0], False) for node in self.drained}
        return dict(self.alive)

    def draining(self, node: str) -> bool:
        return node in self.drained

    def watched(self, node: str) -> bool:
        self.starts -= 1
        return self.starts < 0

    def drain(self, node: str) -> None:
        assert self.starts < 0, "what is drained without a watch loses its last answer"
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


def test_a_worker_is_drained_only_once_it_is_watched(drain: ModuleType) -> None:
    ray = Nodes(1, "alice-worker-2", starts=2)
    assert drain.wait(ray, ["alice-worker-2"], time.time()) != {}
    assert ray.drained == []
    assert drain.wait(ray, ["alice-worker-2"], time.time() + 60) == {}


class JobsApi(BaseHTTPRequestHandler):
    """Ray's Jobs API, for one job; `server.job` is it, or None."""

    def answer(self, code: int, content: Any) -> None:
        self.send_response(code)
        self.end_headers()
        self.wfile.write(json.dumps(content).encode())

    def do_GET(self) -> None:
        job = self.server.job  # type: ignore[attr-defined]
        self.answer(200 if job else 404, job or "no such job")

    def do_DELETE(self) -> None:
        self.server.job = None  # type: ignore[attr-defined]
        self.answer(200, {"deleted": True})

    def do_POST(self) -> None:
        self.server.job = json.loads(self.rfile.read(int(self.headers["content-length"])))  # type: ignore[attr-defined]
        self.server.job["status"] = "PENDING"  # type: ignore[attr-defined]
        self.answer(200, {})

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def jobs() -> Iterator[Any]:
    with ThreadingHTTPServer(("127.0.0.1", 0), JobsApi) as server:
        server.job = None  # type: ignore[attr-defined]
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def its_ray(drain: ModuleType, jobs: Any) -> Any:
    ray = object.__new__(drain.Ray)
    ray._jobs_url, ray._watch = f"http://127.0.0.1:{jobs.server_port}", "print('it')"
    ray._states = lambda _: [SimpleNamespace(node_ip_address="10.0.0.2")]
    return ray


@pytest.mark.parametrize("before", [None, "SUCCEEDED", "STOPPED"])
def test_a_watch_is_started_on_the_node_and_waited_for(drain: ModuleType, jobs: Any, before: str | None) -> None:
    """One that has ended saw an idle node before its drain was asked for, and what came since is not watched."""
    jobs.job = before and {"status": before}
    ray = its_ray(drain, jobs)
    assert not ray.watched("ab12")
    assert jobs.job["submission_id"] == "finishing-ab12"
    assert jobs.job["entrypoint_resources"] == {"node:10.0.0.2": 0.001}
    assert shlex.split(jobs.job["entrypoint"]) == ["exec", sys.executable, "-c", "print('it')", "ab12"]
    assert not ray.watched("ab12")
    jobs.job["status"] = "RUNNING"
    assert ray.watched("ab12")


def test_a_watch_that_fails_is_said_and_tried_again(drain: ModuleType, jobs: Any) -> None:
    jobs.job = {"status": "FAILED", "message": "no python there"}
    with pytest.raises(RuntimeError, match="finishing-ab12 failed: no python there"):
        its_ray(drain, jobs).watched("ab12")
    assert not its_ray(drain, jobs).watched("ab12")
    assert jobs.job["status"] == "PENDING"


def test_a_drain_that_a_former_up_asked_for_is_waited_for(drain: ModuleType) -> None:
    ray = Nodes(1, "alice-worker-2", starts=1000)
    ray.drained.append(b"alice-worker-2".hex())
    assert drain.wait(ray, ["alice-worker-2"], time.time() + 60) == {}


TOTAL = {"CPU": 2.0, "object_store_memory": 100.0, "node:10.0.0.2": 1.0}
OWN = {"node:10.0.0.2": 0.999}
"""Less, for the bit that the watch holds."""


@pytest.mark.parametrize(
    ("available", "programs", "found"),
    [
        ({}, ["ray::IDLE", "/opt/python"], []),
        ({}, ["ray::IDLE_SpillWorker", "ray::IDLE_RestoreWorker"], []),  # stay, once objects were too many for memory
        ({"CPU": 1.0}, [], ["CPU"]),
        ({"object_store_memory": 99.0}, ["ray::IDLE"], ["object_store_memory"]),
        ({}, ["ray::IDLE", "ray::PYUActor"], ["ray::PYUActor"]),  # an actor of no CPU
    ],
)
def test_what_of_a_node_is_needed(finishing: ModuleType, available: Any, programs: list[str], found: list[str]) -> None:
    assert finishing.needed(TOTAL | OWN | available, TOTAL, programs) == found


def test_a_resource_that_the_gcs_does_not_name_any_more_is_in_use(finishing: ModuleType) -> None:
    assert finishing.needed({}, TOTAL, []) == ["CPU", "object_store_memory"]


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
    drained, text = drain.one_round(str(config), ["alice-worker-2"], "", time.time())
    assert not drained
    assert "does not do as asked" in text


def test_launcher_and_role_speak_of_the_same_file() -> None:
    for step in ("leave", "stay"):
        found = re.findall(r"^    (?:dest|path): (\S+)$", (ROLE / "tasks" / f"{step}.yml").read_text(), re.M)
        assert found == [str(RAY_LEAVING)]
