"""Changes and errors as a comment or an issue in Markdown. Pure.

All that is not ours stands in fenced blocks whose fence is longer than any inside them: nothing in a peer's file can
end the block, mention a person or place a link.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from consortium.changes import Changes
from consortium.errors import ConsortiumError
from consortium.text import visible

MAX_CHARACTERS = 60_000
"""GitHub takes 65,536, GitLab more."""


def changes_report(title: str, found: Changes, *, clean: str) -> str:
    """`clean` is the sentence when nothing would change. At most MAX_CHARACTERS."""
    lines = [f"### {title}", ""]
    if not found:
        lines += [clean, *_listed(found.reasons)]
        return "\n".join([*lines, ""])
    lines += [f"{len(found.resources)} to change, {found.unchanged} unchanged", ""]
    lines += _fenced("\n".join(f"{change.op:8} {change.kind:14} {change.name}" for change in found.resources))
    lines += _listed(found.reasons)
    if found.ansible:
        lines += ["", "#### What Ansible would change"]
    text = "\n".join(lines)
    for index, change in enumerate(found.ansible):
        summary = _escaped(f"{change.host}: {change.task}")
        block = ["", "", f"<details><summary><code>{summary}</code></summary>", "", *_fenced(change.diff, "diff")]
        part = "\n".join([*block, "", "</details>"])
        if len(text) + len(part) > MAX_CHARACTERS:
            left = len(found.ansible) - index
            return f"{text}\n\n{left} more: `consortium preview --party {found.party} --diff` shows all.\n"
        text += part
    return text + "\n"


def error_report(title: str, error: ConsortiumError) -> str:
    """An error in place of the changes."""
    text = visible(str(error))
    cut = text if len(text) <= MAX_CHARACTERS - 1000 else text[: MAX_CHARACTERS - 1000] + "\n…"
    return "\n".join([f"### {title}", "", "This failed:", "", *_fenced(cut), ""])


def _listed(reasons: tuple[str, ...]) -> Iterator[str]:
    if reasons:
        text = visible("\n".join(reason for reason in reasons))
        yield from ("", *_fenced(text if len(text) < MAX_CHARACTERS // 2 else text[: MAX_CHARACTERS // 2] + "\n…"))


def _fenced(text: str, language: str = "text") -> Iterator[str]:
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    yield from (f"{fence}{language}", text, fence)


def _escaped(text: str) -> str:
    return visible(text).replace("&", "&amp;").replace("<", "&lt;").replace("\n", " ").replace("@", "&#64;")
