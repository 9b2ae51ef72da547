"""Two real builds from one lock file have equal content, and apt can take nothing that is not locked."""

from __future__ import annotations

import os
from pathlib import Path

import docker
import pytest

from consortium import image, image_build, locking
from consortium.debian import preferences
from consortium.image_downloads import BakeFailed, Downloads, environment, mounts
from consortium.lockfile import NotAsLocked, origin

ENGINE = "unix:///var/run/docker.sock"

pytestmark = pytest.mark.docker


@pytest.fixture(scope="module")
def downloads() -> Downloads:
    return Downloads.from_environment(os.environ)


@pytest.mark.timeout(2400)  # on two slow cores; the first build may have to be made too
def test_two_builds_from_one_lock_are_equal(downloads: Downloads) -> None:
    """Also equal to a third one, the build that wrote the lock file, perhaps on another machine."""
    assert locking.check(ENGINE, rebuild=True, downloads=downloads, on_progress=print) == []


@pytest.mark.timeout(1800)
def test_a_version_that_the_mirror_has_not_is_named_before_anything_is_installed(downloads: Downloads) -> None:
    image.bake(ENGINE, downloads=downloads, on_progress=print)
    pins = origin().pins
    assert pins
    stage, runtime = image.targets(origin())[0]
    wrong = pins.model_copy(update={"packages": {**pins.packages, "libgomp1": "0.0-1", "runit": "9:9"}})
    reported: list[str] = []
    with (
        pytest.raises(NotAsLocked, match="mirror has not") as caught,
        image_build.built(docker.from_env(), ENGINE, stage, runtime, "test-mirror", downloads, wrong, reported.append),
    ):
        pytest.fail("it was built")
    lines = caught.value.value.splitlines()
    assert lines[0] == f"libgomp1: locked 0.0-1, the mirror has {pins.packages['libgomp1']}"
    assert lines[1].startswith("runit: locked 9:9, the mirror has ")
    assert "package_mirror.apt" in caught.value.fix
    assert reported == []


@pytest.mark.timeout(1800)
def test_apt_finds_nothing_that_is_not_locked(downloads: Downloads, tmp_path: Path) -> None:
    image.bake(ENGINE, downloads=downloads, on_progress=print)
    pins = origin().pins
    assert pins
    runtime = image.targets(origin())[0][1]
    pinned = preferences({**pins.debian(), "hello": "0.0-1"}, nothing_else=True)
    volumes = mounts(tmp_path, downloads, pinned)
    with image_build.build_container(docker.from_env(), runtime, "test-apt", volumes) as container:
        told = environment(downloads)
        image_build._ask(container, "apt-get update -q", told)
        assert "Inst" not in image_build._ask(container, "apt-get --simulate install runit", told)
        for name in ("cowsay", "hello"):  # not locked; locked at a version that is not there
            assert name in image_build._ask(container, f"apt-cache madison {name}", told)
            with pytest.raises(BakeFailed, match="package tool") as caught:
                image_build._ask(container, f"apt-get --simulate install {name}", told)
            assert "no installation candidate" in caught.value.value
