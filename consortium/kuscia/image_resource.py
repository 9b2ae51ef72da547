"""An image on a container engine as a Pulumi resource. It is brought, checked and noted; never removed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import docker
import docker.errors
import pulumi
import requests
from pulumi.dynamic import CreateResult, DiffResult, ReadResult, Resource, ResourceProvider, UpdateResult

from consortium import engine_socket
from consortium.errors import Unreachable
from consortium.kuscia.image import Wanted, bring, is_there
from consortium.kuscia.settings import Registry

TIMEOUT_S = 1800
"""Of one request to the engine: loading an image of gigabytes is one."""


class NodeImageProvider(ResourceProvider):
    """Whence an image comes may change; it is the same image."""

    serialize_as_secret_always = False  # it captures no secret

    def create(self, props: dict[str, Any]) -> CreateResult:
        return CreateResult(id_=props["reference"], outs=_brought(props))

    def update(self, _id: str, _olds: dict[str, Any], news: dict[str, Any]) -> UpdateResult:
        return UpdateResult(outs=_brought(news))

    def diff(self, _id: str, olds: dict[str, Any], news: dict[str, Any]) -> DiffResult:
        changed = not olds.get("image_id") or any(olds.get(key) != news[key] for key in ("engine", "reference"))
        return DiffResult(changes=changed, replaces=[], stables=[], delete_before_replace=False)

    def read(self, id_: str, props: dict[str, Any]) -> ReadResult:
        """An image that is gone is brought again by the next `up`."""
        with _client(props["engine"]) as client:
            there = is_there(client, _wanted(props))
        return ReadResult(id_, props if there else {**props, "image_id": ""})


def _brought(props: dict[str, Any]) -> dict[str, Any]:
    with _client(props["engine"]) as client:
        return {**props, "image_id": bring(client, _wanted(props))}


def _wanted(props: dict[str, Any]) -> Wanted:
    known = props.get("registry")  # Pulumi leaves out what is null
    return Wanted(
        reference=props["reference"],
        name=props["name"],
        archive=Path(props["archive"]) if props["archive"] else None,
        registry=Registry(**known) if known else None,
        where=props["where"],
        password=props["password"],
    )


@contextmanager
def _client(engine: str) -> Iterator[docker.DockerClient]:
    try:
        with engine_socket.local(engine) as address:
            yield docker.DockerClient(base_url=address, timeout=TIMEOUT_S)
    except (docker.errors.DockerException, requests.RequestException) as error:
        raise Unreachable("the container engine does not do it", where=engine, value=str(error)) from error


class NodeImage(Resource, module="consortium", name="NodeImage"):
    """`image_id`: what the engine calls it, once it is there."""

    image_id: pulumi.Output[str]

    def __init__(self, name: str, engine: str, wanted: Wanted, opts: pulumi.ResourceOptions) -> None:
        props = asdict(wanted)
        props["registry"] = wanted.registry.model_dump() if wanted.registry else None
        props["archive"] = str(wanted.archive) if wanted.archive else ""
        props["password"] = pulumi.Output.secret(wanted.password)
        super().__init__(NodeImageProvider(), name, {**props, "engine": engine, "image_id": None}, opts)
