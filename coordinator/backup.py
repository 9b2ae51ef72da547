"""Backup and restore of a party's state: the database and the job folders, in one tar that is verified when written.

A restored party is *older than what it has said*. It refuses its own statements that come back and that it has no
record of (accept.py), and must not go on with jobs of that time: see docs/runbook.md.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import sqlite3
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from coordinator.backup_file import DATABASE, LABEL, Label, check_bundle, check_file, unpack_checked
from coordinator.config import Config
from coordinator.group_commit import DiskFullError, StoreError
from coordinator.offline import open_reader
from coordinator.signing import Signer, Verifier
from coordinator.store import SCHEMA_VERSION, Store
from coordinator.whole import sync_folder, whole_file

_FULL = (errno.ENOSPC, errno.EDQUOT)


def backup(config: Config, verifier: Verifier, target: Path) -> Label:
    """Write a consistent copy of the state, while the coordinator runs, to a new file (mode 0600, whole or absent).

    Raises StoreError: the target exists, the state cannot be read or is not well; DiskFullError: there is no room.
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
            for path in bundles:
                check_bundle(path)
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
        full = getattr(e, "errno", 0) in _FULL or getattr(e, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL
        raise (DiskFullError if full else StoreError)(f"{target}: the backup could not be written: {e}") from e
    return label


def room_needed(config: Config) -> int:
    """Bytes that a backup takes in the folder of its target while it is made: the database twice, job folders once."""
    state = config.state_dir
    database = sum(p.stat().st_size for p in state.glob(f"{DATABASE}*"))
    return 2 * database + sum(p.stat().st_size for p in (state / "bundles").glob("*.tar"))


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
            with tempfile.TemporaryDirectory(prefix=".restore-", dir=state) as name:
                folder = Path(name)
                label = unpack_checked(source, folder, (config.consortium, config.party), verifier)
                bundles = state / "bundles"
                bundles.mkdir(exist_ok=True)
                for digest in label.bundles:
                    (folder / f"{digest}.tar").rename(bundles / f"{digest}.tar")
                sync_folder(bundles)
                (folder / DATABASE).rename(state / DATABASE)  # last: from here on there is state
                sync_folder(state)
        except OSError as e:
            raise StoreError(f"{source}: cannot be restored: {e}") from e
    store = Store(state / DATABASE, signer, config.party)
    made = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(label.made_at))
    store.note(time.time(), "restored", f"from a backup of {made}, after record {label.audit_seq}")
    store.close()
    return label


@contextlib.contextmanager
def _alone(state: Path) -> Iterator[None]:
    with (state / DATABASE).with_suffix(".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as e:
            raise StoreError(f"{state}: a coordinator uses it; stop that one first") from e
        yield
