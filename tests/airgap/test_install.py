"""The installer: what it lays out, that it is quick and safe to run again, and how it fetches Go."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest

from airgap.installer import build, go, layout
from airgap.installer.errors import InstallError

INSTALL = Path(__file__).resolve().parents[2] / "airgap" / "install"


def install(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Runs the installer as a user does."""
    command = [sys.executable, str(INSTALL), *args]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **env})


def test_a_second_run_is_quick_and_says_the_same(installed: dict[str, Any]) -> None:
    """It is called from scripts, before every command."""
    start = time.process_time(), time.monotonic()
    again = install("--json")
    assert json.loads(again.stdout)["bin"] == installed["bin"]
    assert again.stderr == ""
    assert time.monotonic() - start[1] < 5, "under 1 s on an idle machine"
    exported = install("--print-env").stdout.splitlines()
    assert exported[0].startswith("export PATH=" + installed["bin"])
    assert f"export PULUMI_HOME={installed['env']['PULUMI_HOME']}" in exported


def test_what_is_laid_out(installed: dict[str, Any]) -> None:
    """The CLI and what it looks for beside itself and in its home; every wrapper becomes its plugin."""
    folder, home = Path(installed["bin"]), Path(installed["env"]["PULUMI_HOME"])
    said = subprocess.run([folder / "pulumi", "version"], capture_output=True, text=True)
    assert said.stdout.strip() == build.VERSION == "v3.256.0"
    wrappers = [
        folder / "pulumi-language-python",
        folder / "pulumi-resource-pulumi-python",
        home / "plugins" / "resource-docker-v5.2.0" / "pulumi-resource-docker",
    ]
    for path in wrappers:
        assert os.access(path, os.X_OK)
        last = path.read_text().splitlines()[-1]
        assert last.startswith("exec ") and last.endswith('"$@"')
    assert (folder / "pulumi-language-python-exec").is_file()


def test_two_interpreters_do_not_share_wrappers(installed: dict[str, Any], tmp_path: Path) -> None:
    """But they share the one CLI, without a copy of it."""
    other = tmp_path / "python with a space"
    other.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    other.chmod(0o755)
    cache = Path(installed["bin"]).parents[2]
    release = build.ensure_release(cache)
    made = layout.lay_out(tmp_path, release, str(other)) if same_device(cache, tmp_path) else None
    found = made or layout.lay_out(cache, release, str(other))
    assert str(found.bin) != installed["bin"]
    assert f"'{other}'" in (found.bin / "pulumi-language-python").read_text()
    assert (found.bin / "pulumi").samefile(release / "bin" / "pulumi")


def same_device(one: Path, other: Path) -> bool:
    """Whether hard links are possible."""
    return one.stat().st_dev == other.stat().st_dev


def test_a_python_without_the_packages_is_refused(tmp_path: Path) -> None:
    """Named before anything is built, with what to install."""
    bare = tmp_path / "bare"
    bare.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "$@"\n')
    bare.chmod(0o755)
    said = install("--python", str(bare), "--cache", str(tmp_path / "cache"))
    assert said.returncode == 1
    assert "lacks pulumi, pulumi_docker, docker, grpc" in said.stderr
    assert "--python" in said.stderr
    assert install("--python", "/no/python").returncode == 1


def test_runs_at_the_same_time_wait_for_one_another(tmp_path: Path) -> None:
    """The second one says what it waits for."""
    import fcntl

    cache = tmp_path / "cache"
    cache.mkdir()
    with (cache / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        command = [sys.executable, str(INSTALL), "--cache", str(cache)]
        child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert child.stderr
        assert "waiting for another install" in child.stderr.readline()
        child.kill()
        child.communicate()


def test_a_failed_build_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Go's words are shown and no half-made release is taken for a whole one."""
    fake = tmp_path / "go"
    fake.write_text("#!/bin/sh\necho 'no such module' >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setattr(go, "ensure", lambda cache, needed: str(fake))
    cache = tmp_path / "cache"
    cache.mkdir()
    with pytest.raises(InstallError, match="no such module"):
        build.ensure_release(cache)
    assert list(cache.iterdir()) == []


def toolchain(folder: Path, name: str) -> str:
    """A proxy with a toolchain of one shell script; returns its checksum."""
    where = folder / "golang.org" / "toolchain" / "@v"
    where.mkdir(parents=True)
    prefix = f"golang.org/toolchain@{name}/"
    data = b"#!/bin/sh\necho go version go9.9 linux/amd64\n"
    with zipfile.ZipFile(where / f"{name}.zip", "w") as z:
        z.writestr(prefix + "bin/go", data)
    line = f"{hashlib.sha256(data).hexdigest()}  {prefix}bin/go\n"
    return "h1:" + base64.b64encode(hashlib.sha256(line.encode()).digest()).decode()


def test_a_machine_without_go_fetches_a_pinned_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From whichever proxy of GOPROXY has it, and only with the pinned content."""
    name = f"v0.0.1-go{go.TOOLCHAIN}.linux-amd64"
    checksum = toolchain(tmp_path / "proxy", name)
    monkeypatch.setattr(go, "candidates", list)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setenv("GOPROXY", f"file://{tmp_path}/none,file://{tmp_path}/proxy|direct")
    with pytest.raises(InstallError, match="not the pinned content"):
        go.ensure(tmp_path, "1.25.11")
    monkeypatch.setitem(go.TOOLCHAIN_SUMS, "linux-amd64", checksum)
    found = go.ensure(tmp_path, "1.25.11")
    assert "go9.9" in subprocess.run([found, "version"], capture_output=True, text=True).stdout
    assert go.ensure(tmp_path, "1.25.11") == found

    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(InstallError, match=r"linux-riscv64: install Go 1\.25\.11"):
        go.fetch(tmp_path / "other", "1.25.11")


def test_versions_and_proxies() -> None:
    """Numbers are compared as numbers; words in GOPROXY are not URLs."""
    assert go.version_of("go version go1.26.8 linux/amd64") == (1, 26, 8)
    assert go.version_of("1.9") < go.version_of("1.25.11")
    assert go.version_of("devel") == ()
    assert go.proxies("https://a.example/,https://b.example|direct") == ["https://a.example", "https://b.example"]
    assert go.proxies("off") == []
    assert go.proxies("") == [go.DEFAULT_PROXY]
    assert build.digest() == build.digest()
