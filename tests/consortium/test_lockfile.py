"""The lock file: what it takes, what follows from it, and that the one of this repository fits it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from consortium import image, lockfile
from consortium.errors import DocumentErrors
from consortium.lockfile import Content, Inputs, NotAsLocked, load, origin, save, stale
from tests.consortium.lock_builders import DIGEST, lock, pins


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the lock file of this test is."""
    monkeypatch.setattr(lockfile, "LOCK", tmp_path / "consortium.lock")
    yield tmp_path / "consortium.lock"


def test_the_lock_of_this_repository_fits_it() -> None:
    """An edit of a role's install part, of requirements or of uv's version needs `consortium lock`."""
    found = load()
    assert found is not None
    assert stale(found) == []
    assert image.image_name() == image.targets(lockfile.Origin(found.pins.base.name, found.pins))[-1][1]


def test_a_lock_survives_its_file_and_says_how_it_came_about(path: Path) -> None:
    assert save(lock())
    assert load() == lock()
    assert not save(lock())
    assert path.read_text().startswith("# Written by `consortium lock`")
    assert list(yaml.safe_load(path.read_text())) == ["content", "format", "inputs", "pins"]


def test_the_order_in_which_it_was_written_does_not_matter(path: Path) -> None:
    """The image is baked before the file is written, and must have the name that the file gives it."""
    packages = {"runit": "2.1", "procps": "4"}
    save(lock(pins=pins(packages=packages)))
    assert origin().seed() == lockfile.Origin("debian:12", pins(packages=packages)).seed()


@pytest.mark.parametrize(
    "change",
    [
        {"packages": {"runit": "2.2"}},
        {"uv": "1.1"},
        {"architecture": "arm64"},
        {"base": {**pins().base.model_dump(), "content": "1" * 64}},
    ],
)
def test_a_pin_is_part_of_the_images_name(path: Path, change: dict[str, Any]) -> None:
    save(lock())
    before = image.image_name()
    save(lock(pins=pins(**change)))
    assert image.image_name() != before


def test_what_came_out_is_not(path: Path) -> None:
    save(lock())
    before = image.image_name()
    save(lock(content=Content(runtime="1" * 64)))
    assert image.image_name() == before


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("format", 2),
        ("surprise", 1),
        ("content", {"runtime": "abc"}),
        ("pins.packages", {"runit": "1\nPackage: *\nPin-Priority: 1"}),
        ("pins.packages", {"runit": "1 2"}),
        ("pins.packages", {"Runit\n": "1"}),
        ("pins.base.source", "a b"),
        ("pins.base.name", "-x"),
        ("pins.uv", ""),
        ("inputs.roles", {"../x y": DIGEST}),
    ],
)
def test_a_lock_that_says_anything_else_is_refused_with_its_place(path: Path, field: str, value: Any) -> None:
    data = json.loads(lock().model_dump_json())
    *outer, last = field.split(".")
    place = data
    for part in outer:
        place = place[part]
    place[last] = value
    path.write_text(yaml.safe_dump(data))
    with pytest.raises(DocumentErrors) as caught:
        image.image_name()
    assert "consortium.lock" in str(caught.value)
    assert field.split(".")[0] in str(caught.value)


def test_the_locks_base_is_the_default_and_no_other_is_taken(path: Path) -> None:
    assert origin().base == "debian:12-slim"
    assert origin("x:1") == lockfile.Origin("x:1")
    save(lock())
    assert origin() == origin("debian:12") == lockfile.Origin("debian:12", pins())
    with pytest.raises(NotAsLocked, match="another base") as caught:
        origin("x:1")
    assert caught.value.allowed == "debian:12"


def test_what_no_longer_fits_is_named() -> None:
    now = Inputs.present()
    roles = {**now.roles, "ray": DIGEST, "gone": DIGEST}
    requirements = {k: v for k, v in now.requirements.items() if not k.startswith("gateway/")}
    lines = stale(lock(inputs=Inputs(roles=roles, requirements=requirements), pins=pins(uv="1.0")))
    assert [line.partition(":")[0] for line in lines] == [
        "requirements.gateway/files/requirements.lock",
        "roles.gone",
        "roles.ray",
        "uv",
    ]
    assert "locked none" in lines[0]
    assert f"locked {DIGEST[:12]}, found {now.roles['ray'][:12]}" in lines[2]
    assert "locked 1.0" in lines[3]
