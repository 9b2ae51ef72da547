"""Drives the real CLI: a stack in a folder of its own with a backend of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PRELUDE = """\
import json, os
import pulumi
import pulumi_docker as docker
NAME, IMAGE = os.environ["TEST_NAME"], os.environ["TEST_IMAGE"]
"""


@dataclass
class Result:
    """One command: its exit code and the engine's events."""

    code: int
    events: list[dict[str, Any]]
    text: str
    seconds: float

    @property
    def changes(self) -> dict[str, int]:
        """How many resources were created, same and so on; {} when the command failed early."""
        found = [e["summaryEvent"] for e in self.events if "summaryEvent" in e]
        return dict(found[-1].get("resourceChanges") or {}) if found else {}

    @property
    def said(self) -> str:
        """What the user is told: all diagnostics but those for debugging."""
        found = [e["diagnosticEvent"] for e in self.events if "diagnosticEvent" in e]
        said = [one["message"] for one in found if one["severity"] != "debug"]
        return "\n".join(said) if self.events else self.text

    def step(self, name: str) -> dict[str, Any]:
        """What the engine did with the resource of this name (the first of its steps)."""
        for event in self.events:
            meta = event.get("resourcePreEvent", {}).get("metadata", {})
            if meta.get("urn", "").endswith(f"::{name}"):
                return dict(meta)
        raise AssertionError(f"no step for {name}: {self.said}")


@dataclass
class Stack:
    """A project of one program. Two stacks may share ``name`` and differ only in the backend."""

    folder: Path
    name: str
    image: str
    env: dict[str, str]
    project: str = "airgaptest"
    passphrase: str = "a passphrase"
    _made: bool = field(default=False)

    def environment(self) -> dict[str, str]:
        """What the CLI runs with."""
        return {
            **os.environ,
            **self.env,
            "PULUMI_BACKEND_URL": f"file://{self.folder / 'state'}",
            "PULUMI_CONFIG_PASSPHRASE": self.passphrase,
            "TEST_NAME": self.name,
            "TEST_IMAGE": self.image,
            "NO_COLOR": "1",
        }

    def program(self, text: str) -> Stack:
        """Sets the program; `NAME` and `IMAGE` are defined in it."""
        project = self.folder / "project"
        project.mkdir(parents=True, exist_ok=True)
        (self.folder / "state").mkdir(exist_ok=True)
        (project / "Pulumi.yaml").write_text(f"name: {self.project}\nruntime: python\n")
        (project / "__main__.py").write_text(PRELUDE + textwrap.dedent(text))
        if not self._made:
            self._made = True
            assert self.run("stack", "init", "dev").code == 0
        return self

    def popen(self, *args: str) -> subprocess.Popen[str]:
        """A command that is still to be waited for."""
        return subprocess.Popen(
            ["pulumi", *args],
            cwd=self.folder / "project",
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *args: str) -> Result:
        """A command to its end."""
        start = time.monotonic()
        child = self.popen(*args)
        text, _ = child.communicate(timeout=180)
        events = []
        for line in text.splitlines():
            if line.startswith("{"):
                try:
                    events.append(json.loads(line))
                except ValueError:
                    break  # a whole document, not a stream of events
        return Result(child.returncode, events, text, time.monotonic() - start)

    def up(self, *args: str, ok: bool = True) -> Result:
        """``pulumi up`` without the preview before it."""
        found = self.run("up", "--yes", "--skip-preview", "--json", *args)
        assert (found.code == 0) == ok, found.said
        return found

    def preview(self) -> Result:
        """``pulumi preview``."""
        found = self.run("preview", "--json")
        assert found.code == 0, found.text
        return found

    def refresh(self) -> Result:
        """``pulumi refresh``."""
        found = self.run("refresh", "--yes", "--skip-preview", "--json")
        assert found.code == 0, found.said
        return found

    def destroy(self) -> Result:
        """``pulumi destroy``."""
        found = self.run("destroy", "--yes", "--skip-preview", "--json")
        assert found.code == 0, found.said
        return found

    def state(self) -> list[dict[str, Any]]:
        """The resources in state."""
        exported = json.loads(self.run("stack", "export").text)
        return list(exported["deployment"].get("resources") or [])

    def processes(self) -> list[str]:
        """Every process that a command of this stack started and that is still there."""
        marker = f"TEST_NAME={self.name}\0".encode()
        backend = str(self.folder).encode()
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                environ = (path / "environ").read_bytes()
                if marker in environ and backend in environ:
                    found.append((path / "cmdline").read_text().replace("\0", " "))
            except OSError:
                continue
        return found

    def end(self) -> None:
        """Stops whatever a failed test left running."""
        for path in Path("/proc").glob("[0-9]*"):
            try:
                if str(self.folder).encode() in (path / "environ").read_bytes():
                    os.kill(int(path.name), signal.SIGKILL)
            except OSError:
                continue


def eventually(check: Callable[[], Any], seconds: float = 20) -> Any:
    """Waits until ``check`` returns something true, and returns that."""
    end = time.monotonic() + seconds
    while True:
        found = check()
        if found:
            return found
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.1)
