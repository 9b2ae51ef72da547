"""Brings an image to a container engine: it is there, or comes from an archive of `docker save`, or from a registry.

Look, decide and act are apart. What arrives is compared with what was asked for: a digest or an id, never a tag.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import docker
import docker.errors

from consortium.errors import ConsortiumError, Problem, Refused
from consortium.kuscia.settings import Image, Registry
from consortium.spec import Model

_PIECE = 1 << 20
_LARGEST_INDEX = 1_000_000
"""Bytes; manifest.json and index.json of an archive say a few lines per layer."""


class NotToBeHad(ConsortiumError):
    """The image is not on the engine, and cannot be brought there."""


class Step(StrEnum):
    """What is to be done."""

    NOTHING = "nothing"
    LOAD = "load"
    PULL = "pull"
    GIVE_UP = "give up"


@dataclass(frozen=True)
class Wanted:
    """An image, and whence it may come. `where` its settings are."""

    reference: str
    name: str
    archive: Path | None
    registry: Registry | None
    where: str
    password: str = field(default="", repr=False)

    @classmethod
    def of(cls, image: Image, registry: Registry | None, workspace: Path, where: str, password: str = "") -> Wanted:
        """By the settings. `archive` is relative to the workspace."""
        archive = (workspace / image.archive).resolve() if image.archive else None
        at = registry if registry and image.image.startswith(f"{registry.endpoint.partition('/')[0]}/") else None
        return cls(image.reference, image.image, archive, at, where, password)


NODE, DATABASE = "kuscia", "mariadb"


def wanted_images(model: Model, password: str = "") -> dict[str, Wanted]:
    """NODE, and DATABASE where one is made; none in Ray mode. `password`: of the registry."""
    if model.kuscia is None:
        return {}
    where = f"stacks/Pulumi.{model.party}.yaml: consortium:settings.kuscia"
    given: dict[str, tuple[Image, str]] = {NODE: (model.kuscia, where)}
    if model.kuscia.mariadb:
        given[DATABASE] = (model.kuscia.mariadb, f"{where}.mariadb")
    return {
        what: Wanted.of(image, model.kuscia.registry, model.workspace, field, password)
        for what, (image, field) in given.items()
    }


def image_problems(engine: docker.DockerClient, model: Model) -> Iterator[Problem]:
    """What would keep the images from coming, as far as it can be seen without bringing them."""
    for wanted in wanted_images(model).values():
        step = decide(is_there(engine, wanted), wanted)
        if step is Step.LOAD:
            yield from _of_archive(wanted)
        if step is Step.GIVE_UP:
            yield _problem(missing(wanted))


def archive_problems(model: Model) -> Iterator[Problem]:
    """Of archives for hosts: which of them lack the image is seen later, but a wrong one is never brought."""
    for wanted in wanted_images(model).values():
        if wanted.archive and wanted.archive.exists():
            yield from _of_archive(wanted)


def _of_archive(wanted: Wanted) -> Iterator[Problem]:
    try:
        check_archive(wanted)
    except NotToBeHad as error:
        yield _problem(error)


def _problem(error: NotToBeHad) -> Problem:
    return Problem(error.what, where=error.where, value=error.value, allowed=error.allowed, fix=error.fix)


def decide(there: bool, wanted: Wanted) -> Step:
    """What brings the image: an archive before a registry, since it was given for a machine that reaches none."""
    if there:
        return Step.NOTHING
    if wanted.archive:
        return Step.LOAD
    return Step.PULL if wanted.registry else Step.GIVE_UP


def is_there(engine: docker.DockerClient, wanted: Wanted) -> bool:
    """Whether the engine has the image. Raises docker's errors."""
    try:
        engine.images.get(wanted.reference)
    except docker.errors.ImageNotFound:
        return False
    return True


def bring(engine: docker.DockerClient, wanted: Wanted, tell: Callable[[str], None] = lambda line: None) -> str:
    """The image's id on the engine, once it is there. Raises NotToBeHad, Refused, docker's errors."""
    step = decide(is_there(engine, wanted), wanted)
    if step is Step.GIVE_UP:
        raise missing(wanted)
    if step is Step.LOAD:
        assert wanted.archive
        check_archive(wanted)
        tell(f"loading {wanted.archive.name}")
        with wanted.archive.open("rb") as file:
            engine.images.load(file)
    if step is Step.PULL:
        _pull(engine, wanted, tell)
    try:
        return str(engine.images.get(wanted.reference).id)
    except docker.errors.ImageNotFound as error:
        raise NotToBeHad(
            "what came is another image than the one asked for",
            where=wanted.where,
            value=wanted.reference,
            fix="correct digest or id: both stand in what the image's publisher says",
        ) from error


