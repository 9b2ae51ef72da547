"""How a proposal and its program look to the person who approves: every character visible, every change shown."""

from __future__ import annotations

import time
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from rich.markup import escape
from rich.syntax import Syntax

from consortium.cli._common import out, say, visible


class Part(StrEnum):
    """How much of a program is shown."""

    CHANGED = "changed"  # the diff, and the whole text of what changed; everything if there is nothing to compare
    DIFF = "diff"  # the diff alone; everything if there is nothing to compare
    ALL = "all"  # the diff, and every file


def proposal(job: Mapping[str, Any]) -> None:
    """What a person needs to know before a yes or no."""
    asked = job["proposal"]
    say(f"job        {visible(str(job['job_id']))}")
    say(f"initiator  {visible(str(job['initiator']))}")
    for name in (
        "name",
        "description",
        "parties",
        "datasets",
        "parameters",
        "versions",
        "max_attempts",
        "priority",
        "program_digest",
    ):
        if asked.get(name):
            say(f"{name:10} {visible(str(asked[name]))}")


def program(answer: Mapping[str, Any], part: Part) -> None:
    """The program's text, and what is different from the last approved one."""
    files, previous = answer["files"], answer["previous"]
    if previous is None:
        _rule("first of this name: nothing to compare with")
        changed = set(files)
    else:
        changed = set(previous["diff"])
        _compared(previous)
    if previous is None or part is not Part.DIFF:
        shown = {name: text for name, text in files.items() if part is Part.ALL or name in changed}
        for name, text in sorted(shown.items()):
            _rule(name)
            out.print(Syntax(visible(text), "python", line_numbers=True, word_wrap=True), soft_wrap=False)
        if same := sorted(set(files) - set(shown)):
            _rule(f"not shown, because unchanged: {', '.join(same)}")
    out.rule()


def _compared(previous: Mapping[str, Any]) -> None:
    day = time.strftime("%Y-%m-%d %H:%M", time.localtime(float(previous["approved_at"])))
    _rule(f"compared with {previous['job_id']} of {previous['initiator']}, approved {day} by {previous['by']}")
    texts = [*([previous["proposal_diff"]] if previous["proposal_diff"] else []), *previous["diff"].values()]
    for text in texts:
        for line in text.removesuffix("\n").split("\n"):  # only these end a line; visible() spells out the others
            _diff_line(line)
    if not texts:
        say("nothing changed")


def _diff_line(line: str) -> None:
    colour = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1])
    safe = escape(visible(line))
    out.print(f"[{colour}]{safe}[/]" if colour else safe)


def _rule(title: str) -> None:
    out.rule(escape(visible(title)))
