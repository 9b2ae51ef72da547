"""The package as another project has it: installed from a wheel, used by its own tests, killed in the middle."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import docker
import httpx
import pytest

from testing import registry

ROOT = Path(__file__).resolve().parents[2]
UV = Path(sys.executable).parent / "uv"

CONFTEST = """
import pytest

@pytest.fixture(scope="session")
def consortium_options():
    return {"workers": 0, "timeouts": {"peer_lost_after_s": 20}}
"""
SUCCEEDS = """
def test_my_job(consortium):
    print("NAME", consortium.name)
    run = consortium.party("alice").submit("jobs/psi", approve="all")
    assert run.wait().phase == "succeeded"
    assert run.result("bob")["intersection"] == 5000
"""
FAILS = """
def test_that_fails(consortium):
    print("NAME", consortium.name)
    run = consortium.party("bob").submit("jobs/psi", approve=())
    run.deny("alice", reason="not today")
    assert run.wait().phase == "succeeded"
"""
KILLED = """
from testing import Consortium
Consortium(on_progress=lambda line: print(line, flush=True)).up()
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter that has this package from its wheel, and pytest."""
    folder = tmp_path_factory.mktemp("installed")
    locked = ["export", "-q", "--frozen", "--all-extras", "--no-hashes", "--no-emit-project"]
    uv("build", "-q", "--wheel", "--out-dir", str(folder), str(ROOT))
    uv(*locked, "--project", str(ROOT), "-o", str(folder / "constraints.txt"))
    uv("venv", "-q", "--python", sys.executable, str(folder / "venv"))
    python = folder / "venv" / "bin" / "python"
    (wheel,) = folder.glob("*.whl")
    constraints = ["--constraints", str(folder / "constraints.txt")]
    uv("pip", "install", "-q", "--python", str(python), *constraints, str(wheel), "pytest", "pytest-xdist")
    return python


def uv(*arguments: str) -> None:
    done = subprocess.run([UV, *arguments], capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, f"uv {' '.join(arguments)}\n{done.stdout}{done.stderr}"


def started(python: Path, folder: Path, *arguments: str, stderr: int = subprocess.STDOUT) -> subprocess.Popen[str]:
    """Run something of the other project. Nothing of this checkout is on its path."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PYTEST", "COV_", "COVERAGE", "PULUMI_"))}
    return subprocess.Popen([python, *arguments], cwd=folder, env=env, stdout=subprocess.PIPE, stderr=stderr, text=True)


def test_two_workers_have_a_consortium_each_and_a_failure_brings_the_nodes_logs(
    python: Path, tmp_path: Path, engine: docker.DockerClient
) -> None:
    for name, text in {"conftest.py": CONFTEST, "test_one.py": SUCCEEDS, "test_two.py": FAILS}.items():
        (tmp_path / name).write_text(text)
    before = {environment.name for environment in registry.environments()}
    options = ["-n", "2", "--dist", "loadfile", "-rA", "-p", "no:cacheprovider"]
    with started(python, tmp_path, "-m", "pytest", *options) as process:
        said, _ = process.communicate(timeout=900)
    assert re.search(r"1 failed, 1 passed", said), said[-8000:]
    names = set(re.findall(r"^NAME (\S+)$", said, re.MULTILINE))
    assert len(names) == 2, said[-8000:]
    assert "AssertionError: assert 'failed' == 'succeeded'" in said or "assert 'cancelled' == 'succeeded'" in said
    for section in (r"job \S+ at alice: ", r"bob-head", r"alice-gateway"):
        assert re.search(rf"-+ t-\w+: {section}", said), section
    assert "not today" in said
    assert {environment.name for environment in registry.environments()} == before
    for name in names:
        assert registry.sweep(engine, name) == [], "all was taken down"


def test_a_shell_has_one_until_ctrl_c(python: Path, tmp_path: Path, engine: docker.DockerClient) -> None:
    arguments = ["-m", "consortium", "up", "--ephemeral", "--parties", "2", "--workers", "0", "--json"]
    with started(python, tmp_path, *arguments, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        said = ""
        for line in process.stdout:
            said += line
            if line.rstrip() == "}":
                break
        made = json.loads(said)
        assert set(made["parties"]) == {"alice", "bob"}
        for party in made["parties"].values():
            assert Path(party["token_file"]).is_file()
            assert httpx.get(f"{party['status_page']}healthz", trust_env=False, timeout=20).text == "ok\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=180) == 0
    assert registry.sweep(engine, made["name"]) == []
    assert made["name"] not in {environment.name for environment in registry.environments()}


def test_what_a_killed_run_left_is_reaped(python: Path, tmp_path: Path, engine: docker.DockerClient) -> None:
    with started(python, tmp_path, "-c", KILLED) as process:
        assert process.stdout is not None
        said: list[str] = []
        for line in process.stdout:
            said.append(line)
            if "pulumi up" in line:
                break
        name = said[-1].partition(":")[0]
        ours = {"label": f"consortium.name={name}"}
        end = time.monotonic() + 120
        while not engine.containers.list(filters=ours, ignore_removed=True):
            assert process.poll() is None, "".join(said)
            assert time.monotonic() < end, "no container appears"
            time.sleep(0.2)
        os.kill(process.pid, signal.SIGKILL)
    assert engine.containers.list(all=True, filters=ours, ignore_removed=True), "a kill takes nothing down"
    with started(python, tmp_path, "-m", "consortium", "testing", "reap") as reaper:
        told, _ = reaper.communicate(timeout=120)
    assert reaper.returncode == 0, told
    assert f"{name}: removed {name}-" in told
    assert registry.sweep(engine, name) == []
    assert not (registry.registry() / name).exists()
