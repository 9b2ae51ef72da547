"""The doctor at a real institution: well, with a folder closed, and with a peer whose gateway is down."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from consortium.errors import EXIT_DRIFT
from testing import Consortium, Party, faults


def doctor(party: Party, *more: str) -> tuple[int, dict[str, Any]]:
    command = [sys.executable, "-m", "consortium", "doctor", "--party", party.name, "--json", *more]
    done = subprocess.run(command, cwd=party.workspace.root, capture_output=True, text=True, timeout=300, check=False)
    return done.returncode, json.loads(done.stdout)


def test_an_institution_that_is_well(alice: Party) -> None:
    code, said = doctor(alice)
    assert (code, said["first"]) == (0, None)
    looked_at = {(one["check"], one["subject"]) for one in said["findings"]}
    assert {("identity", "alice"), ("identity", "bob"), ("peer", "bob"), ("secretflow", "alice")} <= looked_at


def test_a_peer_whose_gateway_is_down_is_named_and_the_rest_is_well(consortium: Consortium, alice: Party) -> None:
    with faults.pause(consortium.party("bob"), "gateway"):
        code, said = doctor(alice, "--peer", "bob")
    wrong = {(one["check"], one["subject"]) for one in said["findings"] if not one["ok"]}
    assert code == 1
    assert said["first"]["subject"] == "bob"
    assert wrong <= {("tcp", "bob"), ("tls", "bob"), ("peer", "bob")}
    assert ("peer", "bob") in wrong


def test_a_folder_that_the_coordinator_may_not_write_is_named(alice: Party) -> None:
    folder = "/var/lib/consortium-jobs"
    mode = alice.head.check("stat", "-c", "%a", folder).strip()
    alice.head.check("chmod", "0555", folder)
    try:
        code, said = doctor(alice)
    finally:
        alice.head.check("chmod", mode, folder)
    assert code == 1
    assert (said["first"]["check"], said["first"]["subject"]) == ("folder", "alice")
    assert folder in said["first"]["what"]
    assert "consortium up" in said["first"]["fix"]


def test_a_plan_names_who_is_not_what_is_declared(alice: Party) -> None:
    assert json.loads(alice.cli("plan", "--json")) | {"party": "alice"} == {
        "party": "alice",
        "consortium_digest": alice.coordinator.get("/status")["consortium_digest"],
        "same": ["alice", "bob"],
        "certificates_not_seen": {},
        "not_asked": [],
        "differences": [],
    }
    path = alice.workspace.party_file("bob")
    before = path.read_bytes()
    path.write_bytes(
        before + b"datasets: {more: {description: not agreed}}\n"
        if b"datasets:" not in before
        else before.replace(b"datasets:", b"datasets:\n  more: {description: not agreed}", 1)
    )
    try:
        command = [sys.executable, "-m", "consortium", "plan", "--party", "alice", "--json"]
        done = subprocess.run(
            command, cwd=alice.workspace.root, capture_output=True, text=True, timeout=120, check=False
        )
    finally:
        path.write_bytes(before)
    said = json.loads(done.stdout)
    assert done.returncode == EXIT_DRIFT
    assert {(one["party"], one["what"]) for one in said["differences"]} == {
        ("alice", "consortium files"),
        ("bob", "consortium files"),
    }
