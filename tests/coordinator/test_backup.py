"""Backup while in use, restore into an empty folder: whole, verified, of this party, and never over anything."""

from __future__ import annotations

import asyncio
import io
import json
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from coordinator_rig import job_folder
from test_interfaces import FOLDER, Lone, play

from coordinator.__main__ import main
from coordinator.audit_verify import verify
from coordinator.backup import backup, restore
from coordinator.backup_file import check_file
from coordinator.config import load_config
from coordinator.context import load_signer, open_context
from coordinator.group_commit import StoreError
from coordinator.offline import read_records
from coordinator.submit import submit


@pytest.fixture
def stopped(tmp_path: Path) -> None:
    """bob with one job that he proposed; his coordinator does not run."""

    async def body(lone: Lone) -> None:
        await lone.api("POST", "jobs", files={"bundle": ("b.tar", FOLDER)})

    play(tmp_path, body)


def config_of(tmp_path: Path) -> Path:
    return tmp_path / "bob" / "coordinator.json"


def empty(tmp_path: Path) -> Path:
    """The same party on a new machine: no state."""
    moved = tmp_path / "moved-away"
    (tmp_path / "bob" / "state").rename(moved)
    return moved


def test_there_and_back(stopped: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = config_of(tmp_path)
    target = tmp_path / "backup.tar"
    assert main(["backup", str(target), "--config", str(config)]) == 0
    label = json.loads(capsys.readouterr().out)
    assert (label["party"], label["consortium"]) == ("bob", "demo")
    assert target.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in tmp_path.iterdir() if "backup" in p.name] == ["backup.tar"]  # nothing is left beside it
    context = open_context(config)
    before = [context.store.load(j) for j in context.store.job_ids()]
    bundles = sorted(p.name for p in (tmp_path / "bob" / "state" / "bundles").iterdir())
    assert before
    assert bundles
    context.store.close()
    empty(tmp_path)
    assert main(["restore", str(target), "--config", str(config)]) == 0
    context = open_context(config)
    assert [context.store.load(j) for j in context.store.job_ids()] == before
    assert sorted(p.name for p in (tmp_path / "bob" / "state" / "bundles").iterdir()) == bundles
    last = [json.loads(r.content) for r in context.store.records()][-1]
    assert last["kind"] == "restored"
    assert last["reason"].endswith(f"after record {label['audit_seq']}")
    assert verify(context.store.records(), "bob", context.verifier).fault is None
    context.store.close()


