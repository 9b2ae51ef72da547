"""Runs one Ansible playbook as a child process and tells what it did.

ansible-runner is run as `python -m ansible_runner run -j`, never inside this process: it forks, and a fork inside
a multi-threaded gRPC server (where Pulumi's dynamic providers live) loses runs that then look like successes.
A run has succeeded only with return code 0 *and* a stats event without failures for every host of the inventory.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from consortium.ansible_diff import unified
from consortium.errors import ConsortiumError
from consortium.folders import INSTALLATION

ROLES = INSTALLATION / "roles"
_SOCKETS = "cp"  # short: the path of a socket has at most 107 bytes

HostVars = Mapping[str, Any]
Inventory = Mapping[str, Mapping[str, HostVars]]
"""Group name → host name → host variables."""


@dataclass(frozen=True)
class Event:
    """One thing that happened: a task began, or ended on a host, or is tried again there."""

    kind: str  # "task" | "ok" | "changed" | "failed" | "unreachable" | "waiting": tried again
    task: str
    host: str = ""
    message: str = ""
    diff: tuple[str, ...] = ()  # unified diffs of what check mode would change


@dataclass(frozen=True)
class Summary:
    """Counts over all hosts, and what changed where."""

    ok: int
    changed: int
    changes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # host → tasks that changed something


def untemplated(text: str) -> dict[str, str]:
    """A text that Ansible takes as it is: it evaluates `{{ … }}` in every other variable, whoever wrote it."""
    return {"__ansible_unsafe": text}


class AnsibleFailed(ConsortiumError):
    """A play did not end well on every host."""


def run_playbook(
    playbook: Path,
    inventory: Inventory,
    *,
    env: Mapping[str, str] | None = None,
    check: bool = False,
    forks: int = 8,
    private_files: Mapping[str, str] | None = None,
    on_event: Callable[[Event], None] = lambda event: None,
) -> Summary:
    """Run `playbook` against `inventory` and wait for its end.

    Variables travel in a file of a private temporary folder (0700) that is removed at the end, so no secret stands
    in an argument or an environment. `check` changes nothing and reports what would change. `private_files` stand in
    that folder, by relative name, as long as the run lasts.

    Raises AnsibleFailed, naming host, task and message.
    """
    with tempfile.TemporaryDirectory(prefix="consortium-ansible-") as folder:
        private = Path(folder)
        (private / "inventory").mkdir()
        for name, text in (private_files or {}).items():
            (private / name).parent.mkdir(exist_ok=True)
            _write_private(private / name, text)
        _write_private(private / "ansible.cfg", "[defaults]\n")
        _write_private(private / "inventory" / "hosts.json", json.dumps(_ansible_inventory(inventory)))
        # The child must find this interpreter's own ansible, whether or not its bin folder is on PATH.
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        command = [
            sys.executable,
            "-m",
            "ansible_runner",
            "run",
            "-j",
            "--project-dir",
            str(playbook.parent),
        ]
        command += ["-p", playbook.name, str(private)]
        command += ["--cmdline", f"--forks {forks}" + (" --check --diff" if check else "")]
        child = subprocess.Popen(
            command,
            env={**os.environ, **_settings(private), **(env or {}), "PATH": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        try:
            outcome = _Outcome()
            assert child.stdout is not None
            for event in outcome.read(child.stdout):
                on_event(event)
            return_code = child.wait()
        finally:
            with suppress(ProcessLookupError):
                child.kill()
            child.wait()
            _hang_up(private / _SOCKETS)
    return outcome.conclude(return_code, expected_hosts={h for hosts in inventory.values() for h in hosts})


def _hang_up(sockets: Path) -> None:
    """End the connections that ssh keeps for the tasks to come: they would outlive the key by a minute."""
    for socket in sockets.glob("*"):
        subprocess.run(
            ["ssh", "-F", "/dev/null", "-o", f"ControlPath={socket}", "-O", "exit", "host"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )


def _write_private(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


def _ansible_inventory(inventory: Inventory) -> dict[str, Any]:
    return {"all": {"children": {group: {"hosts": dict(hosts)} for group, hosts in inventory.items()}}}


def _settings(private: Path) -> dict[str, str]:
    return {
        "ANSIBLE_CONFIG": str(private / "ansible.cfg"),  # an operator's own must not change what a role does
        "ANSIBLE_ROLES_PATH": str(ROLES),
        "ANSIBLE_LOCAL_TEMP": str(private),
        "ANSIBLE_PIPELINING": "1",
        "ANSIBLE_SSH_CONTROL_PATH_DIR": str(private / _SOCKETS),
        "ANSIBLE_SSH_ARGS": "-C -o ControlMaster=auto -o ControlPersist=60s",
        "ANSIBLE_SSH_RETRIES": "2",
        "ANSIBLE_HOST_KEY_CHECKING": "1",
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_PYTHON_INTERPRETER": "/usr/bin/python3",
        "ANSIBLE_JINJA2_NATIVE": "1",
    }


class _Outcome:
    """Folds ansible-runner's JSON lines into events, failures and the final counts."""

    def __init__(self) -> None:
        self._stats: Mapping[str, Mapping[str, int]] | None = None
        self._failures: list[str] = []
        self._noise: list[str] = []
        self._changes: dict[str, list[str]] = {}

    def read(self, lines: Iterator[str] | Any) -> Iterator[Event]:
        for line in lines:
            try:
                record = json.loads(line)
                kind, data = record["event"], record.get("event_data", {})
            except (ValueError, KeyError, TypeError):
                self._noise.append(line.rstrip())
                continue
            yield from self._fold(kind, data)

    def _fold(self, kind: str, data: Mapping[str, Any]) -> Iterator[Event]:
        task, host = str(data.get("task", "")), str(data.get("host", ""))
        result = data.get("res") or {}
        if kind == "playbook_on_task_start":
            yield Event("task", task)
        elif kind == "runner_on_ok":
            if result.get("changed"):
                self._changes.setdefault(host, []).append(task)
            yield Event("changed" if result.get("changed") else "ok", task, host, diff=unified(result))
        elif kind in ("runner_on_failed", "runner_on_unreachable") and not data.get("ignore_errors"):
            message = _message(result)
            self._failures.append(f"{host}: {task}: {message}")
            yield Event("failed" if kind == "runner_on_failed" else "unreachable", task, host, message)
        elif kind == "runner_retry":
            yield Event("waiting", task, host, _message(result))
        elif kind == "playbook_on_stats":
            self._stats = {k: v for k, v in data.items() if isinstance(v, dict)}
        elif kind in ("error", "verbose") and data.get("msg"):
            self._noise.append(str(data["msg"]))

    def conclude(self, return_code: int, expected_hosts: set[str]) -> Summary:
        stats = self._stats or {}
        silent = expected_hosts - set(stats.get("processed", stats.get("ok", {})))
        bad = {h for key in ("failures", "dark") for h, n in stats.get(key, {}).items() if n}
        if return_code == 0 and self._stats is not None and not bad and not silent:
            return Summary(
                ok=sum(stats.get("ok", {}).values()),
                changed=sum(stats.get("changed", {}).values()),
                changes={host: tuple(tasks) for host, tasks in self._changes.items()},
            )
        reasons = list(self._failures)
        if silent and not reasons and return_code == 0:
            reasons = [f"no result from {', '.join(sorted(silent))}"]
        reasons = reasons or [line for line in self._noise if line][-15:]
        raise AnsibleFailed(
            f"Ansible did not converge (return code {return_code})",
            where=", ".join(sorted(bad or silent or expected_hosts)),
            value="\n".join(reasons),
            fix="mend what the task names and run `pulumi up` again; it continues from where it stands",
        )


def _message(result: Mapping[str, Any]) -> str:
    if "censored" in result:
        return str(result["censored"])
    parts = [str(result[k]).strip() for k in ("msg", "stderr", "module_stderr") if result.get(k)]
    return " | ".join(parts)[:2000] or "no message"
