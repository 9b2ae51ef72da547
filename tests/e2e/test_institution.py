"""What stands after `pulumi up`: limits, labels, isolation, and nothing secret in clear."""

from __future__ import annotations

import json
import re
import socket
import ssl
from pathlib import Path

import pytest

from consortium.demo import Demo
from consortium.workspace import Workspace
from testing import Party

PROBE = """
import socket, sys
host, port = sys.argv[1], int(sys.argv[2])
try:
    socket.create_connection((host, port), timeout=2).close()
except OSError as error:
    sys.exit(f"closed: {error}")
"""


def reaches(party: Party, role: str, host: str, port: int) -> bool:
    code, _ = party.node(role).run("python3", "-c", PROBE, host, str(port))
    return code == 0


def test_a_second_up_changes_nothing(institutions: Demo) -> None:
    workspace = Workspace.find(institutions.workspace("alice"))
    said = workspace.pulumi("up", "--yes", "--skip-preview", party="alice")
    assert re.search(r"\b\d+ unchanged", said), said
    assert not re.search(r"created|updated|replaced|deleted", said), said


def test_outputs_say_where_things_are(institutions: Demo) -> None:
    outputs = institutions.json("alice", "outputs")
    port = institutions.parties[0].operator_port
    assert outputs["status_page"] == f"http://127.0.0.1:{port}/"
    assert outputs["coordinator_api"] == f"http://127.0.0.1:{port}/api/v1"
    assert outputs["gateway_endpoint"].endswith(f":{institutions.parties[0].gateway_port}")


@pytest.mark.parametrize("role", ["head", "worker-1", "gateway"])
def test_every_node_is_limited_labelled_watched_and_restarted(alice: Party, role: str) -> None:
    node = alice.node(role).container
    assert node.attrs["HostConfig"]["Memory"] > 0
    assert node.attrs["HostConfig"]["NanoCpus"] > 0
    assert node.attrs["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"
    assert node.labels["consortium.party"] == "alice"
    assert node.attrs["State"]["Health"]["Status"] == "healthy"
    assert not node.attrs["HostConfig"]["Privileged"]


def test_the_head_and_its_worker_form_one_ray_cluster(alice: Party) -> None:
    code, text = alice.node("head").run("/opt/secretflow/bin/ray", "status", user="ray")
    assert code == 0, text
    assert len(re.findall(r"^ *1 node_", text, re.M)) == 2, text


def test_nodes_reach_a_peer_only_through_their_gateway(alice: Party, bob: Party, institutions: Demo) -> None:
    ports = {"head": (6379, 8080, 8081, 8265, 20000), "worker-1": (8265, 10002), "gateway": (8443, 8080, 21000, 9901)}
    for role, tried in ports.items():
        for port in tried:
            assert not reaches(alice, "head", bob.node(role).address, port), f"alice's head reaches bob's {role}:{port}"
    public = institutions.json("bob", "outputs")["gateway_endpoint"].split(":")
    assert not reaches(alice, "head", public[0], int(public[1])), "alice's head has a way out of its own"
    assert reaches(alice, "gateway", public[0], int(public[1])), "the probe itself must be able to say yes"
    assert reaches(alice, "head", "alice-gateway", 21100), "the gateway's outbound listener is the one way"


def test_the_public_port_says_nothing_without_a_certificate(institutions: Demo) -> None:
    host, port = institutions.json("bob", "outputs")["gateway_endpoint"].split(":")
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection((host, int(port)), timeout=10) as raw,
        pytest.raises((ssl.SSLError, ConnectionError)),
        context.wrap_socket(raw, server_hostname=f"coordinator.alice.bob.{institutions.name}") as tls,
    ):
        # With TLS 1.3 a client learns only now that it was refused.
        tls.sendall(b"GET / HTTP/1.0\r\n\r\n")
        tls.recv(100)


def secrets_of(demo: Demo, party: str) -> dict[str, str]:
    """Every secret of an institution, by name; of a key the longest line, which no other text can hold by chance."""
    workspace = Workspace.find(demo.workspace(party))
    config = json.loads(workspace.pulumi("config", "--show-secrets", "--json", party=party))
    found = {name: str(entry["value"]) for name, entry in config.items() if entry["secret"]}
    found["passphrase"] = workspace.passphrase_file.read_text()
    return {name: max(text.strip().splitlines(), key=len) for name, text in found.items()}


def test_bobs_stack_never_read_a_private_file_of_alice(institutions: Demo) -> None:
    """The two workspaces share the public party files and nothing else."""
    alice, bob = institutions.workspace("alice"), institutions.workspace("bob")
    assert not (bob / "stacks" / "Pulumi.alice.yaml").exists()
    same = {p.relative_to(bob) for p in bob.rglob("*") if p.is_file() and (alice / p.relative_to(bob)).is_file()}
    same = {p for p in same if (alice / p).read_bytes() == (bob / p).read_bytes()}
    shared = {str(p) for p in same if ".private" in p.parts or p.parts[0] == "stacks" or p.parts[0] == "data"}
    assert {p for p in shared if "meta.yaml" not in p} == set()
    assert Path("parties/alice.yaml") in same


def test_a_job_program_cannot_read_the_institutions_keys(alice: Party) -> None:
    for path in ("/etc/consortium/secrets/signing.key", "/etc/consortium/secrets/operator.token"):
        code, text = alice.node("head").run("cat", path, user="ray")
        assert code != 0
        assert "Permission denied" in text


def test_drift_on_a_node_is_found_by_a_refresh_and_mended_by_the_next_up(institutions: Demo, alice: Party) -> None:
    workspace = Workspace.find(institutions.workspace("alice"))
    before = alice.node("worker-1").read("/etc/consortium/health.json")
    alice.node("worker-1").run("sh", "-c", "echo strange >> /etc/consortium/health.json")
    said = workspace.pulumi("refresh", "--yes", party="alice")
    assert "alice-worker-1 has drifted" in said
    said = workspace.pulumi("up", "--yes", "--skip-preview", party="alice")
    assert "1 updated" in said, said
    assert alice.node("worker-1").read("/etc/consortium/health.json") == before


def test_a_removed_container_is_made_again_by_up_with_refresh(institutions: Demo, alice: Party) -> None:
    alice.node("worker-1").container.remove(force=True)
    institutions.consortium("alice", "up", "--yes", "--refresh", "--", "--skip-preview", capture=True)
    alice.node("worker-1").container.reload()
    assert alice.node("worker-1").container.status == "running"
    code, text = alice.node("worker-1").run("/usr/local/bin/node-health")
    assert code == 0, text
