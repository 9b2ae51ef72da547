"""The manifest tells of every difference between two trees, and of nothing that is none."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import docker.errors
import pytest

from consortium import manifest
from consortium.manifest import Manifest

Change = Callable[[tarfile.TarInfo], None]


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.type, found.linkname, found.mode = kind, link, 0o644
    return found


def tree(*, more: dict[str, bytes] | None = None, change: Change | None = None, reverse: bool = False) -> bytes:
    """An export with a folder, two files, a link, a hard link and a device; `change` is applied to etc/app."""
    files = {"etc/app": b"settings", "usr/bin/app": b"\x7fELF", **(more or {})}
    members = [(member(name), content) for name, content in files.items()]
    members += [(member("etc", tarfile.DIRTYPE), b""), (member("bin", tarfile.SYMTYPE, "usr/bin"), b"")]
    members += [(member("var/null", tarfile.CHRTYPE), b"")]
    if reverse:
        members.reverse()
    members.append((member("usr/bin/alias", tarfile.LNKTYPE, "usr/bin/app"), b""))
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for info, content in members:
            info.size = len(content)
            if info.name == "etc/app" and change:
                change(info)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def read(content: bytes) -> Manifest:
    return manifest.read(io.BytesIO(content))


def mode(info: tarfile.TarInfo) -> None:
    info.mode = 0o4755


def owner(info: tarfile.TarInfo) -> None:
    info.uid = 2002


def capability(info: tarfile.TarInfo) -> None:
    info.pax_headers = {"SCHILY.xattr.security.capability": "raw"}


def time(info: tarfile.TarInfo) -> None:
    info.mtime = 1_700_000_000


@pytest.mark.parametrize("change", [mode, owner, capability])
def test_what_a_node_would_notice_is_a_difference(change: Change) -> None:
    before, after = read(tree()), read(tree(change=change))
    assert before.digest() != after.digest()
    assert [line.partition(":")[0] for line in before.differences(after)] == ["etc/app"]


def test_times_and_order_are_none() -> None:
    assert read(tree(change=time)).digest() == read(tree()).digest() == read(tree(reverse=True)).digest()


def test_a_changed_a_new_and_a_missing_file_are_named() -> None:
    first = read(tree(more={"a": b"1", "b": b"1"}))
    second = read(tree(more={"a": b"2", "c": b"1"}))
    lines = first.differences(second)
    assert lines[0].startswith("a: value ")
    assert lines[1:] == ["b: only in the first", "c: only in the second"]
    assert first.differences(first) == []


def test_which_name_is_the_hard_link_is_the_engines_choice() -> None:
    entries = {entry.path: entry for entry in read(tree()).entries}
    assert entries["usr/bin/alias"].value == entries["usr/bin/app"].value
    assert entries["usr/bin/alias"].kind == "file"


@pytest.mark.parametrize("path", [".dockerenv", "dev/consortium-bake/apt/x", "etc/hosts", "proc/1", "sys/x"])
def test_what_the_engine_lays_into_a_container_is_left_out(path: str) -> None:
    assert read(tree(more={path: b"of the engine"})).digest() == read(tree()).digest()


@pytest.mark.parametrize("path", ["etc/hosts.allow", "devices", "var/dev/x", "var/log/app.log", "etc/machine-id"])
def test_nothing_else_is_left_out(path: str) -> None:
    assert read(tree(more={path: b"content"})).digest() != read(tree()).digest()


def test_packages_come_from_the_tree() -> None:
    status = b"Package: libc6\nStatus: install ok installed\nVersion: 2.36\n"
    found = read(tree(more={"var/lib/dpkg/status": status}))
    assert found.packages == {"libc6": "2.36"}
    assert "var/lib/dpkg/status" in {entry.path for entry in found.entries}


def test_a_manifest_survives_its_file(tmp_path: Path) -> None:
    found = read(tree())
    (tmp_path / "m.json").write_text(json.dumps(found.model_dump()))
    assert manifest.load(tmp_path / "m.json") == found


@pytest.mark.parametrize("content", ["{}", "[]", "no json", '{"entries": [], "surprise": 1}'])
def test_a_file_that_is_no_manifest_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "m.json").write_text(content)
    with pytest.raises(manifest.BadManifest, match="not a manifest") as caught:
        manifest.load(tmp_path / "m.json")
    assert caught.value.where == str(tmp_path / "m.json")


class FakeEngine:
    """Makes containers that export a tree in pieces of odd sizes."""

    def __init__(self, content: bytes) -> None:
        self.content, self.removed, self.containers = content, 0, self

    def create(self, image: str, command: list[str], **_: object) -> object:
        if image == "none":
            raise docker.errors.ImageNotFound(image)
        pieces = [self.content[at : at + 777] for at in range(0, len(self.content), 777)]
        return SimpleNamespace(export=lambda: iter(pieces), remove=self.remove)

    def remove(self, **_: object) -> None:
        self.removed += 1


def test_an_image_is_read_through_a_container_that_is_removed() -> None:
    engine = FakeEngine(tree())
    assert manifest.of_image(engine, "x:1") == read(tree())  # type: ignore[arg-type]
    assert engine.removed == 1


def test_the_container_is_removed_also_when_the_export_breaks_off() -> None:
    engine = FakeEngine(tree()[:700])
    with pytest.raises(tarfile.ReadError):
        manifest.of_image(engine, "x:1")  # type: ignore[arg-type]
    assert engine.removed == 1


def test_an_image_that_is_not_there_is_named() -> None:
    with pytest.raises(manifest.NoImage, match="not on this engine") as caught:
        manifest.of_image(FakeEngine(b""), "none")  # type: ignore[arg-type]
    assert caught.value.value == "none"
