"""What changed between two job folders, as unified diffs: pure, and bounded in time whatever strangers send.

A diff may be longer than it need be, but it never leaves out a line that changed.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence

from coordinator.statements import ProposalBody

CONTEXT_LINES = 3
LINE_PAIRS = 4_000_000
"""Pairs of lines that are compared for the shortest diff, over all files; beyond, what differs is shown whole."""
_NOT_TERMS = frozenset({"description", "program_digest", "bundle_bytes", "created_at", "deadline"})


def changed_files(old: Mapping[str, bytes], new: Mapping[str, bytes]) -> dict[str, str]:
    """Path -> unified diff, for every file that is not byte for byte the same."""
    left = LINE_PAIRS
    found = {}
    for path in sorted({*old, *new}):
        before, after = old.get(path), new.get(path)
        if before == after:
            continue
        lines_before, lines_after = _lines(before), _lines(after)
        if lines_before is None or lines_after is None:
            found[path] = f"--- {_named('a', path, before)}\n+++ {_named('b', path, after)}\n{_sizes(before, after)}\n"
            continue
        names = _named("a", path, before), _named("b", path, after)
        text, pairs = unified(lines_before, lines_after, *names, left)
        left -= pairs
        found[path] = text
    return found


def changed_terms(old: ProposalBody, new: ProposalBody) -> str:
    """Unified diff of what is proposed besides the files; empty when nothing differs."""
    before, after = (_pretty(body) for body in (old, new))
    return unified(before, after, "a/proposal", "b/proposal", LINE_PAIRS)[0]


def unified(old: Sequence[str], new: Sequence[str], old_name: str, new_name: str, left: int) -> tuple[str, int]:
    """The diff of two texts, empty when they are the same, and how many pairs of lines it took, at most `left`."""
    begin = _common(old, new)
    end = _common(old[begin:][::-1], new[begin:][::-1])
    pairs = (len(old) - begin - end) * (len(new) - begin - end)
    if pairs <= left:
        # trimmed to what differs and its surroundings: the rest costs time and shows nothing
        first = max(begin - CONTEXT_LINES, 0)
        last = max(end - CONTEXT_LINES, 0)
        diff = difflib.unified_diff(
            old[first : len(old) - last], new[first : len(new) - last], old_name, new_name, n=CONTEXT_LINES, lineterm=""
        )
        return _joined(_shifted(diff, first)), pairs
    head = f"@@ -{begin + 1},{len(old) - begin - end} +{begin + 1},{len(new) - begin - end} @@"
    gone = (f"-{line}" for line in old[begin : len(old) - end])
    come = (f"+{line}" for line in new[begin : len(new) - end])
    return _joined([f"--- {old_name}", f"+++ {new_name}", head, *gone, *come]), 0


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """How many lines both begin with."""
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _shifted(diff: Iterator[str], by: int) -> Iterator[str]:
    """The diff of a part, with line numbers of the whole."""
    for number, line in enumerate(diff):
        if number < 2 or not line.startswith("@@"):
            yield line
            continue
        marks = []
        for mark in line.split(" ")[1:3]:
            start, comma, count = mark[1:].partition(",")
            marks.append(f"{mark[0]}{int(start) + by}{comma}{count}")
        yield f"@@ {' '.join(marks)} @@"


def _joined(lines: Sequence[str] | Iterator[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _lines(content: bytes | None) -> list[str] | None:
    """Lines of a text, split at line feeds only; a last line without one says so. None for what is no text."""
    if content is None or content == b"":
        return []
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        return None
    if "\0" in text:
        return None
    lines = text.split("\n")
    return lines[:-1] if lines[-1] == "" else [*lines[:-1], f"{lines[-1]}\n\\ No newline at end of file"]


def _named(side: str, path: str, content: bytes | None) -> str:
    return "/dev/null" if content is None else f"{side}/{path}"


def _sizes(old: bytes | None, new: bytes | None) -> str:
    told = ["no file" if c is None else f"{len(c)} bytes, SHA-256 {hashlib.sha256(c).hexdigest()}" for c in (old, new)]
    return f"not text: {told[0]} -> {told[1]}"


def _pretty(body: ProposalBody) -> list[str]:
    terms = body.model_dump(mode="json", exclude=set(_NOT_TERMS))
    return json.dumps(terms, indent=1, sort_keys=True, ensure_ascii=False).split("\n")
