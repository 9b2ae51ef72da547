"""Writing a lock file, obeying it and checking it, with an engine that answers as a test wants.

A real bake by a lock file, twice, is in test_two_builds.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from consortium import image, image_build, lockfile, locking
from consortium.image_downloads import Downloads
from consortium.lockfile import Content, NotAsLocked, Origin
from tests.consortium.conftest import Command
from tests.consortium.lock_builders import BASE, BASE_PACKAGES, FakeEngine, lock, manifest, pins, silent

RUNTIME = manifest("runtime", **BASE_PACKAGES, runit="2.1")


class Machine:
    """An engine, a mirror and what a bake yields; what was asked of them is kept."""

    def __init__(self) -> None:
        self.engine = FakeEngine("debian:12")
        self.bases = [BASE]  # what each reading of the base finds; the last one stays
        self.runtime = self.again = RUNTIME
        self.mirror = {"runit": "2.1"}
        self.lost: set[str] = set()  # packages of which the mirror has no locked version any more
        self.kept: list[Mapping[str, str]] = []
        self.renewed: list[bool] = []
        self.baked: list[Origin] = []

    def of_image(self, _client: object, name: str) -> object:
        if not name.startswith("consortium-"):
            return self.bases.pop(0) if len(self.bases) > 1 else self.bases[0]
        return self.runtime

    def ensure_base(self, _client: object, base: str, *_: object, renew: bool = False, **__: object) -> str:
        self.renewed.append(renew)
        return base

    def resolve(self, _client: object, _base: str, _wanted: object, kept: Mapping[str, str], _: object) -> Any:
        self.kept.append(kept)
        return {n: version if n in self.lost else kept.get(n, version) for n, version in self.mirror.items()}

    def bake_from(self, _engine: str, begin: Origin, **_: object) -> str:
        self.baked.append(begin)
        return "consortium-node:x"

    @contextmanager
    def built(self, *_: object) -> Any:
        yield self


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    found = Machine()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(lockfile, "LOCK", tmp_path / "consortium.lock")
    monkeypatch.setattr(locking.manifest, "of_image", found.of_image)
    monkeypatch.setattr(locking.manifest, "of_container", lambda _container: found.again)
    for module in (image, locking):
        monkeypatch.setattr(module, "connect", lambda _engine: found.engine)
        monkeypatch.setattr(module, "ensure_base", found.ensure_base)
        monkeypatch.setattr(module, "bake_from", found.bake_from)
    monkeypatch.setattr(locking, "resolve", found.resolve)
    monkeypatch.setattr(locking, "built", found.built)
    return found


def make(base: str | None = None, *, update: bool = False) -> Any:
    return locking.make("unix:///x", base, update=update, downloads=Downloads(), on_progress=silent)


def check(*, rebuild: bool = False) -> list[str]:
    return locking.check("unix:///x", rebuild=rebuild, downloads=Downloads(), on_progress=silent)


def test_a_first_lock_says_what_is_here(machine: Machine) -> None:
    found = make("debian:12")
    assert found.pins.base.packages == BASE_PACKAGES
    assert found.pins.base.content == BASE.digest()
    assert found.pins.base.source == "engine"
    assert found.pins.packages == {"runit": "2.1"}
    assert found.content.runtime == RUNTIME.digest()
    assert machine.baked == [Origin("debian:12", found.pins)], "it was not baked by what it pins"
    lockfile.save(found)
    assert check() == []


def test_locked_versions_stay_and_what_is_new_is_added(machine: Machine) -> None:
    lockfile.save(lock())
    machine.mirror = {"runit": "9.9", "procps": "4"}
    assert make().pins.packages == {"runit": "2.1", "procps": "4"}


def test_a_locked_version_that_is_lost_is_no_silent_update(machine: Machine) -> None:
    lockfile.save(lock())
    machine.mirror, machine.lost = {"runit": "9.9"}, {"runit"}
    with pytest.raises(NotAsLocked, match="mirror has not") as caught:
        make()
    assert caught.value.value == "runit: locked 2.1, found 9.9"
    assert make(update=True).pins.packages == {"runit": "9.9"}


@pytest.mark.parametrize("how", [{"update": True}, {"base": "debian:other"}])
def test_an_update_or_another_base_keeps_nothing(machine: Machine, how: dict[str, Any]) -> None:
    lockfile.save(lock())
    machine.engine.names.add("debian:other")
    machine.mirror = {"runit": "9.9"}
    assert make(**how).pins.packages == {"runit": "9.9"}
    assert machine.kept == [{}]


def test_an_old_base_of_debootstrap_is_made_again_before_giving_up(machine: Machine) -> None:
    lockfile.save(lock())
    machine.bases = [manifest("of another day"), BASE]
    make()
    assert machine.renewed == [False, True]
    machine.bases = [manifest("of another day", apt="2.6", libc6="2.37")]
    with pytest.raises(NotAsLocked, match="base image") as caught:
        make()
    assert "libc6: locked 2.36, found 2.37" in caught.value.value
    assert "apt" not in caught.value.value
    assert "consortium lock --update" in caught.value.fix


@pytest.mark.parametrize(("what", "value"), [("architecture", "arm64"), ("uv", "0.0.1")])
def test_a_machine_that_cannot_bake_the_same_is_refused(machine: Machine, what: str, value: str) -> None:
    begin = Origin("debian:12", pins(**{what: value}))
    with pytest.raises(NotAsLocked, match="this machine differs") as caught:
        image.locked_base(machine.engine, begin, Downloads(), silent)  # type: ignore[arg-type]
    assert what in caught.value.where
    assert caught.value.allowed == value


def test_a_check_without_a_lock_file_fails(machine: Machine) -> None:
    with pytest.raises(NotAsLocked, match="no lock file"):
        check()


def test_a_check_of_stale_inputs_bakes_nothing(machine: Machine) -> None:
    found = lock()
    stale = found.inputs.model_copy(update={"roles": {**found.inputs.roles, "ray": "1" * 64}})
    lockfile.save(lock(inputs=stale))
    assert [line.partition(":")[0] for line in check()] == ["roles.ray"]
    assert machine.baked == []


def test_a_check_names_packages_and_content_that_differ(machine: Machine) -> None:
    lockfile.save(lock(content=Content(runtime=RUNTIME.digest())))
    assert check() == []
    machine.runtime = manifest("other", **BASE_PACKAGES, runit="2.2")
    lines = check()
    assert lines[0] == "runit: locked 2.1, found 2.2"
    assert lines[1].startswith(f"content.runtime: locked {RUNTIME.digest()}")


def test_a_second_build_that_differs_is_named_by_stage_and_file(machine: Machine) -> None:
    lockfile.save(lock(content=Content(runtime=RUNTIME.digest())))
    assert check(rebuild=True) == []
    machine.again = manifest("something else")
    assert [line.partition(": value")[0] for line in check(rebuild=True)] == ["runtime: f", "node: f"]


def test_the_command_writes_checks_and_says_what_changed(machine: Machine, command: Command) -> None:
    said = command("lock", "--base", "debian:12")
    assert said.code == 0
    assert "pins.packages.runit: none → 2.1" in said.out
    assert "unchanged" in command("lock").out
    assert command("lock", "--check").out.strip() == "all is as the lock file says"
    assert command("lock", "--check", "--rebuild", "--json").json() == {"differences": []}
    machine.again = manifest("something else")
    said = command("lock", "--check", "--rebuild", "--json")
    assert said.code == 1
    assert len(said.json()["differences"]) == 2
    machine.mirror = {"runit": "9.9"}
    assert command("lock", "--update", "--json").json()["changes"] == ["pins.packages.runit: 2.1 → 9.9"]


@pytest.mark.parametrize("options", [["--check", "--update"], ["--check", "--base", "x"], ["--rebuild"]])
def test_options_that_do_not_fit_together_are_refused(machine: Machine, command: Command, options: list[str]) -> None:
    said = command("lock", *options)
    assert said.code == 2
    assert "--check" in said.err


def test_the_manifest_command_compares(machine: Machine, command: Command, tmp_path: Path) -> None:
    said = command("image", "manifest", "consortium-node:x", "--json")
    (tmp_path / "m.json").write_text(said.out)
    assert command("image", "manifest", "consortium-node:x").out.startswith(RUNTIME.digest())
    assert command("image", "manifest", "consortium-node:x", "--against", tmp_path / "m.json").out.strip() == "equal"
    machine.runtime = manifest("other")
    said = command("image", "manifest", "consortium-node:x", "--against", tmp_path / "m.json")
    assert said.code == 1
    assert said.out.startswith("f: value runtime → other")


def test_other_packages_after_a_bake_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    status = "Package: runit\nStatus: install ok installed\nVersion: 2.2\n"
    monkeypatch.setattr(image_build, "_fetch", lambda _container, _path: status)
    with pytest.raises(NotAsLocked, match="other Debian packages") as caught:
        image_build._check_packages(SimpleNamespace(), pins())  # type: ignore[arg-type]
    assert "runit: locked 2.1, found 2.2" in caught.value.value
