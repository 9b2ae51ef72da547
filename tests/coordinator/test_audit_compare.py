"""Two parties' logs: what comes late is no difference; what contradicts is named with the job and both values."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from audit_builders import ALICE, BOB, LOG_KEYS, NOW, export, records, witnessed
from coordinator_rig import rig

from coordinator.__main__ import main
from coordinator.audit import GENESIS, Record, append
from coordinator.audit_compare import compare, read
from coordinator.audit_report import compare_files
from coordinator.signing import Signer

JOB = "20261124-probe-abcdef"
Event = dict[str, Any]


def event(at: float, before: str | None, after: str, *statements: tuple[str, int, str, str], job: str = JOB) -> Event:
    kind = "changed" if before else "created"
    common = {"at": NOW + at, "kind": kind, "job_id": job, "attempt": 1, "reason": "test"}
    return common | {"from": before, "to": after, "statements": [list(s) for s in statements]}


def life(late: float = 0.0) -> list[Event]:
    """A job as one party logs it; `late`: seconds by which this party is behind."""
    return [
        event(0 + late, None, "proposed", ("proposal", 0, "alice", "aa")),
        event(1 + late, "proposed", "proposed", ("approval", 0, "alice", "ab")),
        event(2 + late, "proposed", "approved", ("approval", 0, "bob", "bb")),
        event(100 + late, "approved", "failed", ("decision", 1, "alice", "ac")),
        {"at": NOW + 1000 + late, "kind": "test", "reason": "much later"},
    ]


def logged(signer: Signer, events: list[Event]) -> list[Record]:
    made: list[Record] = []
    for e in events:
        made.append(append(made[-1].link if made else GENESIS, e, signer))
    return made


def compared(a: list[Event], b: list[Event]) -> dict[str, Any]:
    return compare(read("alice", logged(ALICE, a)), read("bob", logged(BOB, b)))


def test_the_same_job_agrees() -> None:
    found = compared(life(), life(0.5))
    assert (found["jobs"], found["statements"], found["divergences"]) == (1, 4, [])
    assert found["unseen"] == {"alice": {}, "bob": {}}


def test_what_is_late_is_no_difference() -> None:
    ended = compared(life(), life()[:3])
    assert ended["divergences"] == []
    assert ended["unseen"]["bob"] == {JOB: ["decision of alice for attempt 1"]}
    extra = event(5, None, "proposed", job="20261124-other-abcdef")
    assert compared([*life(), extra], life())["only"] == {"alice": ["20261124-other-abcdef"], "bob": []}


def digest(events: list[Event]) -> None:
    events[2]["statements"][0][3] = "xx"


def label(events: list[Event]) -> None:
    events[3]["to"] = "cancelled"


def forgotten(events: list[Event]) -> None:
    events[2]["statements"] = []


def jump(events: list[Event]) -> None:
    events[2]["to"] = "running"


def gap(events: list[Event]) -> None:
    events[2]["from"] = "preparing"


def twice(events: list[Event]) -> None:
    events[3]["statements"].append(["proposal", 0, "alice", "zz"])


DIFFERENCES: list[tuple[Callable[[list[Event]], None], str, list[int]]] = [
    (digest, "approval of bob: alice has bb, bob has xx", [3, 3]),
    (label, "outcome: alice holds failed, bob holds cancelled", [4, 4]),
    (forgotten, "approval of bob: bob has no record of its own statement", [3, 0]),
    (jump, "bob went from proposed to running, which no job may", [0, 3]),
    (gap, "bob comes from preparing, but was proposed", [0, 3]),
    (twice, "bob has two of proposal of alice: aa and zz", [0, 4]),
]


@pytest.mark.parametrize(("change", "what", "where"), DIFFERENCES, ids=[d[0].__name__ for d in DIFFERENCES])
def test_a_difference_is_named(change: Callable[[list[Event]], None], what: str, where: list[int]) -> None:
    other = life()
    change(other)
    first = compared(life(), other)["divergences"][0]
    assert (first["job_id"], first["what"], first["records"]) == (JOB, what, where)


def test_labels_may_differ_until_all_signatures_are_seen() -> None:
    other = life()
    other[3]["to"] = "cancelled"
    other[3]["statements"] = []
    assert compared(life(), other)["divergences"] == []
    other[3]["to"] = "succeeded"
    found = [d["what"] for d in compared(life(), other)["divergences"]]
    assert "outcome: alice holds failed, bob holds succeeded" in found


def test_a_piece_says_nothing_about_what_came_before() -> None:
    piece = read("bob", logged(BOB, life())[3:])
    assert compare(read("alice", logged(ALICE, life())), piece)["divergences"] == []


def test_contents_that_are_not_ours() -> None:
    for broken in ({"kind": "changed", "at": 1}, {"at": "x", "kind": "test"}):
        with pytest.raises(ValueError, match="record 1 of alice"):
            read("alice", logged(ALICE, [broken]))


def test_a_rewritten_log_contradicts_the_peer_that_counter_signed_it(tmp_path: Path) -> None:
    log = records(20)
    rewritten = [*log[:9], *records(11, after=log[8].link, word="rewritten")]
    other = export(tmp_path / "b.jsonl", records(3, BOB), [witnessed(log[4]), witnessed(log[14])], BOB)
    good = compare_files(export(tmp_path / "a.jsonl", log), other, LOG_KEYS)
    assert (good["fault"], good["logs"]["alice"]["confirmations"]) == ("", 2)
    for mine, text in ((rewritten, "rewritten after record 5"), (log[:10], "cut off")):
        found = compare_files(export(tmp_path / "a.jsonl", mine), other, LOG_KEYS)
        assert text in found["fault"]
        assert "divergences" not in found


def test_an_older_export_is_not_taken_for_a_cut_one(tmp_path: Path) -> None:
    log = records(20)
    other = export(tmp_path / "b.jsonl", records(3, BOB), [witnessed(log[4]), witnessed(log[14])], BOB)
    found = compare_files(export(tmp_path / "a.jsonl", log[:10], at=NOW - 1), other, LOG_KEYS)
    assert found["fault"] == ""
    assert found["logs"]["alice"]["later"]["bob"]["record"] == 15


def test_two_real_logs_agree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keys: list[str] = []

    async def run() -> None:
        async with rig(tmp_path, audit_heads_s=0.2) as r:
            await r.end(await r.submit("alice"))
            await r.end(await r.submit("bob", parameters={"fails": {"alice": "error"}}))
            await asyncio.sleep(0.6)
            for party in r.parties:
                answer = await r.call(party, "GET", "audit")
                (tmp_path / f"{party}.jsonl").write_bytes(answer.content)
                keys.extend(["--key", f"{party}={r.public(party)}"])

    asyncio.run(run())
    capsys.readouterr()
    code = main(["audit", "compare", str(tmp_path / "alice.jsonl"), str(tmp_path / "bob.jsonl"), *keys])
    found = json.loads(capsys.readouterr().out)
    assert (code, found["fault"], found["jobs"]) == (0, "", 2)
    assert found["logs"]["alice"]["confirmations"] >= 1
    assert found["statements"] > 10