def test_nothing_is_overwritten(stopped: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, target = config_of(tmp_path), tmp_path / "backup.tar"
    assert main(["backup", str(target), "--config", str(config)]) == 0
    assert main(["backup", str(target), "--config", str(config)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert main(["restore", str(target), "--config", str(config)]) == 2
    assert "move the state away first" in capsys.readouterr().err
    running = open_context(config)
    assert main(["restore", str(target), "--config", str(config)]) == 2
    assert "a coordinator uses it" in capsys.readouterr().err
    running.store.close()


def rewritten(change: Callable[[dict[str, bytes]], None], source: Path, target: Path) -> None:
    """A backup with other members."""
    members: dict[str, bytes] = {}
    with tarfile.open(source) as tar:
        for member in tar:
            members[member.name] = tar.extractfile(member).read()  # type: ignore[union-attr]
    change(members)
    with tarfile.open(target, "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def labelled(**fields: object) -> Callable[[dict[str, bytes]], None]:
    def change(members: dict[str, bytes]) -> None:
        members["backup.json"] = json.dumps(json.loads(members["backup.json"]) | fields).encode()

    return change


def flipped(members: dict[str, bytes]) -> None:
    data = bytearray(members["coordinator.db"])
    at = data.index(b"submitted")  # in an audit record
    data[at] ^= 1
    members["coordinator.db"] = bytes(data)


def truncated(members: dict[str, bytes]) -> None:
    members["coordinator.db"] = members["coordinator.db"][:-4096]


def outside(members: dict[str, bytes]) -> None:
    members["../../evil"] = b"x"


def without_database(members: dict[str, bytes]) -> None:
    del members["coordinator.db"]


def changed_folder(members: dict[str, bytes]) -> None:
    name = next(n for n in members if n.startswith("bundles/"))
    members[name] = members[name].replace(b"print", b"prinf")


DAMAGE: list[tuple[str, Callable[[dict[str, bytes]], None], str]] = [
    ("another party", labelled(party="alice"), "is a backup of alice of consortium demo, this is bob of demo"),
    ("another consortium", labelled(consortium="other"), "is a backup of bob of consortium other"),
    ("another release", labelled(schema_version=99), "has schema version 99, this release reads"),
    ("another format", labelled(format=2), "is not of this release"),
    ("shortened log", labelled(audit_seq=1), "its label says 1 records, it holds"),
    ("a byte of the log", flipped, "audit log of bob: record"),
    ("a lost page", truncated, "coordinator.db: "),
    ("one more member", outside, "'../../evil', which its label does not name"),
    ("a byte of a job folder", changed_folder, "this job folder is damaged: its digest is"),
    ("2000 missing job folders", labelled(bundles=[f"{n:064x}" for n in range(2000)]), f"bundles/{0:064x}.tar should"),
    ("one member less", without_database, "coordinator.db should be next"),
]


@pytest.mark.parametrize(("change", "why"), [d[1:] for d in DAMAGE], ids=[d[0] for d in DAMAGE])
def test_a_damaged_or_strange_backup_is_refused(
    stopped: None,
    tmp_path: Path,
    change: Callable[[dict[str, bytes]], None],
    why: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = config_of(tmp_path)
    assert main(["backup", str(tmp_path / "good.tar"), "--config", str(config)]) == 0
    rewritten(change, tmp_path / "good.tar", tmp_path / "bad.tar")
    empty(tmp_path)
    assert main(["restore", str(tmp_path / "bad.tar"), "--config", str(config)]) == 2
    assert why in capsys.readouterr().err
    assert not list((tmp_path / "bob" / "state").glob("*.db"))
    assert not (tmp_path / "evil").exists()
    assert main(["restore", str(tmp_path / "good.tar"), "--config", str(config)]) == 0  # nothing was left behind


def test_a_backup_of_what_is_not_well_is_refused(
    stopped: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, database = config_of(tmp_path), tmp_path / "bob" / "state" / "coordinator.db"
    data = bytearray(database.read_bytes())
    at = data.index(b"submitted")
    data[at] ^= 7
    database.write_bytes(bytes(data))
    assert main(["backup", str(tmp_path / "b.tar"), "--config", str(config)]) == 2
    assert "audit log of bob: record" in capsys.readouterr().err
    assert not (tmp_path / "b.tar").exists()
    data[at] ^= 7
    database.write_bytes(bytes(data))
    bundle = next((tmp_path / "bob" / "state" / "bundles").iterdir())
    whole = bundle.read_bytes()
    bundle.write_bytes(whole[:700])
    assert main(["backup", str(tmp_path / "b.tar"), "--config", str(config)]) == 2
    assert "this job folder is damaged" in capsys.readouterr().err
    bundle.write_bytes(whole)
    assert main(["backup", str(tmp_path / "b.tar"), "--config", str(config)]) == 0
    (tmp_path / "no.tar").write_bytes(b"this is no tar" * 1000)
    empty(tmp_path)
    assert main(["restore", str(tmp_path / "no.tar"), "--config", str(config)]) == 2
    assert "cannot be read as a backup" in capsys.readouterr().err
    assert main(["restore", str(tmp_path / "none.tar"), "--config", str(config)]) == 2
    assert main(["backup", str(tmp_path / "c.tar"), "--config", str(config)]) == 2
    assert "has this coordinator ever run?" in capsys.readouterr().err


def test_a_backup_while_200_jobs_a_second_are_written(tmp_path: Path) -> None:
    """Every backup taken in between holds whole jobs, their program included, and an unbroken log."""
    taken: list[tuple[Path, int]] = []
    written, rate = 0, 0.0

    async def body(lone: Lone) -> None:
        nonlocal rate
        config, verifier, store = lone.context.config, lone.context.verifier, lone.context.store
        await lone.coordinator.worker.close()  # the load is the submissions

        def take() -> None:
            while len(taken) < 4:
                time.sleep(0.3)
                path = tmp_path / f"backup-{len(taken)}.tar"
                label = backup(config, verifier, path)
                taken.append((path, label.audit_seq))

        thread = asyncio.create_task(asyncio.to_thread(take))
        begun = time.monotonic()
        folders = [job_folder(["alice", "bob", "carol"], main=f"print({n})") for n in range(10)]

        async def writer(n: int) -> None:
            nonlocal written
            while not thread.done() and time.monotonic() - begun < 60:
                submit(lone.context, folders[n])
                await store.durable()
                written += 1
                await asyncio.sleep(0.01)

        await asyncio.gather(*(writer(n) for n in range(10)))
        rate = written / (time.monotonic() - begun)
        await thread
        assert store.failures == 0

    play(tmp_path, body, limits={"open_jobs_per_peer": 5000})
    print(f"{rate:.0f} jobs/s were written, backups hold {[seq for _, seq in taken]} records")
    assert len({seq for _, seq in taken}) >= 3  # they were really taken in between
    config = load_config(config_of(tmp_path))
    signer, verifier = load_signer(config)
    for n, (path, seq) in enumerate(taken):
        (tmp_path / "bob" / "state").rename(tmp_path / f"state-{n}")
        assert restore(config, signer, verifier, path).audit_seq == seq
        context = open_context(config_of(tmp_path))
        ids = context.store.job_ids(100_000)
        assert ids or seq < 3
        for job_id in ids:
            job = context.store.load(job_id)
            assert job is not None
            assert context.bundle_path(job.proposal.program_digest).exists()
            assert [e["kind"] for e in context.store.events_of(job_id)] == ["created"]
        context.store.close()


def test_reading_a_file_that_is_no_state(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="does not exist"):
        list(read_records(tmp_path / "none.db"))
    (tmp_path / "bad.db").write_bytes(b"this is no database" * 100)
    with pytest.raises(StoreError, match="backup"):
        list(read_records(tmp_path / "bad.db"))
    with pytest.raises(StoreError, match="not a database"):
        check_file(tmp_path / "bad.db", "bob", None)  # type: ignore[arg-type]
