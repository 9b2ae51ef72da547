"""Digests of the access log: nothing is left out or counted twice, through rotations; what is lost is said."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from audit_builders import ALICE, NOW
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.access_log import KIND, Piece, check_access_logs, content_of, new_pieces
from coordinator.audit import GENESIS, Record, append


class Gateway:
    """Writes and rotates as the real one does; digests as the coordinator does."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "access.log"
        self.pieces: list[Piece] = []
        self.count = 0

    def write(self, text: str) -> None:
        with self.path.open("a") as file:
            file.write(text)

    def line(self) -> None:
        self.count += 1
        self.write(f"line {self.count}\n")

    def rotate(self, keep: int = 10) -> None:
        for k in range(keep - 1, 0, -1):
            old = self.path.with_name(f"access.log.{k}")
            if old.exists():
                old.rename(self.path.with_name(f"access.log.{k + 1}"))
        self.path.rename(self.path.with_name("access.log.1"))
        os.utime(self.path.with_name("access.log.1"), (time.time() - 60, time.time() - 60))

    def digest(self) -> list[Piece]:
        new = new_pieces(self.path, self.pieces[-1] if self.pieces else None)
        self.pieces += new
        return new

    def records(self) -> list[Record]:
        made: list[Record] = []
        for piece in self.pieces:
            event = {"at": NOW, "kind": KIND, "reason": "", "day": "2026-11-24", **content_of(piece)}
            made.append(append(made[-1].link if made else GENESIS, event, ALICE))
        return made


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    return Gateway(tmp_path / "log")


def spans(pieces: list[Piece]) -> list[tuple[int, int, int, int]]:
    return [(p.file, p.start, p.end, p.lines) for p in pieces]


def test_pieces_follow_one_another(gateway: Gateway) -> None:
    assert gateway.digest() == []
    gateway.line()
    assert spans(gateway.digest()) == [(1, 0, 7, 1)]
    assert gateway.digest() == []
    gateway.write("half a l")
    assert gateway.digest() == []
    gateway.write("ine\n")
    assert spans(gateway.digest()) == [(1, 7, 19, 1)]
    gateway.write("the last\n")
    gateway.rotate()
    gateway.line()
    gateway.rotate()
    assert spans(gateway.digest()) == [(1, 19, 28, 1), (2, 0, 7, 1)], "no current file yet"
    gateway.line()
    assert spans(gateway.digest()) == [(3, 0, 7, 1)]
    assert not any(p.problem for p in gateway.pieces)


def test_a_file_just_put_aside_is_not_left_before_it_is_quiet(gateway: Gateway) -> None:
    gateway.line()
    gateway.digest()
    gateway.rotate()
    aside = gateway.path.with_name("access.log.1")
    with aside.open("a") as file:  # the gateway has not opened the new file yet
        file.write("late\n")
    gateway.line()
    assert spans(gateway.digest()) == [(1, 7, 12, 1)]
    with aside.open("a") as file:
        file.write("later\n")
    os.utime(aside, (time.time() - 60, time.time() - 60))
    assert spans(gateway.digest()) == [(1, 12, 18, 1), (2, 0, 7, 1)]


LOSSES = [
    ("deleted", lambda g: g.path.unlink(), "is gone"),
    ("cut", lambda g: g.path.write_text("x\n"), "was cut"),
    ("changed", lambda g: g.path.write_text("lime 1\nline 2\nline 3\n"), "was changed"),
]


@pytest.mark.parametrize(("lose", "why"), [x[1:] for x in LOSSES], ids=[x[0] for x in LOSSES])
def test_losses_are_said(gateway: Gateway, lose, why: str) -> None:  # type: ignore[no-untyped-def]
    gateway.line()
    gateway.line()
    gateway.digest()
    lose(gateway)
    found = gateway.digest()
    assert why in found[0].problem
    if why != "is gone":
        assert (found[0].file, found[0].start) == (2, 0)
        gateway.line()
        assert [p.problem for p in gateway.digest()] == [""]


def test_too_many_rotations_lose_a_file(gateway: Gateway) -> None:
    gateway.line()
    gateway.digest()
    for _ in range(4):
        gateway.line()
        gateway.rotate(keep=2)
        if (third := gateway.path.with_name("access.log.3")).exists():
            third.unlink()
    gateway.line()
    found = gateway.digest()
    assert "is gone" in found[0].problem or "replaced" in found[0].problem, (
        "a new file may get the inode of the old one"
    )
    assert sum(p.lines for p in found) == 3, "what is still there is digested"


def test_files_are_checked_against_the_digests(gateway: Gateway, tmp_path: Path) -> None:
    for _ in range(3):
        gateway.line()
        gateway.digest()
    gateway.rotate()
    gateway.line()
    gateway.digest()
    gateway.line()
    records, aside = gateway.records(), gateway.path.with_name("access.log.1")
    good = check_access_logs(records, [aside, gateway.path])
    assert good["fault"] == ""
    assert [(f["number"], f["pieces"], f["not_digested"]) for f in good["files"]] == [(1, 3, 0), (2, 1, 7)]
    whole = aside.read_text()
    for changed, text in (
        (whole.replace("line 2", "lime 2"), "bytes 7 to 14 are not what audit record 2 says"),
        (whole.replace("line 1", "lime 1"), "bytes 0 to 7 are not what audit record 1 says"),
        (whole.replace("line 3\n", ""), "bytes 14 to 21 are not what audit record 3 says"),
    ):
        aside.write_text(changed)
        assert text in check_access_logs(records, [aside])["fault"]
    other = tmp_path / "other.log"
    other.write_text("of somebody else\n")
    assert "fits any digest" in check_access_logs(records, [other])["fault"]
    gateway.path.unlink()
    gateway.digest()
    assert any("is gone" in p for p in check_access_logs(gateway.records(), [])["problems"])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["line", "digest", "rotate"]), max_size=40))
def test_every_line_is_in_exactly_one_piece(tmp_path_factory: pytest.TempPathFactory, steps: list[str]) -> None:
    gateway = Gateway(tmp_path_factory.mktemp("log"))
    rotations = 0
    for step in steps:
        if step != "rotate":
            getattr(gateway, step)()
        elif gateway.path.exists() and rotations < 9:
            gateway.rotate()
            rotations += 1
    gateway.digest()
    assert sum(p.lines for p in gateway.pieces) == gateway.count
    assert not any(p.problem for p in gateway.pieces)
