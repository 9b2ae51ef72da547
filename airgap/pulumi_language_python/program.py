"""Runs the program as a child, through the SDK's own pulumi-language-python-exec."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from typing import Any

from airgap.pulumi_language_python.options import Interpreter

# The exit code by which the runner says that it has already shown the error to the user.
SHOWN_EXIT_CODE = 32


def command(request: Any, engine: str, python: Interpreter, runner: str) -> list[str]:
    """The child's arguments for a RunRequest."""
    args = [
        *(python.executable, "-u", runner),
        *("--project", request.project, "--stack", request.stack),
        *("--monitor", request.monitor_address, "--engine", engine),
        *("--root_directory", request.info.root_directory),
        *("--pwd", request.info.program_directory),
        *("--dry_run", "true" if request.dryRun else "false"),
        *("--parallel", str(request.parallel)),
    ]
    if request.organization:
        args += ["--organization", request.organization]
    return [*args, request.info.entry_point or ".", *request.args]


def environment(request: Any, python: Interpreter) -> dict[str, str]:
    """The child's environment: configuration travels here, with the names of its secrets."""
    return {
        **python.environment(os.environ),
        "PULUMI_CONFIG": json.dumps(dict(request.config)),
        "PULUMI_CONFIG_SECRET_KEYS": json.dumps(list(request.configSecretKeys)),
    }


class Children:
    """The programs now running, to be ended at once when the host has to go."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[bytes]] = set()
        # Re-entrant: a signal handler runs in the main thread, whatever that holds.
        self._lock = threading.RLock()
        self._closed = False

    def run(self, args: list[str], cwd: str, env: dict[str, str]) -> int:
        """Runs one to its end and returns its exit code."""
        with self._lock:
            if self._closed:
                return -signal.SIGKILL
            child = subprocess.Popen(args, cwd=cwd, env=env)
            self._running.add(child)
        try:
            return child.wait()
        finally:
            with self._lock:
                self._running.discard(child)

    def kill(self) -> None:
        """Ends them and lets no new one start.

        The engine makes a plugin the leader of a process group: then what the programs started
        goes too, because anything that keeps the output pipe open makes the engine wait for it.
        """
        with self._lock:
            self._closed = True
            for child in self._running:
                child.kill()
            if self._running and os.getpgrp() == os.getpid():
                os.killpg(0, signal.SIGKILL)


def outcome(code: int) -> tuple[str, bool]:
    """(error, bail) for an exit code, as the engine wants them."""
    if code == SHOWN_EXIT_CODE:
        return "", True
    if code < 0:
        return f"Program was ended by {signal.Signals(-code).name}", False
    return (f"Program exited with non-zero exit code: {code}" if code else ""), False
