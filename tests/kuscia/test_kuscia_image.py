"""An image comes to the engine from an archive or a registry, is what was asked for, or the error says what to do."""

from __future__ import annotations

import io
import tarfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import docker
import docker.errors
import pytest

from consortium.errors import ConsortiumError, Refused
from consortium.kuscia.image import NotToBeHad, Step, Wanted, bring, check_archive, decide, image_problems
from consortium.kuscia.image_resource import NodeImageProvider
from consortium.kuscia.settings import Image, Registry
from consortium.spec import Model
from tests import builders
from tests.kuscia.kuscia_builders import DIGEST, ENGINE
from tests.kuscia.small_registry import SmallImage, digest, registry

WHERE = "stacks/Pulumi.alice.yaml: consortium:settings.kuscia"


@pytest.fixture
def small() -> SmallImage:
    return SmallImage(uuid.uuid4().hex)


@pytest.fixture
def engine(small: SmallImage) -> Iterator[docker.DockerClient]:
    """Without the image, before and after."""
    client = docker.from_env()
    yield client
    for one in client.images.list():
        if one.id == small.id:
            client.images.remove(one.id, force=True)
    client.close()


def wanted(image: Image, folder: Path, known: Registry | None = None, password: str = "") -> Wanted:
    return Wanted.of(image, known, folder, WHERE, password)


def by_archive(small: SmallImage, folder: Path, content: bytes | None = None) -> Wanted:
    (folder / "image.tar").write_bytes(small.archive() if content is None else content)
    image = Image(image=f"registry.example/kuscia@{DIGEST}", image_id=small.id, archive="image.tar")
    return wanted(image, folder)


REGISTRY = Registry(endpoint="registry.example/team", username="node")


@pytest.mark.parametrize(
    ("there", "archive", "known", "step"),
    [
        (True, True, REGISTRY, Step.NOTHING),
        (False, True, REGISTRY, Step.LOAD),
        (False, False, REGISTRY, Step.PULL),
        (False, False, Registry(endpoint="elsewhere.example"), Step.GIVE_UP),
        (False, False, None, Step.GIVE_UP),
    ],
)
def test_whence_an_image_comes(there: bool, archive: bool, known: Registry | None, step: Step, tmp_path: Path) -> None:
    more = {"image_id": DIGEST, "archive": "image.tar"} if archive else {}
    image = Image.model_validate({"image": f"registry.example/team/kuscia@{DIGEST}", **more})
    assert decide(there, wanted(image, tmp_path, known)) is step


def test_an_archive_without_an_id_is_refused() -> None:
    with pytest.raises(ValueError, match="needs `image_id`"):
        Image(image=f"registry.example/kuscia@{DIGEST}", archive="image.tar")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"no tar at all", "no archive of an image"),
        (b"", "no archive of an image"),
        (SmallImage("another").archive(), "holds another image"),
    ],
)
def test_a_wrong_archive_is_named(content: bytes, says: str, small: SmallImage, tmp_path: Path) -> None:
    with pytest.raises(NotToBeHad, match=says) as caught:
        check_archive(by_archive(small, tmp_path, content))
    assert "kuscia.archive" in str(caught.value)


def test_a_missing_archive_is_named(small: SmallImage, tmp_path: Path) -> None:
    given = by_archive(small, tmp_path)
    (tmp_path / "image.tar").unlink()
    with pytest.raises(NotToBeHad, match="archive is missing"):
        check_archive(given)


def test_a_changed_image_under_the_right_name_is_found_out(small: SmallImage, tmp_path: Path) -> None:
    """The name of a file in an archive proves nothing: its bytes are what the id is made of."""
    other = SmallImage("another").config
    with pytest.raises(NotToBeHad, match="holds another image") as caught:
        check_archive(by_archive(small, tmp_path, small.archive(config=other)))
    assert digest(other) in str(caught.value)


def test_the_ids_of_an_archive_with_an_index_count_too(small: SmallImage, tmp_path: Path) -> None:
    """Engines with containerd's store call an image by its manifest."""
    import json

    manifest = small.manifest
    made = io.BytesIO(small.archive())
    with tarfile.open(fileobj=made, mode="a") as tar:
        for path, content in {
            "index.json": json.dumps({"manifests": [{"digest": digest(manifest)}]}).encode(),
            f"blobs/sha256/{digest(manifest).removeprefix('sha256:')}": manifest,
        }.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    (tmp_path / "image.tar").write_bytes(made.getvalue())
    image = Image(image=f"registry.example/kuscia@{DIGEST}", image_id=digest(manifest), archive="image.tar")
    check_archive(wanted(image, tmp_path))


