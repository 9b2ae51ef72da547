"""Daily files, export and the command: every record is in one day's file; what is asked is answered or refused."""

from __future__ import annotations

import asyncio
import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from audit_builders import ALICE, BOB, LOG_KEYS, export, records, witnessed
from coordinator_rig import Rig

from coordinator.__main__ import main
from coordinator.audit_daily import AuditFiles
from coordinator.audit_export import Export
from coordinator.audit_report import verify_files
from coordinator.audit_source import midnight
from coordinator.context import Context, open_context

DAY = date(2026, 11, 20)
NOON = midnight(DAY) + 43_200
DAY_S = 86_400.0


def opened(folder: Path, **overrides: Any) -> Context:
    return open_context(Rig(folder, ["alice", "bob"], **overrides).config_path("alice"))


def written(context: Context) -> dict[str, list[int]]:
    """Day's file -> numbers of its records."""
    found = sorted((context.config.state_dir / "audit").glob("*"))
    return {p.name: [r.seq for r in Export(p).records()] for p in found}


def work(context: Context, now: float) -> None:
    asyncio.run(AuditFiles(context).export_days(now))


def test_every_ended_day_gets_a_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = opened(tmp_path)
    work(context, NOON)
    for days in (0, 0, 1, 3):  # nothing happened on the third day
        context.store.note(NOON + days * DAY_S, "test", "one")
    monkeypatch.setattr("coordinator.audit_daily.time.time", lambda: NOON + 3 * DAY_S)
    work(context, NOON + 3 * DAY_S)
    assert written(context) == {"alice-2026-11-20.jsonl": [1, 2], "alice-2026-11-21.jsonl": [3]}
    before = context.store.head()
    work(context, NOON + 3 * DAY_S)
    assert context.store.head() == before, "nothing is done twice"
    work(context, NOON + 4 * DAY_S)
    assert written(context)["alice-2026-11-23.jsonl"] == [4, 5, 6]
    files = sorted((context.config.state_dir / "audit").glob("*"))
    assert all(p.stat().st_mode & 0o777 == 0o600 for p in files)
    reports = verify_files(files, {"alice": context.signer.public})
    assert [(r["fault"], r["first"], r["last"]) for r in reports] == [("", 1, 2), ("", 3, 3), ("", 4, 6)]
    note = context.store.newest("daily-export")
    assert note is not None
    assert note["access_log"] == "no access_log is configured"
    assert "do not join" in verify_files([files[0], files[2]], {"alice": context.signer.public})[1]["fault"]


def test_clocks_that_step_back_leave_no_record_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = opened(tmp_path)
    monkeypatch.setattr("coordinator.audit_daily.time.time", lambda: NOON + DAY_S)
    context.store.note(NOON, "test", "one")
    work(context, NOON + DAY_S)
    context.store.note(NOON - DAY_S, "test", "the clock was set back")
    context.store.note(NOON + 2 * DAY_S, "test", "and forth")
    monkeypatch.setattr("coordinator.audit_daily.time.time", lambda: NOON + 4 * DAY_S)
    work(context, NOON + 4 * DAY_S)
    numbers = [n for found in written(context).values() for n in found]
    assert numbers == list(range(1, len(numbers) + 1))
    assert numbers[-1] >= 4


def test_the_access_log_is_digested(tmp_path: Path) -> None:
    path = tmp_path / "log" / "access.log"
    context = opened(tmp_path, access_log=str(path))
    files = AuditFiles(context)

    def digest(**more: bool) -> list[dict[str, Any]]:
        asyncio.run(files.digest_access_log(**more))
        events = [json.loads(r.content) for r in context.store.records()]
        return [e for e in events if e["kind"].startswith("access-log")]

    assert digest() == []
    path.parent.mkdir()
    path.write_text("one\n")
    assert [e["end"] for e in digest()] == [4]
    with path.open("a") as file:
        file.write("two\n")
    assert len(digest()) == 1, "only once an hour"
    assert [e["end"] for e in digest(always=True)] == [4, 8]
    path.rename(path.with_name("access.log.1"))
    path.write_text("three\n")
    digest()
    path.unlink()
    path.with_name("access.log.1").unlink()
    assert "is gone" in digest(always=True)[-1]["reason"]
    path.mkdir()  # cannot be read as a file
    for _ in range(2):
        last = digest(always=True)[-1]
    assert last["kind"] == "access-log-fault"
    assert sum(e["kind"] == "access-log-fault" for e in digest(always=True)) == 1, "the same trouble is told once"


