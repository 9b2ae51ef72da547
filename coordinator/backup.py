"""Backup and restore of a party's state: the database and the job folders, in one tar that is verified when written.

A restored party is *older than what it has said*. It refuses its own statements that come back and that it has no
record of (accept.py), and must not go on with jobs of that time: see docs/runbook.md.
"""

from __future__ import annotations

import contextlib
import fcntl
import sqlite3
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, BinaryIO

from pydantic import Field, ValidationError

from coordinator.audit_verify import Verdict, verify
from coordinator.config import Config, Digest, Model, Party
from coordinator.group_commit import StoreError
from coordinator.offline import open_reader, read_records
from coordinator.signing import Signer, Verifier
from coordinator.store import SCHEMA_VERSION, Store
from coordinator.whole import sync_folder, whole_file

DATABASE, LABEL = "coordinator.db", "backup.json"
_LABEL_BYTES = 100_000


class Label(Model):
    """The first member of a backup: whose state it is and of when."""

    format: Annotated[int, Field(ge=1, le=1)] = 1
    consortium: Party
    party: Party
    schema_version: int
    made_at: float
    audit_seq: int
    audit_hash: Digest
    bundles: tuple[Digest, ...] = ()


def backup(config: Config, verifier: Verifier, target: Path) -> Label:
    """Write a consistent copy of the state, while the coordinator runs, to a new file (mode 0600, whole or absent).

    Raises StoreError: the target exists, the state cannot be read, or what was written is not well.
    """
    if target.exists():
        raise StoreError(f"{target}: exists already; name a new file")
    try:
        with tempfile.TemporaryDirectory(prefix=".backup-", dir=target.parent) as folder:
            copy = Path(folder) / DATABASE
            copy.touch(0o600)
            reader = open_reader(config.state_dir / DATABASE)
            with contextlib.closing(reader) as source, contextlib.closing(sqlite3.connect(copy)) as there:
                source.backup(there)
                there.execute("PRAGMA journal_mode = DELETE")  # one file, nothing beside it
            verdict = check_file(copy, config.party, verifier)
            # after the database: every job folder that it knows of was there before it
            bundles = sorted(p for p in (config.state_dir / "bundles").glob("*.tar") if len(p.stem) == 64)
            label = Label(
                consortium=config.consortium,
                party=config.party,
                schema_version=SCHEMA_VERSION,
                made_at=round(time.time(), 3),
                audit_seq=verdict.records,
                audit_hash=verdict.head,
                bundles=tuple(p.stem for p in bundles),
            )
            note = Path(folder) / LABEL
            note.write_text(label.model_dump_json(indent=1))
            with whole_file(target) as file, tarfile.open(fileobj=file, mode="w") as tar:
                for path in (note, copy):
                    tar.add(path, path.name)
                for path in bundles:
                    tar.add(path, f"bundles/{path.name}")
    except (sqlite3.DatabaseError, OSError, tarfile.TarError) as e:
        raise StoreError(f"{target}: the backup could not be written: {e}") from e
    return label


def restore(config: Config, signer: Signer, verifier: Verifier, source: Path) -> Label:
    """Put a backup into an empty state folder, and record it in the audit log. Never overwrites.

    Raises StoreError: there is state, a coordinator runs, the backup is another party's, of another release, damaged.
    """
    state = config.state_dir
    state.mkdir(parents=True, exist_ok=True)
    with _alone(state):
        there = [p.name for p in (*state.glob(f"{DATABASE}*"), *(state / "bundles").glob("*.tar"))]
        if there:
            raise StoreError(f"{state}: holds {sorted(there)[:5]}: move the state away first, nothing is overwritten")
        try:
            with tempfile.TemporaryDirectory(prefix=".restore-", dir=state) as name, tarfile.open(source, "r:") as tar:
                folder = Path(name)
                label = _unpack(tar, folder, config, source)
                verdict = check_file(folder / DATABASE, config.party, verifier)
                if (verdict.records, verdict.head) != (label.audit_seq, label.audit_hash):
                    found = f"{verdict.records} records, head {verdict.head}"
                    raise StoreError(f"{source}: its label says {label.audit_seq} records, it holds {found}")
                bundles = state / "bundles"
                bundles.mkdir(exist_ok=True)
                for digest in label.bundles:
                    (folder / f"{digest}.tar").rename(bundles / f"{digest}.tar")
                sync_folder(bundles)
                (folder / DATABASE).rename(state / DATABASE)  # last: from here on there is state
                sync_folder(state)
        except (OSError, tarfile.TarError) as e:
            raise StoreError(f"{source}: cannot be restored: {e}") from e
    store = Store(state / DATABASE, signer, config.party)
    made = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(label.made_at))
    store.note(time.time(), "restored", f"from a backup of {made}, after record {label.audit_seq}")
    store.close()
    return label


def check_file(path: Path, party: str, verifier: Verifier) -> Verdict:
    """Check every page and every audit record of a state file. Raises StoreError naming the first fault."""
    try:
        with contextlib.closing(open_reader(path)) as db:
            found = db.execute("PRAGMA integrity_check(1)").fetchone()[0]
    except sqlite3.DatabaseError as e:
        raise StoreError(f"{path}: {e}") from e
    if found != "ok":
        raise StoreError(f"{path}: damaged: {' '.join(found.split())}")
    verdict = verify(read_records(path), party, verifier)
    if verdict.fault:
        raise StoreError(f"{path}: audit log of {party}: {verdict.fault.message}")
    return verdict


@contextlib.contextmanager
def _alone(state: Path) -> Iterator[None]:
    with (state / DATABASE).with_suffix(".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as e:
            raise StoreError(f"{state}: a coordinator uses it; stop that one first") from e
        yield


def _unpack(tar: tarfile.TarFile, folder: Path, config: Config, source: Path) -> Label:
    """Read the members in the one order in which they are written; anything else is refused."""
    try:
        label = Label.model_validate_json(_member(tar, LABEL, source).read(_LABEL_BYTES))
    except ValidationError as e:
        raise StoreError(f"{source}: {LABEL} is not of this release: {e}") from e
    if (label.consortium, label.party) != (config.consortium, config.party):
        whose = f"{label.party} of consortium {label.consortium}"
        raise StoreError(f"{source}: is a backup of {whose}, this is {config.party} of {config.consortium}")
    if label.schema_version != SCHEMA_VERSION:
        raise StoreError(f"{source}: has schema version {label.schema_version}, this release reads {SCHEMA_VERSION}")
    for name in (DATABASE, *(f"bundles/{digest}.tar" for digest in label.bundles)):
        with whole_file(folder / Path(name).name) as out:
            _copy(_member(tar, name, source), out)
    if (more := tar.next()) is not None:
        raise StoreError(f"{source}: holds {more.name[:200]!r}, which its label does not name")
    return label


def _member(tar: tarfile.TarFile, name: str, source: Path) -> BinaryIO:
    found = tar.next()
    content = tar.extractfile(found) if found is not None and found.name == name and found.isreg() else None
    if content is None:
        raise StoreError(f"{source}: is no whole backup: {name} should be next, found {found and found.name[:200]!r}")
    return content  # type: ignore[return-value]


def _copy(source: BinaryIO, target: BinaryIO) -> None:
    while part := source.read(1_000_000):
        target.write(part)
