"""State that cannot be used stops the start with exit code 2 and one line that says what to do; a disk that is really
full refuses new jobs, loses nothing, and everything goes on when there is room."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from test_interfaces import FOLDER, Lone, play

from coordinator.__main__ import main
from coordinator.app import Coordinator


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """bob with an open job of his own; his coordinator does not run."""

    async def body(lone: Lone) -> None:
        await lone.api("POST", "jobs", files={"bundle": ("b.tar", FOLDER)})

    play(tmp_path, body)
    return tmp_path / "bob" / "coordinator.json"


def flip(text: bytes) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[data.index(text)] ^= 1
        path.write_bytes(bytes(data))

    return damage


def flip_page(path: Path) -> None:
    """The header of a page in the middle."""
    data = bytearray(path.read_bytes())
    data[4096 * 3] ^= 0x40
    path.write_bytes(bytes(data))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: 4096 * 4 + 100])


def version(number: int) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        with contextlib.closing(sqlite3.connect(path)) as db:
            db.execute(f"PRAGMA user_version = {number}")

    return damage


def forget_table(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA foreign_keys = OFF")
        db.execute("UPDATE jobs SET phase = 'dreaming'")
        db.commit()


DAMAGES: list[tuple[str, Callable[[Path], None], str]] = [
    ("no database", lambda p: p.write_bytes(b"this is no database" * 1000) and None, "put a backup in its place"),
    ("a page", flip_page, "put a backup in its place"),
    ("cut off", cut, "put a backup in its place"),
    ("a byte of an audit record", flip(b"submitted"), "put a backup in its place"),
    ("a byte of a statement", flip(b"program_digest"), "put a backup in its place"),
    ("a phase that does not exist", forget_table, "put a backup in its place"),
    ("older", version(0), "of an older release; this one reads"),
    ("newer", version(99), "of a newer release; this one reads"),
]


@pytest.mark.parametrize(("damage", "why"), [d[1:] for d in DAMAGES], ids=[d[0] for d in DAMAGES])
def test_damaged_state_is_not_started_with(
    config: Path,
    damage: Callable[[Path], None],
    why: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = config.parent / "state" / "coordinator.db"
    damage(path)
    before = path.read_bytes()

    async def never(_: Coordinator) -> None:
        raise AssertionError("it was started")

    monkeypatch.setattr(Coordinator, "start", never)
    assert main(["serve", "--config", str(config)]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert why in said[0]
    assert path.read_bytes() == before  # nothing was made worse


def test_a_lock_of_another_process_is_named(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = config.parent / "state" / "coordinator.db"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert main(["serve", "--config", str(config)]) == 2
    assert "database is locked; does another process use it" in capsys.readouterr().err


FULL = """
import os, sys
from pathlib import Path
sys.path[:0] = [{here!r}]
from test_interfaces import FOLDER, Lone, play
from coordinator.audit_verify import verify
from coordinator.context import open_context

async def body(lone):
    store, context = lone.context.store, lone.context
    await lone.coordinator.worker.close()
    submit = lambda: lone.api("POST", "jobs", files={{"bundle": ("b.tar", FOLDER)}})
    first = (await submit()).json()["job_id"]
    ballast = context.config.state_dir / "ballast"
    with ballast.open("wb", buffering=0) as file:  # the disk fills up behind the coordinator's back
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError as e:
            assert e.errno == 28, e
    codes, taken = [], 0
    for n in range(300):
        answer = await submit()
        codes.append(answer.status_code)
        taken += answer.status_code == 201
        if answer.status_code != 201:
            last = answer.json()["detail"]
    assert set(codes[-50:]) == {{507}}, codes
    assert "full" in last or "No space" in last, last
    beat = await lone.peer.get("/peer/v1/time", headers={{"x-consortium-party": "alice",
        "x-consortium-gateway-token": context.gateway_token}})
    assert beat.status_code == 200  # what writes nothing goes on
    assert len(store.job_ids()) == taken + 1
    assert verify(store.records(), "bob", context.verifier).fault is None
    ballast.unlink()
    answer = await submit()
    assert answer.status_code == 201, answer.text
    assert (await lone.api("POST", f"jobs/{{first}}/cancel")).status_code == 200
    assert verify(store.records(), "bob", context.verifier).fault is None
    print("lost batches", store.failures, "jobs taken on the full disk", taken)

os.environ.pop("COVERAGE_PROCESS_START", None)
play(Path(sys.argv[1]), body, limits={{"min_free_bytes": 0}})
open_context(Path(sys.argv[1]) / "bob" / "coordinator.json").store.close()  # the state opens again
"""


def small_disk() -> list[str]:
    """A command that runs another with a file system of 3 MB under the folder it names; no privileges are needed."""
    script = 'mount -t tmpfs -o size=3m none "$1" && shift && exec "$@"'
    return ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]


def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    assert shutil.which("unshare"), "util-linux is needed"
    disk = tmp_path / "disk"
    disk.mkdir()
    program = FULL.format(here=str(Path(__file__).parent))
    done = subprocess.run(
        [*small_disk(), str(disk), sys.executable, "-c", program, str(disk)],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr[-3000:] + done.stdout[-1000:]
    assert "lost batches" in done.stdout


LIMITED = """
import resource, sys
from pathlib import Path
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from coordinator.audit_verify import verify
from coordinator.group_commit import StoreError
from coordinator.signing import Signer, Verifier
from coordinator.store import Store
signer = Signer("demo", "bob", Ed25519PrivateKey.generate())
store = Store(Path(sys.argv[1]) / "coordinator.db", signer, "bob")
store.note(1.0, "test", "kept")
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
size = (Path(sys.argv[1]) / "coordinator.db-wal").stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, hard))  # the kernel refuses to let the file grow
try:
    store.note(1.0, "test", "x" * 50_000)
    sys.exit("was written")
except StoreError as e:
    assert "disk I/O error" in str(e), e
assert [r.seq for r in store.records()] == [1]
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
store.note(1.0, "test", "y" * 50_000)
store.close()
store = Store(Path(sys.argv[1]) / "coordinator.db", signer, "bob")
verdict = verify(store.records(), "bob", Verifier("demo", {"bob": signer.public}))
assert (verdict.records, verdict.fault) == (2, None), verdict
"""


def test_an_io_error_in_the_commit_loses_only_that_write(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
