"""A real MariaDB beside the node, made by the real Pulumi: the node's own settings let it in, and nobody else."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import docker
import docker.errors
import pytest
import yaml

from consortium.joining import Wishes, join
from consortium.workspace import Workspace
from testing.registry import Environment
from tests.kuscia import database_image
from tests.kuscia.institution import joined, saved, settle
from tests.kuscia.kuscia_builders import DIGEST
from tests.kuscia.test_kuscia_node import PROGRAM

pytestmark = [pytest.mark.docker, pytest.mark.pulumi, pytest.mark.long]
IMAGE = "consortium-test-mariadb:1"


@dataclass(frozen=True)
class Beside:
    """What `up` made. `dsn`: what Kuscia is told, as an address."""

    engine: docker.DockerClient
    database: Any
    network: str
    dsn: Any
    place: Workspace

    def ask(self, sql: str, *, user: str = "", password: str | None = None) -> tuple[int, str]:
        """SQL as the node would send it: from a container beside it, over the inside network."""
        given = self.dsn.password if password is None else password
        command = ["mariadb", "--batch", "-h", self.dsn.host, "-P", self.dsn.port, "-u", user or self.dsn.user]
        container = self.engine.containers.run(
            IMAGE,
            [*command, "-e", sql, self.dsn.database],
            entrypoint=[],
            environment={"MYSQL_PWD": given},
            network=self.network,
            detach=True,
        )
        try:
            return container.wait(timeout=60)["StatusCode"], container.logs().decode()
        finally:
            container.remove(force=True)

    def healthy(self) -> bool:
        self.database.reload()
        return bool(self.database.attrs["State"]["Health"]["Status"] == "healthy")


@dataclass(frozen=True)
class Dsn:
    user: str
    password: str
    host: str
    port: str
    database: str


def dsn(text: str) -> Dsn:
    """Go's form: `mysql://user:password@tcp(host:port)/database`."""
    found = urlsplit(text.replace("tcp(", "").replace(")", ""))
    assert found.username
    assert found.password
    assert found.hostname
    return Dsn(found.username, found.password, found.hostname, str(found.port), found.path.strip("/"))


@pytest.fixture(scope="module")
def beside(
    claimed: Environment, base: str, engine: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Beside]:
    with joined(claimed, tmp_path_factory.mktemp("alice")) as place:
        image, archive = saved(engine, tmp_path_factory.mktemp("archive"))
        shutil.copy(archive, place.root / "kuscia.tar")
        (place.root / "__main__.py").write_text(PROGRAM)
        mariadb = {
            "image": f"registry.example/mariadb@{DIGEST}",
            "image_id": database_image.build(engine, base, IMAGE),
            "memory_mb": 512,
        }
        settle(place, base, image_id=image, archive="kuscia.tar", mariadb=mariadb)
        join(place, "alice", Wishes())
        try:
            place.pulumi("up", "--yes", "--skip-preview", party="alice")
            node = engine.containers.get(place.pulumi("stack", "output", "id", party="alice").strip())
            config = yaml.safe_load(node.exec_run(["cat", "/home/kuscia/etc/conf/kuscia.yaml"])[1])
            there = dsn(config["datastoreEndpoint"])
            (database,) = engine.containers.list(
                filters={"label": [f"consortium.name={claimed.name}", "consortium.role=kuscia-db"]}
            )
            (network,) = database.attrs["NetworkSettings"]["Networks"]
            yield Beside(engine, database, network, there, place)
        finally:
            place.pulumi("state", "unprotect", "--all", "--yes", party="alice")
            place.pulumi("destroy", "--yes", "--skip-preview", party="alice")
            with suppress(docker.errors.ImageNotFound):
                engine.images.remove(image, force=True)


def test_up_waits_until_it_answers(beside: Beside) -> None:
    assert beside.healthy()


def test_what_kuscia_is_told_lets_it_in_and_its_tables_last(beside: Beside) -> None:
    assert beside.ask("CREATE TABLE jobs (id INT); INSERT INTO jobs VALUES (7)") == (0, "")
    beside.database.restart()
    end = time.monotonic() + 60
    while not beside.healthy():
        assert time.monotonic() < end
        time.sleep(1)
    assert beside.ask("SELECT id FROM jobs") == (0, "id\n7\n")


@pytest.mark.parametrize("who", [{"password": "wrong"}, {"user": "root", "password": ""}, {"user": "root"}], ids=str)
def test_nobody_else_comes_in(beside: Beside, who: dict[str, str]) -> None:
    code, said = beside.ask("SELECT 1", **who)
    assert code != 0
    assert "Access denied" in said or "not allowed to connect" in said


def test_it_is_limited_and_has_no_port_to_the_outside(beside: Beside) -> None:
    attrs = beside.database.attrs
    assert not {inside: there for inside, there in attrs["NetworkSettings"]["Ports"].items() if there}
    assert (attrs["HostConfig"]["Memory"], attrs["HostConfig"]["Privileged"]) == (512 * 2**20, False)
    assert beside.engine.networks.get(beside.network).attrs["Internal"]


def test_its_password_stands_nowhere_in_clear(beside: Beside) -> None:
    shown = json.dumps(beside.database.attrs) + beside.place.pulumi("stack", "export", party="alice")
    said = beside.database.logs().decode()
    arguments = beside.database.exec_run(["sh", "-c", "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ"], user="root")[1]
    assert beside.dsn.password not in shown + said + arguments.decode(errors="replace")
