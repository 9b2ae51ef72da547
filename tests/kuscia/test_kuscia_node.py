"""The node's container by the real Pulumi on a real engine. In it stands a program that only listens (stand_in.py)."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import docker
import docker.errors
import pytest
import yaml

from consortium.engine import engine_address
from consortium.joining import Wishes, join
from consortium.kuscia import keys
from consortium.workspace import PulumiFailed, Workspace
from testing.registry import Environment
from tests.kuscia.institution import joined, saved, settle
from tests.kuscia.kuscia_builders import DIGEST

Container = Any
pytestmark = [pytest.mark.docker, pytest.mark.pulumi, pytest.mark.long]

PROGRAM = """\
import pulumi, pulumi_docker as docker
from consortium.components.kuscia_node import KusciaNode, KusciaNodeModel
from consortium.components.network import Networks
from consortium.preflight import preflight
from consortium.stack import explained, load_stack

with explained():
    model, secrets = load_stack(pulumi.Config("consortium"))
    preflight(model, model.settings.image)
here = pulumi.ResourceOptions(providers={"docker": docker.Provider("engine", host=model.settings.engine)})
networks = Networks("networks", model, here)
node = KusciaNode("alice-kuscia", KusciaNodeModel(model, model.kuscia, secrets.kuscia, networks), here)
pulumi.export("id", node.id)
"""
"""The node alone: the head beside it needs a coordinator that reaches a real KusciaAPI."""


@pytest.fixture(scope="module")
def archive(engine: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    return saved(engine, tmp_path_factory.mktemp("archive"))


@pytest.fixture(scope="module")
def place(claimed: Environment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    with joined(claimed, tmp_path_factory.mktemp("alice")) as workspace:
        yield workspace


def private_lines(place: Workspace) -> list[str]:
    """A line of each key from its private part: the first ones are public, and stand in its certificate too."""
    shown = json.loads(place.pulumi("config", "--show-secrets", "--json", party="alice"))
    values = [entry["value"] for name, entry in shown.items() if entry["secret"]]
    pem = [value.splitlines()[-4] for value in values if "RSA PRIVATE KEY" in value]
    assert len(pem) == 2
    return pem


def test_an_image_that_is_nowhere_stops_up_before_anything_is_made(place: Workspace, base: str) -> None:
    settle(place, base)
    with pytest.raises(PulumiFailed) as caught:
        place.pulumi("up", "--yes", "--skip-preview", party="alice")
    said = str(caught.value)
    for words in (
        "the image is not on this engine",
        "settings.kuscia",
        "docker pull registry.example/kuscia@",
        "image_id",
    ):
        assert words in said
    assert "Traceback" not in said
    made = json.loads(place.pulumi("stack", "export", party="alice"))["deployment"]["resources"]
    assert [one["type"] for one in made] == ["pulumi:pulumi:Stack"]


def test_the_whole_institution_is_previewed_without_a_secret(place: Workspace, base: str) -> None:
    """With a registry the image may come yet: the real program says what would be made, and reaches nobody."""
    settle(place, base, registry={"endpoint": "registry.example"}, mariadb={"image": f"registry.example/db@{DIGEST}"})
    join(place, "alice", Wishes())
    said = place.pulumi("preview", "--diff", party="alice")
    for words in ("KusciaNode", "NodeImage", "alice-kuscia-db", "-desk", "alice-head", "Wiring", "DomainDataGrant"):
        assert words in said, said
    assert not [line for line in private_lines(place) if line in said]
    assert "alice-gateway" not in said
    assert "alice-worker" not in said


@pytest.fixture(scope="module")
def node(place: Workspace, base: str, archive: tuple[str, Path], engine: docker.DockerClient) -> Iterator[Container]:
    """Up from an archive, by a program with the component alone."""
    shutil.copy(archive[1], place.root / "kuscia.tar")
    (place.root / "__main__.py").write_text(PROGRAM)
    settle(place, base, image_id=archive[0], archive="kuscia.tar")
    try:
        place.pulumi("up", "--yes", "--skip-preview", party="alice")
        name = place.pulumi("stack", "output", "id", party="alice").strip()
        yield engine.containers.get(name)
    finally:
        place.pulumi("state", "unprotect", "--all", "--yes", party="alice")
        place.pulumi("destroy", "--yes", "--skip-preview", party="alice")
        with suppress(docker.errors.ImageNotFound):
            engine.images.remove(archive[0], force=True)


def test_the_node_is_limited_watched_and_has_one_port_to_the_outside(node: Container, claimed: Environment) -> None:
    node.reload()
    attrs = node.attrs
    assert attrs["State"]["Health"]["Status"] == "healthy"
    assert (attrs["HostConfig"]["Memory"], attrs["HostConfig"]["NanoCpus"]) == (512 * 2**20, 500_000_000)
    assert not attrs["HostConfig"]["Privileged"]
    assert attrs["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"
    published = {inside: there for inside, there in attrs["NetworkSettings"]["Ports"].items() if there}
    assert published == {"1080/tcp": [{"HostIp": engine_address(), "HostPort": str(claimed.gateway_ports["alice"])}]}
    socket.create_connection((engine_address(), claimed.gateway_ports["alice"]), timeout=5).close()


def test_its_file_holds_its_key_and_nobody_else_sees_it(node: Container, place: Workspace) -> None:
    code, mode = node.exec_run(["stat", "-c", "%a %U", "/home/kuscia/etc/conf/kuscia.yaml"])
    assert (code, mode.decode().strip()) == (0, "400 root")
    config = yaml.safe_load(node.exec_run(["cat", "/home/kuscia/etc/conf/kuscia.yaml"])[1])
    assert config["domainID"] == "alice"
    lines = private_lines(place)
    encoded = config["domainKeyData"]
    shown = json.dumps(node.attrs) + place.pulumi("stack", "export", party="alice")
    assert not [secret for secret in [*lines, encoded, keys.encoded(encoded)] if secret in shown]


def test_datasets_are_read_only_beside_what_the_image_brings(node: Container) -> None:
    folder = "/home/kuscia/var/storage/data"
    assert node.exec_run(["cat", f"{folder}/customers.csv"])[1] == b"id,age\n1,2\n"
    assert node.exec_run(["sh", "-c", f"echo x > {folder}/customers.csv"])[0] != 0
    assert node.exec_run(["sh", "-c", f"cat {folder}/sample && echo kept > {folder}/result.csv"])[0] == 0


def test_a_changed_setting_makes_the_container_anew_and_keeps_what_it_wrote(
    node: Container, place: Workspace, base: str, archive: tuple[str, Path], engine: docker.DockerClient
) -> None:
    said = place.pulumi("up", "--yes", "--skip-preview", party="alice")
    assert "unchanged" in said
    assert "replaced" not in said
    settle(place, base, image_id=archive[0], archive="kuscia.tar", log_level="DEBUG")
    place.pulumi("up", "--yes", "--skip-preview", party="alice")
    again = engine.containers.get(place.pulumi("stack", "output", "id", party="alice").strip())
    assert again.id != node.id
    assert yaml.safe_load(again.exec_run(["cat", "/home/kuscia/etc/conf/kuscia.yaml"])[1])["logLevel"] == "DEBUG"
    assert again.exec_run(["cat", "/home/kuscia/var/storage/data/result.csv"])[1] == b"kept\n"
