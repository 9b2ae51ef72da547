"""A diff shows every changed line: whoever approves by it must not miss one."""

from __future__ import annotations

import time
from typing import Any

import pytest
from builders import proposal
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator import compare
from coordinator.compare import changed_files, changed_terms
from coordinator.statements import ProposalBody

OLD = "a\nb\nc\nd\ne\nf\ng\nh\n"


def diff(old: str | bytes | None, new: str | bytes | None) -> str:
    """The diff of one file."""
    sides = [{} if c is None else {"x": c.encode() if isinstance(c, str) else c} for c in (old, new)]
    return changed_files(*sides).get("x", "")


@pytest.mark.parametrize(
    ("old", "new", "wanted"),
    [
        ("same", "same", ""),
        (
            OLD,
            OLD.replace("e", "E"),
            "--- a/x\n+++ b/x\n@@ -2,7 +2,7 @@\n b\n c\n d\n-e\n+E\n f\n g\n h\n",
        ),
        (None, "a\nb\n", "--- /dev/null\n+++ b/x\n@@ -0,0 +1,2 @@\n+a\n+b\n"),
        ("a\n", None, "--- a/x\n+++ /dev/null\n@@ -1 +0,0 @@\n-a\n"),
        ("a\n", "a", "--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+a\n\\ No newline at end of file\n"),
        ("a\r\n", "a\n", "--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\r\n+a\n"),
    ],
    ids=["same", "one line", "new", "removed", "last line feed", "carriage return"],
)
def test_diffs(old: str | None, new: str | None, wanted: str) -> None:
    assert diff(old, new) == wanted


def test_a_new_or_removed_empty_file_is_named() -> None:
    assert list(changed_files({}, {"x": b""})) == ["x"]
    assert list(changed_files({"x": b""}, {})) == ["x"]


@pytest.mark.parametrize("content", [b"\xff\xfe", b"a\0b"])
def test_what_is_no_text_is_told_by_its_digest(content: bytes) -> None:
    shown = diff("a\n", content)
    assert "not text: 2 bytes, SHA-256 " in shown
    assert f"-> {len(content)} bytes" in shown
    assert "no file" in diff(None, content)


def test_only_line_feeds_end_a_line() -> None:
    """A line that a terminal may show as two is still one, and is shown when it changes."""
    assert "-a\u2028b" in diff("a\u2028b\n", "a\u2028c\n")
    assert "+a\x0bx" in diff("a\n", "a\x0bx\n")


TEXTS = st.lists(st.sampled_from(["a", "b", "c", "\t", "", "+x", "--- y", "@@ -1 +1 @@"]), max_size=12)


@settings(max_examples=60, deadline=None)
@given(old=TEXTS, new=TEXTS, whole=st.booleans())
def test_a_diff_makes_the_new_file_from_the_old_one(old: list[str], new: list[str], whole: bool) -> None:
    if old == new:
        return
    before, after = ("".join(f"{line}\n" for line in lines) for lines in (old, new))
    text = compare.unified(old, new, "a/x", "b/x", 0 if whole else compare.LINE_PAIRS)[0]
    assert _applied(before, text) == after


def _applied(before: str, text: str) -> str:
    """As a patch program reads it, strictly: every kept and removed line must be where the diff says."""
    lines, out, at, body = before.split("\n")[:-1], [], 0, text.split("\n")[2:-1]
    for line in body:
        if line.startswith("@@"):
            start, _, count = line.split(" ")[1][1:].partition(",")
            begin = int(start) - (0 if count == "0" else 1)
            out += lines[at:begin]
            at = begin
        elif line.startswith("+"):
            out.append(line[1:])
        else:
            assert lines[at] == line[1:]
            at += 1
            if line.startswith(" "):
                out.append(line[1:])
    return "".join(f"{line}\n" for line in [*out, *lines[at:]])


def test_strangers_files_cost_bounded_time() -> None:
    import random

    words = [str(n) for n in range(150)]
    chance = random.Random(1)
    old, new = ("\n".join(chance.choices(words, k=20_000)).encode() for _ in range(2))
    began = time.monotonic()
    shown = changed_files({"x": old, "y": old[:5000]}, {"x": new, "y": new[:5000]})
    assert time.monotonic() - began < 5
    assert shown["x"].count("\n+") >= 19_000
    assert "-" in shown["y"]


def test_terms_are_compared_but_not_times() -> None:
    def body(**fields: Any) -> ProposalBody:
        found = proposal(**fields).body
        assert isinstance(found, ProposalBody)
        return found

    assert changed_terms(body(), body(created_at=5.0, description="other", program_digest="b" * 64)) == ""
    shown = changed_terms(body(parameters={"rows": 1}), body(parameters={"rows": 2}, datasets={"bob": ["x"]}))
    assert '-  "rows": 1' in shown
    assert '+  "rows": 2' in shown
    assert '+   "x"' in shown
