"""A backup as a file: its label, its members in their order, and whether all of it is whole and genuine.

Needs public keys only, so whoever keeps a backup can check it on another machine.
"""

from __future__ import annotations

import contextlib
import sqlite3
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, BinaryIO

from pydantic import Field, ValidationError

from coordinator.audit_verify import Verdict, verify
from coordinator.bundle import BundleError, digest, unpack
from coordinator.config import Digest, Model, Party
from coordinator.group_commit import StoreError
from coordinator.offline import open_reader, read_records
from coordinator.signing import Verifier
from coordinator.store import SCHEMA_VERSION
from coordinator.whole import whole_file

DATABASE, LABEL = "coordinator.db", "backup.json"
_LABEL_BYTES = 20_000_000  # names 250,000 job folders


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


def check_backup(
    source: Path, keys: Mapping[str, str], consortium: str | None = None, party: str | None = None
) -> Label:
    """Check every page, every audit record and every job folder of a backup, beside which it is unpacked for that.

    `keys`: base64 public keys by party. `consortium`, `party`: whose it must be; None: whose it says it is.
    Raises StoreError naming the first fault, SigningError for a key that is none.
    """
    with _readable(source), tarfile.open(source, "r:") as tar:
        label = _label(tar, source)
    if label.party not in keys:
        raise StoreError(f"{source}: is a backup of {label.party}, keys are here of {sorted(keys)}")
    whose = (consortium or label.consortium, party or label.party)
    with tempfile.TemporaryDirectory(prefix=".check-", dir=source.parent) as folder:
        return unpack_checked(source, Path(folder), whose, Verifier(whose[0], keys))


def unpack_checked(source: Path, folder: Path, whose: tuple[str, str], verifier: Verifier) -> Label:
    """Unpack a backup of (consortium, party) into an empty folder: the database and each `<digest>.tar`.

    Raises StoreError: it is another's, of another release, not whole, not genuine, not readable.
    """
    with _readable(source), tarfile.open(source, "r:") as tar:
        label = _label(tar, source)
        if (label.consortium, label.party) != whose:
            found = f"{label.party} of consortium {label.consortium}"
            raise StoreError(f"{source}: is a backup of {found}, this is {whose[1]} of {whose[0]}")
        if label.schema_version != SCHEMA_VERSION:
            fault = f"has schema version {label.schema_version}, this release reads {SCHEMA_VERSION}"
            raise StoreError(f"{source}: {fault}")
        for name in (DATABASE, *(f"bundles/{name}.tar" for name in label.bundles)):
            with whole_file(folder / Path(name).name) as out:
                _copy(_member(tar, name, source), out)
        if (more := tar.next()) is not None:
            raise StoreError(f"{source}: holds {more.name[:200]!r}, which its label does not name")
    verdict = check_file(folder / DATABASE, label.party, verifier)
    if (verdict.records, verdict.head) != (label.audit_seq, label.audit_hash):
        found = f"{verdict.records} records, head {verdict.head}"
        raise StoreError(f"{source}: its label says {label.audit_seq} records, it holds {found}")
    for name in label.bundles:
        check_bundle(folder / f"{name}.tar")
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


def check_bundle(path: Path) -> None:
    """Raise StoreError unless a job folder is the one that its name says; OSError when it cannot be read."""
    data = path.read_bytes()
    try:
        found = digest(unpack(data, len(data)))
    except BundleError as e:
        raise StoreError(f"{path}: this job folder is damaged: {e}") from e
    if found != path.stem:
        raise StoreError(f"{path}: this job folder is damaged: its digest is {found}")


@contextlib.contextmanager
def _readable(source: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, tarfile.TarError) as e:
        raise StoreError(f"{source}: cannot be read as a backup: {e}") from e


def _label(tar: tarfile.TarFile, source: Path) -> Label:
    try:
        return Label.model_validate_json(_member(tar, LABEL, source).read(_LABEL_BYTES))
    except ValidationError as e:
        raise StoreError(f"{source}: {LABEL} is not of this release: {e}") from e


def _member(tar: tarfile.TarFile, name: str, source: Path) -> BinaryIO:
    """The next member: they come in the one order in which they are written; anything else is refused."""
    found = tar.next()
    content = tar.extractfile(found) if found is not None and found.name == name and found.isreg() else None
    if content is None:
        raise StoreError(f"{source}: is no whole backup: {name} should be next, found {found and found.name[:200]!r}")
    return content  # type: ignore[return-value]


def _copy(source: BinaryIO, target: BinaryIO) -> None:
    while part := source.read(1_000_000):
        target.write(part)
