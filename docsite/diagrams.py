"""State diagrams as tables: the library that draws them is large, and would have to come from elsewhere."""

from __future__ import annotations

import re

_DIAGRAM = re.compile(r"^```mermaid\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_ARROW = re.compile(r"\s*(\S+) --> (\S+)\s*")


def as_tables(text: str) -> str:
    """The document with each state diagram as a table. ValueError for a diagram of another kind: draw it as SVG."""
    return _DIAGRAM.sub(lambda match: _table(match[1]), text)


def _table(diagram: str) -> str:
    first, *lines = diagram.strip().splitlines()
    arrows = [_ARROW.fullmatch(line) for line in lines]
    if first.strip() != "stateDiagram-v2" or not all(arrows):
        raise ValueError(f"only state diagrams with plain arrows can be shown: {first.strip()} has something else")
    following: dict[str, list[str]] = {}
    for arrow in arrows:
        assert arrow is not None
        following.setdefault(arrow[1], []).append(arrow[2])
    rows = [f"| {_state(state)} | {', '.join(map(_state, after))} |" for state, after in following.items()]
    return "\n".join(["| from | to |", "|---|---|", *rows])


def _state(name: str) -> str:
    return "*begin*" if name == "[*]" else f"`{name}`"
