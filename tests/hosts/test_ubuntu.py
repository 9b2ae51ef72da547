"""Ubuntu as a host, from bare to a gateway that answers: `make ubuntu-test`. It takes minutes, and Ubuntu's archive."""

from __future__ import annotations

from collections.abc import Iterator

import docker
import pytest

from consortium.host_files import services_of
from consortium.nodefiles import files_for, hosts_of
from tests import builders
from tests.hosts import ubuntu
from tests.hosts.machine import Machine, SshKey
from tests.hosts.test_host_files import model
from tests.hosts.test_one_host import Host

pytestmark = [pytest.mark.ubuntu, pytest.mark.timeout(1800)]
BROUGHT = "/usr/bin/python3.11"
"""What an operator of 24.04 brings: that distribution has no CPython 3.11."""


@pytest.fixture(scope="module", params=sorted(ubuntu.SUITES))
def bare(request: pytest.FixtureRequest, engine: docker.DockerClient, ssh_key: SshKey) -> Iterator[Machine]:
    made = Machine(engine, ubuntu.machine_image(engine, request.param), ssh_key.public)
    if request.param == "24.04":
        bring_python(engine, made)
    yield made
    made.remove()


def bring_python(engine: docker.DockerClient, to: Machine) -> None:
    """That of 22.04, beside the distribution's own; what it needs besides is there."""
    packages = "python3.11 python3.11-minimal libpython3.11-minimal libpython3.11-stdlib"
    script = f"apt-get update -q && cd /var/tmp && apt-get download -q {packages} && tar -cf /var/tmp/p.tar *.deb"
    of_jammy = engine.containers.run(ubuntu.base_image(engine, "22.04"), ["sh", "-c", script], detach=True)
    try:
        assert of_jammy.wait()["StatusCode"] == 0, of_jammy.logs().decode()
        pieces, _ = of_jammy.get_archive("/var/tmp/p.tar")
        to.container.put_archive("/var/tmp", b"".join(pieces))
    finally:
        of_jammy.remove(force=True)
    to.sh("cd /var/tmp && tar -xf p.tar && for each in *.deb; do dpkg -x $each /; done && rm *.deb p.tar")
    to.sh(f"{BROUGHT} -c 'import ssl, sqlite3, venv'")


@pytest.fixture(scope="module")
def host(bare: Machine, ssh_key: SshKey) -> Host:
    made = Host(bare, ssh_key.private)
    made.run()
    return made


def test_a_bare_host_becomes_a_gateway_that_answers(host: Host) -> None:
    assert host.machine.sh("/usr/local/bin/node-health").strip() == "healthy"
    assert host.machine.sh("systemctl is-active consortium-gateway consortium-firewall").split() == ["active"] * 2
    assert host.machine.sh("ps -o user:20= -C envoy").split() == ["gateway"]


def test_a_second_run_changes_nothing_there(host: Host) -> None:
    assert host.run().changes == {}


def test_its_systemd_and_nftables_take_the_files_of_every_role(host: Host) -> None:
    whole = model(workers=2)
    for node in hosts_of(whole):
        found = {file.path: file for file in files_for(whole, builders.secrets(), node)}
        elsewhere = [file for path, file in found.items() if path.startswith("/etc/systemd") or "firewall" in path]
        host.machine.lay(elsewhere)
        units = [f"/etc/systemd/system/consortium-{service}.service" for service in services_of(node.role)]
        host.machine.lay([file for path, file in found.items() if path.startswith("/etc/consortium/services/")])
        assert host.machine.run("systemd-analyze", "verify", "--man=no", *units) == (0, "")
        assert host.machine.run("nft", "--check", "--file", "/etc/consortium/firewall.nft") == (0, "")


def test_it_is_left_without_services_and_keys(host: Host) -> None:
    host.run()
    host.run(leave=True)
    assert host.machine.sh("systemctl list-units --no-legend 'consortium-*'").strip() == ""
    assert host.machine.sh("find /etc/consortium/gateway -type f").strip() == ""