@pytest.mark.docker
def test_an_archive_is_loaded_once(engine: docker.DockerClient, small: SmallImage, tmp_path: Path) -> None:
    given = by_archive(small, tmp_path)
    assert bring(engine, given) == small.id
    (tmp_path / "image.tar").unlink()
    assert bring(engine, given) == small.id


@pytest.mark.docker
def test_a_wrong_archive_leaves_nothing_on_the_engine(
    engine: docker.DockerClient, small: SmallImage, tmp_path: Path
) -> None:
    other = SmallImage(uuid.uuid4().hex)
    with pytest.raises(NotToBeHad):
        bring(engine, by_archive(small, tmp_path, other.archive()))
    with pytest.raises(docker.errors.ImageNotFound):
        engine.images.get(other.id)


@pytest.mark.docker
def test_a_registry_with_a_login_gives_the_image_of_that_digest(
    engine: docker.DockerClient, small: SmallImage, tmp_path: Path
) -> None:
    with registry(small, "node", "hunter2") as running:
        image = Image(image=f"{running.address}/team/kuscia@{digest(small.manifest)}")
        known = Registry(endpoint=f"{running.address}/team", username="node")
        with pytest.raises(Refused, match="cannot fetch the image") as caught:
            bring(engine, wanted(image, tmp_path, known, "wrong"))
        assert "consortium kuscia password registry" in str(caught.value)
        assert bring(engine, wanted(image, tmp_path, known, "hunter2")) == small.id
        before = len(running.asked)
        assert bring(engine, wanted(image, tmp_path, known, "hunter2")) == small.id
        assert len(running.asked) == before


@pytest.mark.docker
def test_a_registry_that_lacks_it_and_one_that_is_not_there(
    engine: docker.DockerClient, small: SmallImage, tmp_path: Path
) -> None:
    with registry(small, "node", "hunter2") as running:
        known = Registry(endpoint=running.address, username="node")
        image = Image(image=f"{running.address}/kuscia@{DIGEST}")
        with pytest.raises(Refused, match=DIGEST):
            bring(engine, wanted(image, tmp_path, known, "hunter2"))
    with pytest.raises(Refused, match="refused"):
        bring(engine, wanted(image, tmp_path, known, "hunter2"))


@pytest.mark.docker
def test_without_any_way_the_error_names_every_one(engine: docker.DockerClient, tmp_path: Path) -> None:
    image = Image(image=f"registry.example/kuscia@{DIGEST}")
    with pytest.raises(NotToBeHad) as caught:
        bring(engine, wanted(image, tmp_path))
    text = str(caught.value)
    for words in ("not on this engine", "registry", f"docker pull registry.example/kuscia@{DIGEST}", "image_id"):
        assert words in text


def model(folder: Path, **kuscia: object) -> Model:
    node = {"image": f"registry.example/kuscia@{DIGEST}", "engine": ENGINE, **kuscia}
    return builders.model(settings={"kuscia": node}).model_copy(update={"workspace": folder})


@pytest.mark.docker
def test_before_anything_is_made_every_image_is_looked_at(engine: docker.DockerClient, tmp_path: Path) -> None:
    database = {"image": f"registry.example/mariadb@{DIGEST}", "image_id": DIGEST, "archive": "none.tar"}
    found = list(image_problems(engine, model(tmp_path, mariadb=database)))
    assert [problem.where for problem in found] == [WHERE, f"{WHERE}.mariadb.archive"]
    assert list(image_problems(engine, model(tmp_path, registry={"endpoint": "registry.example"}))) == []
    assert list(image_problems(engine, builders.model())) == []


@pytest.mark.docker
def test_the_resource_notices_that_its_image_is_gone(
    engine: docker.DockerClient, small: SmallImage, tmp_path: Path
) -> None:
    given = by_archive(small, tmp_path)
    props = {
        "engine": "unix:///var/run/docker.sock",
        "reference": given.reference,
        "name": given.name,
        "archive": str(given.archive),
        "registry": None,
        "where": given.where,
        "password": "",
        "image_id": None,
    }
    provider = NodeImageProvider()
    outs = provider.create(props).outs
    assert outs is not None
    assert outs["image_id"] == small.id
    assert not provider.diff("x", outs, props).changes
    engine.images.remove(small.id, force=True)
    seen = provider.read("x", outs).outs
    assert seen is not None
    assert provider.diff("x", seen, props).changes
    assert provider.update("x", seen, props).outs == outs
    assert provider.diff("x", outs, {**props, "reference": DIGEST}).changes


def test_an_engine_that_does_not_answer_is_named(tmp_path: Path) -> None:
    props = {"engine": f"unix://{tmp_path}/none.sock", "reference": DIGEST, "name": "x", "archive": ""}
    with pytest.raises(ConsortiumError, match=r"none\.sock"):
        NodeImageProvider().create({**props, "registry": None, "where": WHERE, "password": ""})
