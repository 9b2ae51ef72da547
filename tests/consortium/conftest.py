"""The command as a person runs it, and a Pulumi that says what a test wants."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from consortium import cli
from consortium.cli import _common


@dataclass(frozen=True)
class Said:
    """What a command left: exit code, standard output, standard error."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


Command = Callable[..., Said]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run `consortium` with arguments, in this process."""
    for name in ("CONSORTIUM_WORKSPACE", "CONSORTIUM_API", "CONSORTIUM_TOKEN", "PULUMI_CONFIG_PASSPHRASE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("PULUMI_BACKEND_URL", "PULUMI_CONFIG_PASSPHRASE_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(_common.out, "width", 200)  # the one was read when it was imported

    def run(*arguments: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["consortium", *map(str, arguments)])
        code: Any = 0
        try:
            cli.main()
        except SystemExit as end:
            code = end.code or 0
        said = capsys.readouterr()
        return Said(int(code), said.out, said.err)

    return run


@pytest.fixture
def pulumi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """A stand-in on PATH that records its arguments, its input and its environment, and answers as told."""

    def install(*, code: int = 0, out: str = "", err: str = "") -> Path:
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        record = tmp_path / "calls.jsonl"
        script = (
            f"#!{sys.executable}\nimport json, os, sys\n"
            f"keep = {{k: v for k, v in os.environ.items() if k.startswith('PULUMI')}}\n"
            f"read = '' if sys.stdin is None or sys.stdin.isatty() else sys.stdin.read()\n"
            f"open({str(record)!r}, 'a').write(json.dumps([sys.argv[1:], read, keep]) + '\\n')\n"
            f"sys.stdout.write({out!r}); sys.stderr.write({err!r}); sys.exit({code})\n"
        )
        for name in ("pulumi", "pulumi-language-python"):
            (folder / name).write_text(script)
            (folder / name).chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
        return record

    return install
