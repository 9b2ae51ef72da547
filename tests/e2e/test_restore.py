"""An institution whose machine was lost, data and all, goes on from a backup on a new one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from testing import Consortium

JOB = {
    "job.yaml": "name: small\nparties: [alice, bob]\n",
    "main.py": """
        from coordinator.session import session

        with session() as s:
            s.result({"ok": True})
    """,
}


@pytest.fixture
def two() -> Iterator[Consortium]:
    with Consortium(parties=2) as made:
        yield made


def test_jobs_and_audit_chain_are_intact_on_a_new_machine(two: Consortium, tmp_path: Path) -> None:
    alice, bob = two.party("alice"), two.party("bob")
    before = alice.submit(JOB)
    assert before.wait().phase == "succeeded"
    backup = tmp_path / "alice.tar"
    made = json.loads(alice.cli("backup", str(backup), "--json"))

    alice.down()  # its volumes too
    alice.up()
    two.wait_until_connected()
    assert alice.coordinator.get("/jobs")["jobs"] == []
    said = json.loads(alice.cli("restore", str(backup), "--yes", "--json"))
    assert (said["restored"], said["audit_seq"], said["open_jobs"]) == (True, made["audit_seq"], [])
    assert said["set_aside"].startswith("/var/lib/consortium/old-")
    again = json.loads(alice.cli("restore", str(backup), "--yes", "--json"))
    assert (again["restored"], again["set_aside"]) == (False, "")

    known = alice.coordinator.get(f"/jobs/{before.job_id}")
    assert (known["phase"], known["settled"]) == ("succeeded", True)
    assert set(known["outcomes"]) == {"alice", "bob"}
    two.wait_until_connected()
    assert bob.submit(JOB).wait().phase == "succeeded"
    alice.cli("audit", "verify")
    bob.cli("audit", "verify")
    kinds = [
        json.loads(json.loads(line)["content"])["kind"]
        for line in b"".join(alice.coordinator.stream("/audit")).splitlines()
        if b'"content"' in line
    ]
    assert kinds[made["audit_seq"]] == "restored"
