"""The modules of roles/base, imported as Python and run as Ansible runs them."""

from __future__ import annotations

import grp
import importlib.util
import json
import os
import pwd
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

LIBRARY = Path(__file__).parents[2] / "roles" / "base" / "library"


@pytest.fixture(scope="session")
def node_files() -> ModuleType:
    spec = importlib.util.spec_from_file_location("node_files", LIBRARY / "node_files.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def me() -> dict[str, str]:
    """Owner and group that this process may give a file."""
    return {"owner": pwd.getpwuid(os.geteuid()).pw_name, "group": grp.getgrgid(os.getegid()).gr_name}


@pytest.fixture
def run(tmp_path: Path, me: dict[str, str]) -> Callable[..., dict[str, Any]]:
    """Run the module the way Ansible does, with JSON on standard input. Files are (path, content, more) tuples."""

    def entry(where: Path, content: str, **more: Any) -> dict[str, Any]:
        return {"path": str(where), "content": content, "mode": "0640", **me, **more}

    def call(
        *files: tuple[Path, str, dict[str, Any]], secret: tuple[tuple[Path, str], ...] = (), **more: Any
    ) -> dict[str, Any]:
        arguments = {
            "files": [entry(path, content, **extra) for path, content, extra in files],
            "secret_files": [entry(path, content, mode="0400") for path, content in secret],
            "manifest": str(tmp_path / "manifest.json"),
            "_ansible_diff": True,
            **more,
        }
        done = subprocess.run(
            [sys.executable, str(LIBRARY / "node_files.py")],
            input=json.dumps({"ANSIBLE_MODULE_ARGS": arguments}),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout, done.stderr
        return {**json.loads(done.stdout), "_raw": done.stdout + done.stderr}

    return call
