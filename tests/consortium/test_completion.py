"""What TAB offers, asked as bash asks it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.consortium import builders
from tests.consortium.test_cli import JOB, Api, api

__all__ = ["api"]  # the fixture

COMMAND = Path(sys.executable).parent / "consortium"


def offered(line: str, cwd: Path, **environment: str) -> list[str]:
    """Lines that complete the last word of a command line."""
    words = line.split(" ")
    bash = {"_CONSORTIUM_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    keep = {k: v for k, v in os.environ.items() if not k.startswith("CONSORTIUM")}
    done = subprocess.run(
        [str(COMMAND)], env=keep | bash | environment, cwd=cwd, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_commands_and_options(tmp_path: Path) -> None:
    assert offered("consortium job ap", tmp_path) == ["approve"]
    assert "--diff-only" in offered("consortium job approve --d", tmp_path)


def test_parties_of_the_workspace(tmp_path: Path) -> None:
    place = builders.write(tmp_path)
    assert offered("consortium status --party ", place) == ["alice"]
    assert offered("consortium status --party b", place) == []
    assert offered("consortium join ", place) == ["alice", "bob"]
    assert offered(f"consortium --workspace {place} join b", Path("/")) == ["bob"]


@pytest.mark.parametrize("line", ["status --party ", "join ", "job approve ", "job status "])
def test_nothing_is_offered_and_nothing_said_without_a_workspace(tmp_path: Path, line: str) -> None:
    assert offered(f"consortium {line}", tmp_path) == []


def test_jobs_of_the_own_coordinator(api: Api, tmp_path: Path) -> None:
    jobs = [JOB, {**JOB, "job_id": "k2", "approval_wanted": False}]
    api.answers["GET", "/jobs"] = (200, {"jobs": jobs})
    there = {"CONSORTIUM_API": api.url, "CONSORTIUM_TOKEN": "t"}
    assert offered("consortium job status ", tmp_path, **there) == ["j1", "k2"]
    assert offered("consortium job logs k", tmp_path, **there) == ["k2"]
    assert offered("consortium job approve ", tmp_path, **there) == ["j1"]
    api.answers.clear()
    assert offered("consortium job approve ", tmp_path, **there) == []


def test_a_coordinator_that_does_not_answer_is_not_waited_for(tmp_path: Path) -> None:
    import socket

    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        began = time.monotonic()
        assert offered("consortium job cancel ", tmp_path, CONSORTIUM_API=url, CONSORTIUM_TOKEN="t") == []
        assert time.monotonic() - began < 10


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_a_shell_is_printed(shell: str, tmp_path: Path) -> None:
    # Without a terminal's shell among its parents, as under CI, Typer finds none to write for: so it is told.
    env = os.environ | {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    command = [str(COMMAND), "--show-completion", shell]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=True)
    assert "_CONSORTIUM_COMPLETE" in done.stdout
