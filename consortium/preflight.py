"""Looks at the machine before anything is made, and reports everything that would fail in one message."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator

import docker
import docker.errors
import requests

from consortium import engine_socket
from consortium.errors import Problem, Problems, Unreachable
from consortium.kuscia.image import archive_problems, image_problems
from consortium.spec import Model


class PreflightFailed(Problems):
    """This machine is not ready; nothing was changed."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__(f"{len(problems)} thing(s) to mend before anything is made", problems)


def preflight(model: Model, image: str) -> None:
    """Check engine, image, ports and datasets; of hosts this machine can only ask them themselves, later.

    Raises PreflightFailed naming every problem.
    """
    on_hosts = model.settings.placement == "ssh"
    problems = [*archive_problems(model)] if on_hosts else [*_datasets(model), *_engine(model, image)]
    if problems:
        raise PreflightFailed(problems)


def _datasets(model: Model) -> Iterator[Problem]:
    if not model.settings.engine.startswith("unix:"):
        return  # they lie on the engine's machine
    for name, path in model.dataset_paths().items():
        if not path.is_file():
            yield Problem(
                "the file of a dataset is missing",
                where=f"stacks/Pulumi.{model.party}.yaml: consortium:settings.datasets.{name}.path",
                value=str(path),
                fix="put the file there, or correct the path (relative to the workspace)",
            )


def _engine(model: Model, image: str) -> Iterator[Problem]:
    where = f"stacks/Pulumi.{model.party}.yaml: consortium:settings.engine"
    try:
        with engine_socket.local(model.settings.engine) as address:
            yield from _answering(model, image, docker.DockerClient(base_url=address, timeout=20))
    except (docker.errors.DockerException, requests.RequestException, Unreachable) as error:
        yield Problem(
            "the container engine does not answer",
            where=where,
            value=f"{model.settings.engine}: {error}",
            fix="start it (`systemctl start docker`), or correct the address; this user must be in group docker",
        )


def _answering(model: Model, image: str, engine: docker.DockerClient) -> Iterator[Problem]:
    engine.ping()
    try:
        engine.images.get(image)
    except docker.errors.ImageNotFound:
        yield Problem(
            "the node image is not on this engine",
            where=f"stacks/Pulumi.{model.party}.yaml: consortium:settings.image",
            value=image,
            fix="consortium image bake",
        )
    yield from image_problems(engine, model)
    if model.settings.engine.startswith("unix:"):
        yield from _ports(model, engine)


def _ports(model: Model, engine: docker.DockerClient) -> Iterator[Problem]:
    """A port that our own gateway already holds is not in use by somebody else."""
    ours = {
        (binding["HostIp"], int(binding["HostPort"]))
        for container in engine.containers.list(
            ignore_removed=True,
            filters={"label": [f"consortium.name={model.consortium.name}", f"consortium.party={model.party}"]},
        )
        for bindings in container.ports.values()
        for binding in bindings or []
    }
    for field, listen in (("gateway", model.settings.gateway), ("operator", model.settings.operator)):
        if (listen.bind, listen.port) in ours:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((listen.bind, listen.port))
            except OSError as error:
                in_use = error.errno == errno.EADDRINUSE
                yield Problem(
                    "a port is in use" if in_use else "an address cannot be bound here",
                    where=f"stacks/Pulumi.{model.party}.yaml: consortium:settings.{field}",
                    value=f"{listen.bind}:{listen.port} ({error.strerror})",
                    fix=f"end what listens there (`ss -ltnp 'sport = :{listen.port}'`), or choose another port"
                    if in_use
                    else "use an address of this machine (`ip -brief address`)",
                )
