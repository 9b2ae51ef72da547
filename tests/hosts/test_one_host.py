"""The roles on one real host, over SSH and sudo: what they find wrong they name, and what is right they leave alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import docker
import pytest

from consortium.ansible import AnsibleFailed, Summary, run_playbook
from consortium.converge import _inventory
from consortium.nodefiles import Secrets, files_for, hosts_of
from consortium.reach import Reach, on_hosts, play
from tests import builders
from tests.hosts.machine import USER, Machine, SshKey

NODE = "alice-gateway"


@dataclass
class Host:
    """A gateway's host, and the plays on it."""

    machine: Machine
    key: str
    secrets: Secrets = field(default_factory=builders.secrets, repr=False)

    def run(self, *, check: bool = False, leave: bool = False, **variables: Any) -> Summary:
        settings = builders.on_hosts(ssh={"user": USER, "gateway": self.machine.settings()})
        model = builders.model(settings=settings)
        whole = on_hosts(model, self.key)
        reach = Reach(
            targets={NODE: whole.targets[NODE]},
            variables={NODE: {**whole.variables[NODE], **variables}},
            downloads=whole.downloads,
        )
        node = next(host for host in hosts_of(model) if host.name == NODE)
        files = [file.as_variables() for file in files_for(model, self.secrets, node)]
        payload = json.dumps({NODE: {"group": "gateway", "base_files": files}})
        with play(reach, {}, self.key, leave=leave) as run:
            inventory = _inventory(payload, run.variables)
            return run_playbook(run.playbook, inventory, private_files=run.private_files, check=check)


@pytest.fixture(scope="module")
def host(engine: docker.DockerClient, machine_image: str, ssh_key: SshKey) -> Iterator[Host]:
    machine = Machine(engine, machine_image, ssh_key.public)
    made = Host(machine, ssh_key.private)
    made.run()
    yield made
    machine.remove()


def test_a_second_run_changes_nothing(host: Host) -> None:
    assert host.run().changes == {}


def test_envoy_runs_hardened_behind_its_firewall(host: Host) -> None:
    assert host.machine.sh("/usr/local/bin/node-health").strip() == "healthy"
    owner, *_ = host.machine.sh("ps -o user:20= -C envoy").split()
    assert owner == "gateway"
    said = host.machine.sh("systemctl show consortium-gateway -p NoNewPrivileges -p ProtectSystem -p MemoryMax")
    assert set(said.split()) == {"NoNewPrivileges=yes", "ProtectSystem=strict", f"MemoryMax={256 * 1024 * 1024}"}
    assert "policy drop" in host.machine.sh("nft list table inet consortium")


def test_drift_is_named_and_mended(host: Host) -> None:
    host.machine.sh("echo strange >> /etc/consortium/health.json && nft delete table inet consortium")
    host.machine.sh("systemctl stop consortium-gateway")
    found = host.run(check=True).changes[NODE]
    assert list(found) == [
        "Lay the files of this node",
        "See whether the firewall is in force as it was loaded",
        "Keep the unit up, gateway",
    ]
    host.run()
    host.machine.sh("/usr/local/sbin/consortium-firewall check")
    assert host.machine.sh("/usr/local/bin/node-health").strip() == "healthy"


def test_a_clock_that_nobody_keeps_is_named(host: Host) -> None:
    host.machine.sh("mv /etc/chrony/chrony.conf /root && echo > /etc/chrony/chrony.conf && systemctl restart chrony")
    try:
        with pytest.raises(AnsibleFailed) as caught:
            host.run(check=True)
        assert "the clock of alice-gateway cannot be trusted" in caught.value.value
    finally:
        host.machine.sh("mv /root/chrony.conf /etc/chrony/ && systemctl restart chrony")


def test_a_dataset_that_ray_cannot_read_is_named(host: Host) -> None:
    host.machine.sh("mkdir -p /srv/consortium && echo a > /srv/consortium/a.csv && chmod 600 /srv/consortium/a.csv")
    with pytest.raises(AnsibleFailed) as caught:
        host.run(check=True, host_datasets={"a": "/srv/consortium/a.csv"})
    assert "/srv/consortium/a.csv on alice-gateway is no file that the user ray can read" in caught.value.value


def test_a_system_that_was_never_tried_is_refused(host: Host) -> None:
    with pytest.raises(AnsibleFailed) as caught:
        host.run(check=True, host_systems={"debian-11": {"packages": [], "python": ""}})
    assert "alice-gateway is debian-12" in caught.value.value


def test_leaving_takes_services_and_keys_away(host: Host) -> None:
    host.run(leave=True)
    assert host.machine.sh("systemctl list-units --no-legend 'consortium-*'").strip() == ""
    assert host.machine.run("nft", "list", "table", "inet", "consortium")[0] != 0
    assert host.machine.sh("find /etc/consortium/gateway /etc/consortium/.pending -type f 2>/dev/null || true") == ""
    assert host.machine.sh("ls -d /var/log/consortium/access").strip(), "logs stay"
