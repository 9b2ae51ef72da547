"""Keys change while two institutions work together: a job goes on, nothing restarts, and who is revoked is out."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from consortium import trust
from consortium.demo import Demo
from consortium.errors import Refused
from consortium.stackfile import StackFile
from consortium.subcommand import CommandFailed
from testing import Consortium, Node, Party
from tests.e2e.test_members import all_started, begun, job

pytestmark = pytest.mark.long

ASK = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:9901/certs').read().decode())"


def certificate(party: Party) -> str:
    """The gateway's, as the stack file holds it."""
    return str(StackFile(party.workspace.stack_file(party.name)).config()["gatewayCertificate"])


def shows(gateway: Node, certificate: str) -> bool:
    """Whether the gateway has taken it up."""
    return f"{trust._load(certificate).serial_number:x}" in gateway.check("python3", "-c", ASK)


def test_certificate_and_ca_are_replaced_and_a_peer_is_revoked_and_trusted_again(
    institutions: Demo, consortium: Consortium, alice: Party, bob: Party, tmp_path: Path
) -> None:
    before = all_started(alice, bob)
    long = alice.submit(job("alice", "bob", until="/nowhere"))
    begun(long)
    first = certificate(alice)
    assert shows(alice.gateway, first)

    alice.cli("rotate", "certificate")
    alice.cli("rotate", "ca", "begin")
    with pytest.raises(CommandFailed, match="alice itself runs with other documents"):
        alice.cli("rotate", "ca", "issue")
    alice.up()
    assert shows(alice.gateway, certificate(alice))
    with pytest.raises(CommandFailed, match="bob was not seen with the new party file"):
        alice.cli("rotate", "ca", "issue")
    consortium.exchange_party_files()
    bob.up()
    alice.cli("rotate", "ca", "issue")
    with pytest.raises(CommandFailed, match="does not show the new CA's certificate yet"):
        alice.cli("rotate", "ca", "finish")
    alice.up()
    assert shows(alice.gateway, certificate(alice))
    alice.cli("rotate", "ca", "finish")
    consortium.exchange_party_files()
    consortium.each(lambda party: party.up())
    assert len(bob.model.parties["alice"].ca_certificates) == 1
    assert (long.view()["phase"], long.view()["attempt"]) == ("running", 1)
    assert all_started(alice, bob) == before
    assert institutions.run_job("psi")["results"]["bob"]["result"]["intersection"] > 0

    bob.cli("revoke", "alice", "--yes")
    long.wait_for_phase("failed", "bob")
    # The gateway closes at once; on a busy machine long before the coordinator beside it has reloaded. That the cause
    # is `revoked` once it has: tests/coordinator/test_reload.py.
    assert re.search("bob has revoked alice|alice is lost", long.view("bob")["reason"])
    status = bob.coordinator.get("/status")
    assert (status["revoked"], status["peers"]) == (["alice"], {})
    seen = alice.coordinator.wait("/status", lambda s: not s["peers"]["bob"]["up"], 60, "alice to be shut out")
    assert seen["peers"]["bob"]["error"]
    bob.cli("audit", "export", str(tmp_path / "bob.jsonl"))
    lines = [json.loads(line) for line in (tmp_path / "bob.jsonl").read_text().splitlines()]
    records = [json.loads(line["content"]) for line in lines if "seq" in line]
    assert [record["peer"] for record in records if record["kind"] == "revoked"] == ["alice"]

    assert all_started(alice, bob) == before
    with pytest.raises(Refused, match=r"bob has revoked \['alice'\]"):
        bob.submit(job("alice", "bob"))

    bob.cli("revoke", "alice", "--undo", "--yes")
    consortium.wait_until_connected()
    assert all_started(alice, bob) == before
    assert institutions.run_job("psi")["results"]["bob"]["result"]["intersection"] > 0
