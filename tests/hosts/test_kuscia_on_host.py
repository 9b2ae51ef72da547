"""A Kuscia node on a host, with an engine of its own: installed, loaded, started and kept up by the real play.

In the node stands a program that only listens on Kuscia's ports (tests/kuscia/stand_in.py).
"""

from __future__ import annotations

import json
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker
import pytest

from consortium.ansible import AnsibleFailed, Summary, run_playbook
from consortium.converge import _inventory
from consortium.nodefiles import Secrets
from consortium.reach import on_hosts, play
from tests.hosts.machine import USER, Machine, SshKey
from tests.hosts.test_kuscia_host import PUBLIC, files, model, secrets
from tests.kuscia.institution import saved

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]
UNIT, NODE, DATA = "consortium-kuscia", "consortium-kuscia", "/home/kuscia/var/storage/data"


@dataclass
class Host:
    """The one host of an institution, and the plays on it."""

    machine: Machine
    key: str
    image_id: str
    archive: Path
    known: Secrets = field(default_factory=secrets, repr=False)

    def run(self, *, leave: bool = False, cpus: float = 0.5, **changed: Any) -> Summary:
        node = {"image_id": self.image_id, "archive": "kuscia.tar", **changed}
        limits = {"kuscia": {"memory_mb": 512, "cpus": cpus}}
        ssh = {"user": USER, "admin_from": ["0.0.0.0/0"]}
        of = model(self.machine.settings(), ssh, node=node, resources=limits)
        reach = on_hosts(of, self.key)
        reach.variables["alice-head"]["kuscia_archive"] = str(self.archive)
        payload = {
            "alice-head": {"group": "head", "base_files": [f.as_variables() for f in files(of, self.known).values()]}
        }
        with play(reach, {}, self.key, leave=leave) as run:
            inventory = _inventory(json.dumps(payload), run.variables)
            return run_playbook(run.playbook, inventory, private_files=run.private_files)

    def reaches(self, port: int) -> bool:
        """Whether somebody from outside the host gets a connection."""
        try:
            socket.create_connection((self.machine.address, port), timeout=3).close()
        except OSError:
            return False
        return True

    def container(self) -> dict[str, Any]:
        return dict(json.loads(self.machine.sh(f"docker inspect {NODE}"))[0])

    def inside(self, script: str) -> tuple[int, str]:
        return self.machine.run("docker", "exec", NODE, "sh", "-c", script)


def within(seconds: float, what: Callable[[], bool]) -> bool:
    end = time.monotonic() + seconds
    while not (there := what()) and time.monotonic() < end:
        time.sleep(0.3)
    return there


@pytest.fixture(scope="module")
def host(
    engine: docker.DockerClient, machine_image: str, ssh_key: SshKey, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Host]:
    image_id, archive = saved(engine, tmp_path_factory.mktemp("archive"))
    # An engine's layers cannot lie on those of the engine around it.
    volume = engine.volumes.create(f"machine-engine-{uuid.uuid4().hex[:8]}", labels={"consortium.test-machine": "data"})
    try:
        store = {volume.name: "/var/lib/docker"}
        machine = Machine(engine, machine_image, ssh_key.public, volumes=store, capabilities=["SYS_PTRACE"])
        try:
            machine.sh('mkdir -p /srv/consortium && echo id,age > "/srv/consortium/cust\'omers,1.csv"')
            made = Host(machine, ssh_key.private, image_id, archive)
            made.run()
            yield made
        finally:
            machine.remove()
    finally:
        volume.remove()


def test_the_node_runs_from_the_archive_with_its_limits(host: Host) -> None:
    attrs = host.container()
    assert (attrs["Image"], attrs["State"]["Running"]) == (host.image_id, True)
    limits = (attrs["HostConfig"]["Memory"], attrs["HostConfig"]["MemorySwap"], attrs["HostConfig"]["NanoCpus"])
    assert limits == (512 * 2**20, 512 * 2**20, 500_000_000)
    assert (attrs["HostConfig"]["Privileged"], attrs["HostConfig"]["CapAdd"]) == (False, ["SYS_PTRACE"])
    assert host.machine.run("test", "-e", "/var/tmp/consortium-kuscia.tar")[0] != 0, "the archive is not needed there"


def test_peers_reach_its_door_and_nobody_kusciaapi(host: Host) -> None:
    assert host.reaches(PUBLIC["port"])
    assert not host.reaches(8082)
    host.machine.sh("python3 -c \"import socket; socket.create_connection(('127.0.0.1', 8082), 3)\"")


def test_it_sees_its_file_and_its_data_and_keeps_what_it_writes(host: Host) -> None:
    assert host.inside(f"cat {DATA}/customers.csv") == (0, "id,age\n")
    assert host.inside(f"echo x > {DATA}/customers.csv")[0] != 0
    assert host.inside("grep -c '^domainID: alice' /home/kuscia/etc/conf/kuscia.yaml") == (0, "1\n")
    assert host.inside(f"echo kept > {DATA}/result.csv")[0] == 0
    assert host.machine.sh("cat /var/lib/consortium-kuscia/storage/data/result.csv") == "kept\n"


def test_a_second_run_changes_nothing(host: Host) -> None:
    before = host.container()["Id"]
    assert host.run().changes == {}
    assert host.container()["Id"] == before


def test_a_node_that_was_killed_comes_back(host: Host) -> None:
    before = host.container()["Id"]
    host.machine.sh(f"docker kill {NODE}")
    assert within(30, lambda: host.machine.run("docker", "inspect", NODE)[0] == 0 and host.container()["Id"] != before)
    assert within(10, lambda: host.inside(f"cat {DATA}/result.csv") == (0, "kept\n"))


def test_a_changed_setting_starts_it_anew(host: Host) -> None:
    before = host.container()["Id"]
    assert host.run(log_level="DEBUG").changes != {}
    assert host.container()["Id"] != before
    assert host.inside("grep -c 'logLevel: DEBUG' /home/kuscia/etc/conf/kuscia.yaml") == (0, "1\n")


def test_what_the_engine_refuses_is_said_and_mended_by_the_next_run(host: Host) -> None:
    with pytest.raises(AnsibleFailed, match=r"does not stay up: .*Range of CPUs"):
        host.run(cpus=1000)
    host.run()
    assert host.container()["State"]["Running"]
    assert "WARNING" not in host.machine.sh("journalctl --namespace=consortium --identifier=kuscia --output=cat")


def test_leaving_takes_the_node_and_its_keys_and_leaves_its_data(host: Host) -> None:
    host.run(leave=True)
    assert host.machine.run("docker", "inspect", NODE)[0] != 0
    assert host.machine.sh("systemctl list-units --no-legend 'consortium-*'").strip() == ""
    assert host.machine.run("test", "-e", "/etc/consortium/secrets/kuscia.yaml")[0] != 0
    assert host.machine.sh("cat /var/lib/consortium-kuscia/storage/data/result.csv") == "kept\n"
