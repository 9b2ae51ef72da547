"""`consortium audit`: the own log through the API, exported ones with keys from the workspace or given; exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from consortium.cli import audit as commands
from consortium.client import Coordinator
from consortium.errors import Refused
from coordinator.audit import GENESIS, Record, append
from coordinator.audit_export import export_lines, header_of
from coordinator.audit_heads import Witnessed, counter_sign, sign_head
from coordinator.signing import Signer
from tests.consortium import builders
from tests.consortium.conftest import Command

ALICE, BOB = (Signer(builders.CONSORTIUM, p, Ed25519PrivateKey.generate()) for p in ("alice", "bob"))
JOB = "20261124-probe-abcdef"


def log(signer: Signer, decision: str = "aa") -> list[Record]:
    common = {"kind": "changed", "job_id": JOB, "attempt": 1, "reason": "test\x1b[31m"}
    events: list[dict[str, Any]] = [
        common | {"at": 1.0, "kind": "created", "from": None, "to": "proposed", "statements": []},
        common | {"at": 2.0, "from": "proposed", "to": "failed", "statements": [["decision", 1, "alice", decision]]},
        {"at": 100.0, "kind": "test", "reason": "later"},
    ]
    made: list[Record] = []
    for event in events:
        made.append(append(made[-1].link if made else GENESIS, event, signer))
    return made


def exported(signer: Signer, records: list[Record], *heads: Witnessed) -> bytes:
    header = header_of(signer.consortium, signer.party, signer.public)
    return b"".join(export_lines(header, records, heads, len(records), 50.0))


def confirmed(record: Record) -> Witnessed:
    head = sign_head(ALICE, record.seq, record.hash, 5.0)
    return Witnessed(head=head, witness=counter_sign(BOB, head, 6.0))


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    folder = tmp_path / "workspace"
    parties = {s.party: builders.party(s.party, signing_key=s.public) for s in (ALICE, BOB)}
    builders.write(folder, **parties)
    (folder / "alice.jsonl").write_bytes(exported(ALICE, log(ALICE), confirmed(log(ALICE)[1])))
    (folder / "bob.jsonl").write_bytes(exported(BOB, log(BOB)))
    return folder


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the coordinator answers, and what it was asked."""
    answer: dict[str, Any] = {"status": 200, "content": exported(ALICE, log(ALICE))}

    def handle(request: httpx.Request) -> httpx.Response:
        answer["asked"] = str(request.url)
        if answer["status"] != 200:
            return httpx.Response(answer["status"], json={"detail": answer["content"]})
        return httpx.Response(200, content=answer["content"], headers={"content-type": "application/jsonl"})

    fake = Coordinator("http://node:1", "t", transport=httpx.MockTransport(handle))
    monkeypatch.setattr(commands, "coordinator", lambda *_: fake)
    return answer


def test_the_own_log(command: Command, workspace: Path, served: dict[str, Any]) -> None:
    said = command("-w", workspace, "audit", "verify")
    assert said.code == 0
    assert "alice of demo: records 1 to 3 of 3" in said.out
    served["content"] = served["content"].replace(b"later", b"lader")
    said = command("-w", workspace, "audit", "verify")
    assert said.code == 1
    assert "record 3: its content was changed" in said.err
    said = command("-w", workspace, "audit", "verify", "--json")
    assert (said.code, said.json()[0]["record"], said.json()[0]["kind"]) == (1, 3, "content")


def test_files(command: Command, workspace: Path) -> None:
    file = workspace / "alice.jsonl"
    said = command("-w", workspace, "audit", "verify", file, "--every-signature")
    assert said.code == 0
    assert "confirmed by bob up to record 2 at 1970-01-01 00:00:06 UTC" in said.out
    for option in (["--party-file", workspace / "parties" / "alice.yaml"], ["--key", f"alice={ALICE.public}"]):
        assert command("audit", "verify", file, *option, "--key", f"bob={BOB.public}").code == 0
    log_file = workspace / "access.log"
    log_file.write_text("x\n")
    said = command("-w", workspace, "audit", "verify", file, "--access-log", log_file)
    assert said.code == 1
    assert "fits any digest" in said.err


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("verify", "none.jsonl"), "No such file"),
        (("verify", "consortium.yaml"), "not the header of an audit export"),
        (("verify", "alice.jsonl", "--key", "alice"), "PARTY=BASE64"),
        (("verify", "alice.jsonl", "--key", f"bob={BOB.public}"), "no key of alice"),
        (("compare", "alice.jsonl", "alice.jsonl"), "two parties"),
    ],
)
def test_what_cannot_be_checked_is_exit_code_2(
    command: Command, workspace: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], why: str
) -> None:
    monkeypatch.chdir(workspace)
    said = command("audit", *arguments)
    assert said.code == 2
    assert why in said.err


def test_a_log_of_another_consortium(command: Command, workspace: Path) -> None:
    other = Signer("other", "alice", ALICE._key)
    (workspace / "alice.jsonl").write_bytes(exported(other, log(other)))
    said = command("-w", workspace, "audit", "verify", workspace / "alice.jsonl")
    assert said.code == 2
    assert "of the consortium 'other'" in said.err


def test_compare(command: Command, workspace: Path) -> None:
    files = [workspace / "alice.jsonl", workspace / "bob.jsonl"]
    said = command("-w", workspace, "audit", "compare", *files)
    assert said.code == 0
    assert "1 jobs and 1 statements in both, 0 divergences" in said.out
    files[1].write_bytes(exported(BOB, log(BOB, "bb")))
    said = command("-w", workspace, "audit", "compare", *files)
    assert said.code == 1
    assert "decision of alice for attempt 1: alice has aa, bob has bb" in said.err
    said = command("-w", workspace, "audit", "compare", *files, "--json")
    assert (said.code, len(said.json()["divergences"])) == (1, 1)
    files[1].write_bytes(files[1].read_bytes().replace(b"later", b"lader"))
    assert "its content was changed" in command("-w", workspace, "audit", "compare", *files).err


def test_export(command: Command, tmp_path: Path, served: dict[str, Any]) -> None:
    target = tmp_path / "out.jsonl"
    said = command("audit", "export", target, "--from", "2026-11-01", "--json")
    assert (said.code, said.json()["records"]) == (0, 3)
    assert "start=2026-11-01" in served["asked"]
    assert target.read_bytes() == served["content"]
    assert target.stat().st_mode & 0o777 == 0o600
    served["content"] = served["content"][:-20]
    assert command("audit", "export", target).code == 1
    served |= {"status": 422, "content": "records 9 to 3 are asked for"}
    said = command("audit", "export", target)
    assert said.code == Refused.exit_code
    assert "records 9 to 3" in said.err


def test_long_logs_show_progress(command: Command, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coordinator.audit_verify.WINDOW", 1)
    monkeypatch.setattr(commands, "PROGRESS", 2)
    said = command("-w", workspace, "audit", "verify", workspace / "alice.jsonl", "--json")
    assert "record 2" in said.err
    assert json.loads(said.out)[0]["fault"] == ""
