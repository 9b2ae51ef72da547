"""The audit log: whatever is done to it without the key is found, at the right record; what its own party does to it
contradicts what peers counter-signed."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from audit_builders import ALICE, BOB, CAROL, NOW, VERIFIER, export, records, witnessed
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coordinator.audit import GENESIS, Link, Record, chain_hash
from coordinator.audit_export import Export, ExportError, write_whole
from coordinator.audit_verify import Verdict, verify
from coordinator.statements import canonical

LOG = records(40)
PIECES = {n: records(n) for n in (1, 2, 3, 7, 20)}


def check(log: list[Record], **more: object) -> Verdict:
    return verify(log, "alice", VERIFIER, **more)  # type: ignore[arg-type]


def fault(log: list[Record], **more: object) -> tuple[int, str]:
    found = check(log, **more).fault
    assert found is not None
    return found.record, found.kind


def rechained(log: list[Record], after: Link = GENESIS) -> list[Record]:
    """What somebody without the key can do: compute numbers and hashes anew, and leave the signatures."""
    made: list[Record] = []
    for record in log:
        digest = chain_hash(after, after.seq + 1, record.content)
        made.append(Record(after.seq + 1, record.content, digest, record.signature))
        after = made[-1].link
    return made


def test_a_good_log() -> None:
    verdict = check(LOG)
    assert (verdict.fault, verdict.records, verdict.head, verdict.signatures) == (None, 40, LOG[-1].hash, 1)
    assert check(LOG, every_signature=True).signatures == 40
    assert check([]).records == 0
    piece = check(LOG[10:20], after=LOG[9].link)
    assert (piece.fault, piece.first, piece.last) == (None, 11, 20)


def with_(log: list[Record], k: int, **fields: object) -> list[Record]:
    return [*log[: k - 1], replace(log[k - 1], **fields), *log[k:]]  # type: ignore[arg-type]


OTHER = LOG[19].signature
CHANGED, LAST_CHANGED = with_(LOG, 7, content="{}"), with_(LOG, 40, content="{}")
TAMPERINGS: list[tuple[str, list[Record], tuple[int, str]]] = [
    ("content", with_(LOG, 7, content='{"at":1}'), (7, "content")),
    ("hash", with_(LOG, 7, hash="0" * 64), (7, "hash")),
    ("signature", with_(LOG, 7, signature=OTHER), (7, "signature")),
    ("signature of the last", with_(LOG, 40, signature=OTHER), (40, "signature")),
    ("number", with_(LOG, 7, seq=9), (7, "number")),
    ("number lowered", with_(LOG, 7, seq=3), (7, "number")),
    ("removed", [*LOG[:6], *LOG[7:]], (7, "missing")),
    ("beginning removed", LOG[3:], (1, "missing")),
    ("swapped", [*LOG[:6], LOG[7], LOG[6], *LOG[8:]], (7, "moved")),
    ("moved far", [*LOG[:6], *LOG[7:30], LOG[6], *LOG[30:]], (7, "moved")),
    ("repeated", [*LOG[:7], LOG[6], *LOG[7:]], (8, "inserted")),
    ("strange one inserted", [*LOG[:6], replace(LOG[19], seq=7), *LOG[6:]], (7, "inserted")),
    ("rewritten from 7 on", [*LOG[:6], *rechained(CHANGED[6:], LOG[5].link)], (7, "rewritten")),
    ("rewritten from 7 to 20", [*LOG[:6], *rechained(CHANGED[6:20], LOG[5].link), *LOG[20:]], (7, "rewritten")),
    ("removed and chained anew", [*LOG[:6], *rechained(LOG[7:], LOG[5].link)], (7, "rewritten")),
    ("only the last rewritten", [*LOG[:39], *rechained(LAST_CHANGED[39:], LOG[38].link)], (40, "signature")),
    ("of another party", records(40, BOB), (1, "rewritten")),
]  # fmt: skip


@pytest.mark.parametrize(("log", "where"), [t[1:] for t in TAMPERINGS], ids=[t[0] for t in TAMPERINGS])
@pytest.mark.parametrize("window", [1, 5, 4096])
def test_tampering_is_named_and_located(
    monkeypatch: pytest.MonkeyPatch, log: list[Record], where: tuple[int, str], window: int
) -> None:
    monkeypatch.setattr("coordinator.audit_verify.WINDOW", window)
    number, kind = fault(log)
    assert number == where[0]
    # with every signature checked one by one, nobody has looked yet at what follows a bad one
    assert kind == where[1] or (window < 40 and {kind, where[1]} == {"signature", "rewritten"})


def test_other_spellings_of_a_signature_are_none() -> None:
    """The last two digits of base64 hold four bits that mean nothing; a changed byte must be found all the same."""
    last = LOG[-1].signature
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    other = last[:85] + letters[letters.index(last[85]) ^ 1] + "=="
    assert base64.b64decode(other) == base64.b64decode(last)
    assert fault([*LOG[:-1], replace(LOG[-1], signature=other)]) == (40, "signature")


def test_heads_of_peers() -> None:
    heads = [witnessed(LOG[9]), witnessed(LOG[29], witness=CAROL)]
    assert check(LOG, heads=heads).confirmed == tuple(heads)
    assert fault(LOG[:20], heads=heads) == (21, "cut")
    piece = check(LOG[14:20], after=LOG[13].link, heads=heads, whole=False)
    assert (piece.fault, piece.confirmed, piece.elsewhere) == (None, (), 2)
    anew = [*LOG[:19], *records(21, after=LOG[18].link, word="rewritten by its own party")]
    assert check(anew).fault is None, "the party has the key: its own log proves nothing"
    assert fault(anew, heads=heads) == (30, "contradicted")
    assert "after record 10" in check(anew, heads=heads).fault.message  # type: ignore[union-attr]
    for lie in (
        heads[0].model_copy(update={"witness": witnessed(LOG[8]).witness}),
        heads[0].model_copy(update={"head": heads[1].head}),
        witnessed(LOG[9], signer=BOB),
        witnessed(LOG[9], witness=ALICE),
    ):
        assert fault(LOG, heads=[lie])[1] == "head"


Change = Callable[[list[Record]], list[Record]]


@st.composite
def tampered(draw: st.DrawFn) -> tuple[list[Record], list[Record]]:
    """A good log, and what was made of it without the key."""
    log = PIECES[draw(st.sampled_from(sorted(PIECES)))]
    k = draw(st.integers(1, len(log)))
    at = log[k - 1]
    how = draw(st.sampled_from(["content", "hash", "signature", "remove", "swap", "duplicate", "insert", "anew"]))
    if how in ("content", "hash", "signature"):
        text = getattr(at, how)
        place = draw(st.integers(0, len(text) - 1))
        char = draw(st.characters(codec="utf-8").filter(lambda c: c != text[place]))
        return log, with_(log, k, **{how: text[:place] + char + text[place + 1 :]})
    if how == "remove":
        many = draw(st.integers(1, len(log) - k + 1))
        return log, [*log[: k - 1], *log[k - 1 + many :]]
    if how == "swap":
        other = draw(st.integers(1, len(log)))
        first, second = sorted((k, other))
        new = list(log)
        new[first - 1], new[second - 1] = log[second - 1], log[first - 1]
        return log, new
    if how == "duplicate":
        place = draw(st.integers(0, len(log)))
        return log, [*log[:place], at, *log[place:]]
    strange = Record(
        k, draw(st.text(st.characters(codec="utf-8"))), draw(st.sampled_from([at.hash, "f" * 64])), at.signature
    )
    if how == "insert":
        return log, [*log[: k - 1], strange, *log[k - 1 :]]
    before = log[k - 2].link if k > 1 else GENESIS
    end = draw(st.integers(k, len(log)))
    return log, [*log[: k - 1], *rechained([strange, *log[k:end]], before), *log[end:]]


@settings(max_examples=300, deadline=None)
@given(tampered(), st.sampled_from([1, 3, 4096]), st.booleans())
def test_whatever_is_done_without_the_key_is_found_where_it_was_done(
    case: tuple[list[Record], list[Record]], window: int, every: bool
) -> None:
    log, new = case
    heads = [witnessed(log[-1])]  # a peer has seen the end
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("coordinator.audit_verify.WINDOW", window)
        verdict = check(new, heads=heads, every_signature=every)
    if new == log:
        assert verdict.fault is None
        return
    assert verdict.fault is not None
    same = next(
        (n for n, pair in enumerate(zip(log, new, strict=False), 1) if pair[0] != pair[1]), min(len(log), len(new)) + 1
    )
    assert verdict.fault.record == same
    assert verdict.last < verdict.fault.record


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    log = PIECES[7]
    return export(
        tmp_path_factory.mktemp("export") / "a.jsonl", log, [witnessed(log[3]), witnessed(log[6])]
    ).read_bytes()


@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_changed_byte_of_an_export_is_found_in_its_line(file: bytes, tmp_path: Path, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(file) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda b: b != file[place]))
    path = tmp_path / "b.jsonl"
    path.write_bytes(file[:place] + bytes([byte]) + file[place + 1 :])
    line = file[:place].count(b"\n") + 1
    try:
        found = Export(path).check(VERIFIER).fault
    except ExportError as e:
        assert "line 1" in str(e)
        assert line == 1
        return
    assert found is not None
    if 2 <= line <= 8:  # records 1 to 7
        assert found.record == line - 1


def test_another_time_in_the_end_line_is_found(file: bytes, tmp_path: Path) -> None:
    path = tmp_path / "b.jsonl"
    path.write_bytes(file.replace(b'{"end":{"at":1', b'{"end":{"at":2'))
    assert path.read_bytes() != file
    found = Export(path).check(VERIFIER).fault
    assert found is not None
    assert "SHA-256" in found.message


def test_exports_are_read_as_they_were_written(tmp_path: Path) -> None:
    heads = [witnessed(LOG[9]), witnessed(LOG[29])]
    whole = Export(export(tmp_path / "a.jsonl", LOG, heads))
    assert (whole.problems, whole.heads, list(whole.records()), whole.whole) == ([], heads, LOG, True)
    assert whole.check(VERIFIER).confirmed == tuple(heads)
    piece = Export(export(tmp_path / "b.jsonl", LOG[5:20], heads, after=LOG[4].link))
    assert (piece.check(VERIFIER).fault, len(piece.heads)) == (None, 1)
    empty = Export(export(tmp_path / "c.jsonl", []))
    assert (empty.check(VERIFIER).fault, empty.check(VERIFIER).records) == (None, 0)
    found = piece.check(VERIFIER, heads=[witnessed(LOG[25])]).fault
    assert found is not None
    assert found.kind == "cut"


def test_files_that_are_no_whole_export(tmp_path: Path) -> None:
    path = export(tmp_path / "a.jsonl", LOG, [witnessed(LOG[9])])
    lines = path.read_bytes().splitlines(keepends=True)

    def found(*parts: bytes) -> str:
        path.write_bytes(b"".join(parts))
        fault = Export(path).check(VERIFIER).fault
        return fault.message if fault else ""

    assert "the end line is missing" in found(*lines[:-1])
    assert "1 heads; the end line says 40, 1" not in found(*lines)
    assert "the end line says 40, 1" in found(*lines[:-2], lines[-1])
    assert "after the end line" in found(*lines, lines[-2])
    assert "the end line says" in found(*lines[:30], lines[-1])
    assert "the file was cut off" in found(*lines[:20], lines[20][:-5])
    assert "cut off" in found(*lines[:-1], lines[-1][:-1])
    with pytest.raises(ExportError, match="is empty"):
        found()
    with pytest.raises(ExportError, match="line 1: not the header"):
        found(b"nonsense\n")
    with pytest.raises(ExportError, match="longer than"):
        found(lines[0], b"x" * 5_000_000)


def test_a_header_of_another_consortium_or_key(tmp_path: Path) -> None:
    path = export(tmp_path / "a.jsonl", LOG)
    path.write_bytes(path.read_bytes().replace(ALICE.public.encode(), BOB.public.encode()))
    found = Export(path).check(VERIFIER).fault
    assert found is not None
    assert found.kind == "header"


def test_a_file_is_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    write_whole(path, [b"one\n"])
    assert path.stat().st_mode & 0o777 == 0o600

    def broken() -> object:
        yield b"two\n"
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_whole(path, broken())  # type: ignore[arg-type]
    assert path.read_bytes() == b"one\n"
    assert list(tmp_path.iterdir()) == [path]


def test_the_verifier_in_the_document_works(tmp_path: Path) -> None:
    """docs/audit.md promises that its bytes are enough: its own code must take our files, and refuse a changed one."""
    text = (Path(__file__).parents[2] / "docs" / "audit.md").read_text("utf-8")
    code = re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0]
    found: dict[str, Any] = {}
    exec(code, found)
    path = export(tmp_path / "a.jsonl", LOG, [witnessed(LOG[9])])
    lines = path.read_text("utf-8").splitlines()
    assert found["verify"](lines, ALICE.public) == 40
    piece = export(tmp_path / "b.jsonl", LOG[9:20], after=LOG[8].link)
    assert found["verify"](piece.read_text("utf-8").splitlines(), ALICE.public) == 20
    lines[5] = lines[5].replace("record", "rekord")
    with pytest.raises(AssertionError):
        found["verify"](lines, ALICE.public)


def test_the_bytes_of_heads_are_as_documented() -> None:
    """Signed here without our code for heads."""
    head, witness = witnessed(LOG[9]).head, witnessed(LOG[9]).witness
    said = {"at": NOW, "consortium": "demo", "hash": LOG[9].hash, "party": "alice", "seq": 10}
    assert head.signature == ALICE.raw(b"consortium audit head v1\n", canonical(said))
    about = {"at": NOW + 1, "by": "bob", "consortium": "demo", "head": head.model_dump()}
    assert witness.signature == BOB.raw(b"consortium audit counter-signature v1\n", canonical(about))
