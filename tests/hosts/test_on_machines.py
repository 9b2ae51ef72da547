"""An institution on machines reached over SSH, made by the same `pulumi up`, computes with one in containers."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from consortium.keyring import Keyring
from consortium.node_paths import RAY_LEAVING
from consortium.ssh_settings import SSH_KEY
from consortium.subcommand import CommandFailed
from testing import Party
from tests.e2e.test_scaling import at_work, scaling_job
from tests.hosts.machine import SshKey
from tests.hosts.mixed import ALICE, Mixed

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]
STOP = "/run/scaling-stop"
"""Not in /tmp, of which a unit has its own."""
PROBE = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=2).close()"


@pytest.fixture(scope="module")
def mixed(machine_image: str, ssh_key: SshKey) -> Iterator[Mixed]:
    with Mixed(machine_image, ssh_key) as made:
        yield made


@pytest.fixture(scope="module")
def alice(mixed: Mixed) -> Party:
    return mixed.party(ALICE)


def pulumi(party: Party, *arguments: str) -> str:
    return party.workspace.pulumi(*arguments, party=party.name)


def test_a_real_job_of_hosts_and_containers(mixed: Mixed, alice: Party) -> None:
    run = alice.submit("jobs/psi")
    outcome = run.wait()
    assert outcome.phase == "succeeded", run.logs()
    assert run.result() == run.result("bob")


def test_a_second_up_changes_nothing(alice: Party) -> None:
    said = pulumi(alice, "up", "--yes", "--skip-preview")
    assert re.search(r"\b\d+ unchanged", said), said
    assert not re.search(r"created|updated|replaced|deleted", said), said


def test_every_service_runs_as_its_own_user(mixed: Mixed) -> None:
    said = {name: machine.sh("ps -eo user:20,args") for name, machine in mixed.machines.items()}
    for node, program, user in (
        ("head", "/opt/secretflow/bin/ray start", "ray"),
        ("worker", "/opt/secretflow/bin/ray start", "ray"),
        ("head", "-m coordinator serve", "coordinator"),
        ("gateway", "/usr/local/bin/envoy", "gateway"),
    ):
        owners = {line.split()[0] for line in said[node].splitlines() if program in line}
        assert owners == {user}, f"{program} on {node}: {owners}"


def test_the_firewall_lets_own_hosts_in_where_they_belong_and_nobody_else(mixed: Mixed) -> None:
    head, gateway = mixed.machine("head"), mixed.machine("gateway")

    def reaches(node: str, address: str, port: int, user: str = "root") -> bool:
        return mixed.machine(node).run("python3", "-c", PROBE, address, str(port), user=user)[0] == 0

    assert reaches("gateway", head.address, 8081), "the gateway forwards to the coordinator"
    assert reaches("worker", head.address, 6379), "a worker joins the head's Ray"
    assert not reaches("worker", head.address, 8081)
    assert not reaches("gateway", head.address, 6379)
    assert reaches("head", gateway.address, 21100)
    bob = mixed.party("bob").gateway
    for port in (6379, 8080, 8081):
        code, _ = bob.run("python3", "-c", PROBE, head.address, str(port))
        assert code != 0, f"a peer reaches the head's port {port}"


def test_a_program_has_no_way_out_of_its_institution(mixed: Mixed) -> None:
    """Root on the same host has: the probe can say yes."""
    head = mixed.machine("head")
    engine = mixed.party("bob").model.own.gateway
    command = ("python3", "-c", PROBE, engine.host, str(engine.port))
    assert head.run(*command)[0] == 0
    assert head.run(*command, user="ray")[0] != 0
    assert head.run(*command, user="coordinator")[0] != 0


def test_the_ssh_key_stands_nowhere_in_clear(alice: Party, ssh_key: SshKey) -> None:
    secret = ssh_key.private.splitlines()[2]
    found = [
        path
        for path in alice.workspace.root.rglob("*")
        if path.is_file() and secret in path.read_text("utf-8", errors="replace")
    ]
    assert found == []
    assert secret not in pulumi(alice, "stack", "export")
    assert Keyring(alice.workspace, ALICE, "x").secret(SSH_KEY).splitlines()[2] == secret, "the search would find it"


def test_pulumi_knows_the_machines(mixed: Mixed, alice: Party) -> None:
    state = json.loads(pulumi(alice, "stack", "export"))["deployment"]["resources"]
    machines = {r["id"]: r["outputs"] for r in state if r["type"].endswith("consortium:Machine")}
    assert sorted(machines) == ["alice-gateway", "alice-head", "alice-worker-1"]
    assert machines["alice-head"]["machine_id"] == mixed.machine("head").sh("cat /etc/machine-id").strip()


def test_drift_on_a_host_is_found_by_a_refresh_and_mended_by_the_next_up(mixed: Mixed, alice: Party) -> None:
    worker, gateway, head = (mixed.machine(node) for node in ("worker", "gateway", "head"))
    before = worker.sh("cat /etc/consortium/health.json")
    worker.sh("echo strange >> /etc/consortium/health.json")
    gateway.sh("nft delete table inet consortium")
    head.sh("systemctl stop consortium-coordinator")
    said = pulumi(alice, "refresh", "--yes")
    for host in ("alice-worker-1", "alice-gateway", "alice-head"):
        assert f"{host} has drifted" in said, said
    said = pulumi(alice, "up", "--yes", "--skip-preview")
    assert "1 updated" in said, said
    assert worker.sh("cat /etc/consortium/health.json") == before
    gateway.sh("/usr/local/sbin/consortium-firewall check")
    head.sh("systemctl is-active consortium-coordinator")


@pytest.mark.long
def test_a_worker_comes_while_a_job_runs_and_finishes_its_task_before_it_goes(mixed: Mixed, alice: Party) -> None:
    def started() -> dict[str, str]:
        asked = "systemctl show -p MainPID $(cd /etc/systemd/system && ls -d consortium-*.service)"
        return {node: mixed.machine(node).sh(asked) for node in ("head", "worker", "gateway")}

    before = started()
    first, second = mixed.machine("worker"), mixed.another_worker()
    run = alice.submit(scaling_job(STOP))
    mixed.workers(first, second)
    alice.cli("up", "--yes", "--", "--skip-preview")
    at_work(run)

    mixed.workers(first, drain={"wait_s": 4})
    with pytest.raises(CommandFailed, match=f"alice-worker-2 is used by task work of job {run.job_id}, attempt 1"):
        alice.cli("up", "--yes", "--", "--skip-preview")
    second.sh("systemctl is-active consortium-ray")

    mixed.workers(first, drain={"wait_s": 120})
    with ThreadPoolExecutor(1) as pool:
        fewer = pool.submit(alice.cli, "up", "--yes", "--", "--skip-preview")
        while second.run("test", "-e", str(RAY_LEAVING))[0] != 0:
            assert not fewer.done(), fewer.result()
            time.sleep(0.5)
        time.sleep(5)
        assert not fewer.done(), fewer.result()
        second.sh(f"touch {STOP}")
        fewer.result(timeout=150)
    outcome = run.wait()
    assert outcome.phase == "succeeded", outcome.reason
    assert run.result() == {"where": second.sh("hostname").strip()}
    assert started() == before, "nobody else is restarted"
    assert second.sh("systemctl list-units --no-legend 'consortium-*'").strip() == ""
    assert second.sh(f"find /etc/consortium {RAY_LEAVING.parent} -type f -not -name '.*' -path '*consortium*'") == ""
    assert first.address in mixed.machine("head").sh("nft list table inet consortium")
    assert second.address not in mixed.machine("head").sh("nft list table inet consortium")