def missing(wanted: Wanted) -> NotToBeHad:
    """The error for an image that is nowhere, with every way to bring it."""
    host = wanted.name.partition("/")[0]
    return NotToBeHad(
        "the image is not on this engine, and no setting says whence to fetch it",
        where=wanted.where,
        value=wanted.reference,
        fix=f"either `registry`, if the engine reaches {host}; or, on a machine that does, `docker pull {wanted.name}` "
        f"and `docker save -o image.tar {wanted.name}`, bring the file here, and set `archive: image.tar` and "
        "`image_id` (`docker image inspect --format '{{.Id}}' …`)",
    )


def check_archive(wanted: Wanted) -> None:
    """Nothing is loaded that is not what was asked for. Raises NotToBeHad for a wrong, damaged or missing archive."""
    path = wanted.archive
    assert path
    where = f"{wanted.where}.archive"
    try:
        found = _ids(path)
    except FileNotFoundError as error:
        fix = "bring it here, or correct the path (relative to the workspace)"
        raise NotToBeHad("the archive is missing", where=where, value=str(path), fix=fix) from error
    except (OSError, tarfile.TarError, ValueError, KeyError, TypeError) as error:
        raise NotToBeHad(
            "this is no archive of an image", where=where, value=f"{path}: {error}", allowed="a file of `docker save`"
        ) from error
    if wanted.reference not in found:
        raise NotToBeHad(
            "the archive holds another image",
            where=where,
            value=f"{path}: {', '.join(sorted(found)) or 'none that is whole'}",
            allowed=wanted.reference,
            fix="the right archive; or, if it is the right one, correct `image_id`",
        )


def _ids(path: Path) -> set[str]:
    """The ids of the images in an archive whose configuration has the digest that it is named by.

    An engine calls an image by the digest of its configuration, one with containerd's store by that of its manifest.
    """
    with tarfile.open(path) as tar:
        ids = {f"sha256:{_digest(tar, one['Config'])}" for one in _json(tar, "manifest.json")}
        try:
            index = _json(tar, "index.json")
        except KeyError:
            return ids
        named = {str(one["digest"]) for one in index.get("manifests", [])}
        return ids | {d for d in named if _digest(tar, f"blobs/{d.replace(':', '/')}") == d.removeprefix("sha256:")}


def _json(tar: tarfile.TarFile, name: str) -> Any:
    member = tar.getmember(name)
    file = tar.extractfile(member)
    if file is None or member.size > _LARGEST_INDEX:
        raise ValueError(f"{name} is no file of an image")
    return json.load(file)


def _digest(tar: tarfile.TarFile, name: str) -> str:
    file = tar.extractfile(tar.getmember(name))
    if file is None:
        raise ValueError(f"{name} is no file")
    digest = hashlib.sha256()
    while piece := file.read(_PIECE):
        digest.update(piece)
    return digest.hexdigest()


def _pull(engine: docker.DockerClient, wanted: Wanted, tell: Callable[[str], None]) -> None:
    registry = wanted.registry
    assert registry
    login = {"username": registry.username, "password": wanted.password} if registry.username else None
    repository, digest = wanted.name.split("@")
    try:
        for event in engine.api.pull(repository, tag=digest, stream=True, decode=True, auth_config=login):
            if event.get("error"):
                raise _refused(wanted, str(event["error"]))
            _progress(event, tell)
    except docker.errors.APIError as error:
        raise _refused(wanted, str(error.explanation or error)) from error


def _progress(event: Mapping[str, Any], tell: Callable[[str], None]) -> None:
    if words := " ".join(str(event[key]) for key in ("id", "status", "progress") if event.get(key)):
        tell(words)


def _refused(wanted: Wanted, said: str) -> Refused:
    assert wanted.registry
    host = wanted.registry.endpoint.partition("/")[0]
    return Refused(
        "the engine cannot fetch the image",
        where=wanted.where,
        value=f"{wanted.name}: {said[:1000]}",
        fix=f"the engine's machine must reach {host}; the user's password: consortium kuscia password registry; or "
        "bring it by hand: `archive`",
    )