def test_a_day_file_vouches_for_the_access_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "access.log"
    context = opened(tmp_path, access_log=str(path))
    monkeypatch.setattr("coordinator.audit_daily.time.time", lambda: NOON)
    path.write_text("one\n")
    asyncio.run(AuditFiles(context).digest_access_log())
    work(context, NOON + DAY_S)
    [file] = (context.config.state_dir / "audit").glob("*")
    keys = {"alice": context.signer.public}
    assert verify_files([file], keys, access_logs=[path])[0]["fault"] == ""
    path.write_text("ome\n")
    assert "fits any digest" in verify_files([file], keys, access_logs=[path])[0]["fault"]


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, Any]:
    code = main(["audit", *map(str, arguments)])
    said = capsys.readouterr()
    return code, json.loads(said.out) if code < 2 else said.err


def test_verify_and_export(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = ["--config", Rig(tmp_path, ["alice", "bob"]).config_path("alice")]
    assert "has this coordinator ever run" in run(capsys, "verify", *config)[1]
    context = open_context(config[1])  # type: ignore[arg-type]
    for number in range(5):
        context.store.note(NOON + number * DAY_S, "test", f"record {number}")
    code, said = run(capsys, "verify", *config)
    assert (code, said["records"], said["fault"], said["party"]) == (0, 5, "", "alice")
    target = tmp_path / "a.jsonl"
    assert run(capsys, "export", target, *config)[1]["last"] == 5
    assert run(capsys, "verify", target, "--every-signature", *config)[1]["signatures"] == 5
    key = f"alice={context.signer.public}"
    assert run(capsys, "verify", target, "--key", key)[0] == 0
    party = tmp_path / "alice.yaml"
    party.write_text(f"party: alice\nsigning_key: {context.signer.public}\n")
    assert run(capsys, "verify", target, "--party-file", party)[0] == 0
    spans = [
        (("--from", "2"), (2, 5)),
        (("--from", "2026-11-21", "--to", "2026-11-22"), (2, 3)),
        (("--to", "2"), (1, 2)),
        (("--from", "2026-12-24"), (6, 5)),
    ]
    for options, (first, last) in spans:
        made = run(capsys, "export", target, *options, *config)[1]
        assert (made["first"], made["last"]) == (first, last)
        code, said = run(capsys, "verify", target, *config)
        assert (code, said["first"], said["last"]) == (0, first, last)
    target.write_bytes(target.read_bytes().replace(b"alice", b"alicf", 1))
    assert run(capsys, "verify", target, *config)[0] == 2
    run(capsys, "export", target, *config)
    target.write_bytes(target.read_bytes().replace(b"record 2", b"recood 2"))
    code, said = run(capsys, "verify", target, *config)
    assert (code, said["kind"], said["record"]) == (1, "content", 3)


REFUSED = [
    (("verify", "{file}", "--key", "alice"), "must be PARTY=BASE64"),
    (("verify", "{file}", "--key", "alice=AAAA"), "signing_key of alice"),
    (("verify", "{file}", "--key", f"bob={BOB.public}"), "no key of alice is given"),
    (("verify", "{file}", "--party-file", "{file}"), "no party file with"),
    (("verify", "{none}", "--key", f"alice={ALICE.public}"), "No such file"),
    (("compare", "{file}", "{file}", "--key", f"alice={ALICE.public}"), "two parties of one consortium"),
]


@pytest.mark.parametrize(("arguments", "why"), REFUSED)
def test_what_cannot_be_looked_at(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], why: str
) -> None:
    file = export(tmp_path / "a.jsonl", records(3))
    code, said = run(capsys, *(a.format(file=file, none=tmp_path / "none") for a in arguments))
    assert code == 2
    assert why in said


@pytest.mark.parametrize(
    "span", [("--from", "0"), ("--from", "4"), ("--from", "2", "--to", "9"), ("--to", "yesterday")]
)
def test_ranges_that_cannot_be(tmp_path: Path, capsys: pytest.CaptureFixture[str], span: tuple[str, ...]) -> None:
    path = Rig(tmp_path, ["alice", "bob"]).config_path("alice")
    context = open_context(path)
    context.store.note(NOON, "test", "one")
    context.store.note(NOON, "test", "two")
    code, _ = run(capsys, "export", tmp_path / "a.jsonl", *span, "--config", path)
    assert code == 2


def test_the_peers_heads_are_told_apart(tmp_path: Path) -> None:
    log, its = records(5), records(5, BOB)
    held = witnessed(its[2], BOB, ALICE)
    file = export(tmp_path / "a.jsonl", log, [witnessed(log[3]), held])
    [report] = verify_files([file], LOG_KEYS)
    assert (report["fault"], report["confirmations"]) == ("", 1)
    assert report["confirmed"]["bob"]["record"] == 4
    false = held.model_copy(update={"witness": witnessed(its[3], BOB, ALICE).witness})
    for lie in (false, witnessed(its[2], BOB, BOB)):
        assert verify_files([export(tmp_path / "b.jsonl", log, [lie])], LOG_KEYS)[0]["kind"] == "head"
