"""`engine: ssh://…`: the container engine of another machine, as preflight, the docker plugin and Ansible reach it."""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import pytest

from airgap.pulumi_resource_docker.daemon import Daemon
from consortium import reach
from consortium.ansible import run_playbook
from consortium.engine_socket import local
from consortium.errors import Unreachable
from testing import Consortium, Party
from testing.automation import OnOutput
from testing.registry import Environment
from tests.hosts.machine import Machine, SshKey, make_ssh_key

Way = Callable[..., str]


@pytest.fixture(scope="module")
def engines_machine(engine: docker.DockerClient, machine_image: str, ssh_key: SshKey) -> Iterator[Machine]:
    """A machine with an engine: the socket of this one, behind an sshd of its own."""
    made = Machine(engine, machine_image, ssh_key.public, volumes={"/var/run/docker.sock": "/var/run/docker.sock"})
    yield made
    made.remove()


@pytest.fixture
def way(engines_machine: Machine, ssh_key: SshKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Way:
    """Configures ssh as an operator would, and returns the engine's address; `known` is what he knows of the host."""

    def configure(known: str | None = None) -> str:
        key, hosts, config = tmp_path / "key", tmp_path / "known_hosts", tmp_path / "config"
        key.write_text(ssh_key.private)
        key.chmod(0o600)
        hosts.write_text(f"{engines_machine.address} {known or engines_machine.host_key}\n")
        config.write_text(f"IdentityFile {key}\nUserKnownHostsFile {hosts}\nIdentitiesOnly yes\n")
        # ssh looks for its configuration in the user's home and takes no other word for where that is.
        program = tmp_path / "bin" / "ssh"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {config} "$@"\n')
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
        return f"ssh://root@{engines_machine.address}"

    return configure


def test_an_engine_behind_ssh_is_a_socket_here_for_a_while(way: Way, engine: docker.DockerClient) -> None:
    with local(way()) as address:
        socket = Path(address.removeprefix("unix://"))
        assert docker.DockerClient(base_url=address).info()["ID"] == engine.info()["ID"]
        assert stat.S_IMODE(socket.stat().st_mode) & 0o077 == 0
    assert not socket.exists()


def test_a_host_that_ssh_does_not_know_is_not_spoken_to(way: Way) -> None:

    with pytest.raises(Unreachable, match="does not answer over SSH") as caught, local(way(make_ssh_key().public)):
        pass
    assert "verification failed" in caught.value.value


def test_the_docker_plugin_reaches_it(way: Way, engine: docker.DockerClient) -> None:
    daemon = Daemon({"host": way()})
    assert daemon.client.info()["ID"] == engine.info()["ID"]


def test_ansible_reaches_a_container_there(way: Way, one_machine: Machine, tmp_path: Path) -> None:
    playbook = tmp_path / "ask.yml"
    playbook.write_text("- hosts: all\n  gather_facts: false\n  tasks: [{ansible.builtin.command: hostname}]\n")
    there = reach.Reach(engine=way())
    with reach.play(there, {"node": str(one_machine.container.id)}, "") as run:
        done = run_playbook(playbook, {"head": run.variables}, env=run.environment)
    assert done.changed == 1


class OnPaper(Party):
    """A party whose documents are there, and nothing else."""

    def up(self, _on_output: OnOutput = lambda line: None) -> dict[str, str]:
        return {}

    def down(self, _on_output: OnOutput = lambda line: None) -> None:
        pass


class OnlyAlice(Consortium):
    """As `Consortium`, but bob stays on paper."""

    def adopt(self, environment: Environment) -> dict[str, Party]:
        self._environment = environment
        self.parties.setdefault("bob", OnPaper(self, "bob", environment.operator_ports["bob"]))
        return super().adopt(environment)

    def wait_until_connected(self, timeout_s: float = 180) -> None:
        self.party("alice").coordinator.wait("/status", lambda _: True, timeout_s, "an answer of alice")


def test_a_whole_institution_is_made_there_and_taken_away(way: Way) -> None:
    settings = {"alice": {"engine": way()}}
    with OnlyAlice(2, workers=0, slots=1, settings=settings) as made:
        alice = made.party("alice")
        assert {node.name for node in alice.nodes} == {"alice-head", "alice-gateway"}
        assert all(node.container.status == "running" for node in alice.nodes)
        assert alice.model.settings.engine.startswith("ssh://")
        said = alice.workspace.pulumi("up", "--yes", "--skip-preview", party="alice")
        assert re.search(r"\b\d+ unchanged", said), said
        assert not re.search(r"created|updated|replaced|deleted", said), said


def test_other_engines_are_left_as_they_are() -> None:
    with local("unix:///var/run/docker.sock") as address:
        assert address == "unix:///var/run/docker.sock"
