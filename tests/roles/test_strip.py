"""What differs between two builds is gone at the end of a bake, and nothing else is."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

STRIP = Path(__file__).parents[2] / "roles" / "base" / "files" / "strip.sh"
SHADOW = "root:*:20781:0:99999:7:::\nray:!:20782::::::\n"

GOES = [
    "var/lib/apt/lists/mirror_Packages",
    "var/cache/apt/pkgcache.bin",
    "var/cache/debconf/config.dat-old",
    "var/cache/ldconfig/aux-cache",
    "var/lib/dpkg/status-old",
    "var/log/apt/history.log",
    "var/log/dpkg.log",
    "var/log/lastlog",
    "var/tmp/x",
    "tmp/x",
    "etc/passwd-",
    "etc/shadow-",
    "root/.ansible/tmp/x",
    "usr/share/doc/libc6/copyright",
]
STAYS = [
    "var/cache/debconf/config.dat",
    "var/lib/dpkg/status",
    "var/log/consortium/coordinator/current",
    "tmp/ansible_running",
    "etc/passwd",
]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in [*GOES, *STAYS]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("content")
    (tmp_path / "etc" / "shadow").write_text(SHADOW)
    (tmp_path / "etc" / "shadow").chmod(0o640)
    return tmp_path


def strip(tree: Path, umask: int = 0o022) -> None:
    subprocess.run(["sh", STRIP, tree], check=True, umask=umask)


def test_logs_caches_and_backups_go_and_the_rest_stays(tree: Path) -> None:
    strip(tree)
    assert [name for name in GOES if (tree / name).exists()] == []
    assert [name for name in STAYS if not (tree / name).exists()] == []


def test_no_day_and_no_machine_is_left(tree: Path) -> None:
    strip(tree)
    assert (tree / "etc" / "shadow").read_text() == "root:*::0:99999:7:::\nray:!:::::::\n"
    assert (tree / "etc" / "machine-id").read_text() == ""


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_modes_do_not_depend_on_who_runs_it(tree: Path, umask: int) -> None:
    strip(tree, umask)
    modes = {name: (tree / "etc" / name).stat().st_mode & 0o777 for name in ("machine-id", "shadow")}
    assert modes == {"machine-id": 0o644, "shadow": 0o640}


def test_it_refuses_to_run_on_nothing() -> None:
    done = subprocess.run(["sh", STRIP], capture_output=True, text=True)
    assert done.returncode != 0
    assert "the root of the tree" in done.stderr
