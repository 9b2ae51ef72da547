"""The content manifest of an image: every file with its owner, mode and digest, and one digest over all of it.

It is read from an export of a container that need not run; nothing is unpacked. Two images with equal manifests differ
at most in times, in the order of files and in what is hard-linked to what.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import docker
import docker.errors
from docker.models.containers import Container
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from consortium.debian import DPKG_STATUS, installed
from consortium.errors import ConsortiumError

ENGINE_PATHS = frozenset(
    {".dockerenv", "dev", "etc/hostname", "etc/hosts", "etc/mtab", "etc/resolv.conf", "proc", "sys"}
)
"""What the engine lays into every container, and what lies below; it is no part of an image."""

_KINDS = {
    tarfile.REGTYPE: "file",
    tarfile.SYMTYPE: "link",
    tarfile.DIRTYPE: "folder",
    tarfile.CHRTYPE: "device",
    tarfile.BLKTYPE: "device",
    tarfile.FIFOTYPE: "pipe",
}
_ATTRIBUTE = "SCHILY.xattr."


class BadManifest(ConsortiumError):
    """A file is no manifest."""


class NoImage(ConsortiumError):
    """There is nothing to read."""


class Entry(BaseModel):
    """One file. `value`: a file's SHA-256, a link's target, a device's numbers; then its extended attributes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    kind: str
    mode: str
    uid: int
    gid: int
    size: int
    value: str


class Manifest(BaseModel):
    """All files of one image, sorted by path, and its Debian packages."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    entries: tuple[Entry, ...]
    packages: dict[str, str] = Field(default_factory=dict)

    def digest(self) -> str:
        """SHA-256 (hex) over all entries."""
        total = hashlib.sha256()
        for entry in self.entries:
            total.update(repr(tuple(entry.model_dump().values())).encode() + b"\n")
        return total.hexdigest()

    def differences(self, other: Manifest) -> list[str]:
        """One line for each file that differs, seen from this manifest to the other one."""
        mine, theirs = ({entry.path: entry for entry in m.entries} for m in (self, other))
        return [
            _difference(path, mine.get(path), theirs.get(path))
            for path in sorted({*mine, *theirs})
            if mine.get(path) != theirs.get(path)
        ]


def of_image(client: docker.DockerClient, image: str) -> Manifest:
    """The manifest of an image on the engine. Its container is made, exported and removed; it never runs.

    Raises NoImage.
    """
    try:
        container = client.containers.create(image, ["true"], labels={"consortium.manifest": image})
    except docker.errors.ImageNotFound as error:
        raise NoImage("the image is not on this engine", value=image, fix="`consortium image bake`") from error
    try:
        return of_container(container)
    finally:
        container.remove(force=True, v=True)


def of_container(container: Container) -> Manifest:
    """The manifest of a container's files as they stand; stop it first."""
    pieces: Any = container.export()  # an iterator of bytes, whatever its stub says
    with _readable(pieces) as stream:
        return read(stream)


def read(stream: io.BufferedIOBase) -> Manifest:
    """The manifest of an exported tree, a tar stream."""
    entries: dict[str, Entry] = {}
    packages: dict[str, str] = {}
    with tarfile.open(fileobj=stream, mode="r|") as tar:
        for member in tar:
            path = member.name.removeprefix("./").strip("/")
            if not path or path == "." or _of_the_engine(path):
                continue
            if path == DPKG_STATUS:
                content = _content(tar, member)
                packages = installed(content.decode("utf-8"))
                entries[path] = _entry(path, member, hashlib.sha256(content).hexdigest())
            elif member.islnk():
                # Which of the names is the file and which the link is the engine's choice.
                entries[path] = entries[member.linkname.removeprefix("./")].model_copy(update={"path": path})
            else:
                entries[path] = _entry(path, member, _value(tar, member))
    return Manifest(entries=tuple(entries[path] for path in sorted(entries)), packages=packages)


def load(path: Path) -> Manifest:
    """A manifest that `consortium image manifest --json` wrote. Raises BadManifest."""
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise BadManifest(
            "not a manifest of an image",
            where=str(path),
            value=str(error).splitlines()[0][:200],
            fix="write it with `consortium image manifest --json > FILE`",
        ) from error


def _of_the_engine(path: str) -> bool:
    return path in ENGINE_PATHS or path.partition("/")[0] in ENGINE_PATHS


def _entry(path: str, member: tarfile.TarInfo, value: str) -> Entry:
    attributes = [f"{k}={v}" for k, v in sorted(member.pax_headers.items()) if k.startswith(_ATTRIBUTE)]
    return Entry(
        path=path,
        kind=_KINDS.get(member.type, "file"),
        mode=f"{member.mode & 0o7777:04o}",
        uid=member.uid,
        gid=member.gid,
        size=member.size if member.isreg() else 0,
        value=" ".join([value, *attributes]).strip(),
    )


def _value(tar: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    if member.isreg():
        file = tar.extractfile(member)
        assert file is not None
        return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]  # it can be read: enough
    if member.ischr() or member.isblk():
        return f"{member.devmajor}:{member.devminor}"
    return member.linkname


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    assert file is not None
    return file.read()


def _difference(path: str, mine: Entry | None, theirs: Entry | None) -> str:
    if mine is None or theirs is None:
        return f"{path}: only in the {'first' if theirs is None else 'second'}"
    changed = [
        f"{name} {getattr(mine, name)!s:.20} → {getattr(theirs, name)!s:.20}"
        for name in Entry.model_fields
        if getattr(mine, name) != getattr(theirs, name)
    ]
    return f"{path}: {', '.join(changed)}"


class _Chunks(io.RawIOBase):
    """Pieces of bytes as a file that can only be read on."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces: Iterator[bytes] = iter(pieces)
        self._left = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._left:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._left = piece
        count = min(len(buffer), len(self._left))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        return count


@contextmanager
def _readable(pieces: Iterable[bytes]) -> Iterator[io.BufferedIOBase]:
    with io.BufferedReader(_Chunks(pieces), buffer_size=1 << 20) as stream:
        yield stream
