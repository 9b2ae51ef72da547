"""The pages of the reference. They are made from the code at each build; no copy is kept."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from docsite import commands, documents, interfaces, roles, timeouts

PAGES: dict[str, Callable[[], str]] = {
    "reference/command.md": commands.page,
    **{f"reference/{name}.md": partial(documents.page, name) for name in documents.DOCUMENTS},
    "reference/timeouts.md": timeouts.page,
    "reference/roles.md": roles.page,
    "reference/operator-api.md": partial(
        interfaces.page, "operator", "How a program uses it: [the operator's interface](../api.md)."
    ),
    "reference/peer-api.md": partial(
        interfaces.page, "peer", "What its messages mean: [the protocol](../protocol.md)."
    ),
}
"""Page → what makes its text."""
