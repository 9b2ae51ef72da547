"""What check mode says a task would change, as unified diffs. Contents of secret files are never among it: the modules
that lay files say only that they differ (roles/base/library/node_files.py), and a task with `no_log` says nothing.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from consortium.text import visible

SHOW_DIFF = "CONSORTIUM_SHOW_DIFF"
"""Set in Pulumi's environment by those commands that show what Ansible would change, line by line."""
DIFF_OF = "diff of "
"""How a message of Pulumi begins that holds such a diff: then host, task, and from the second line on the diff."""
MAX_LINES = 400
"""Of one file; what is cut is counted."""


def unified(result: Mapping[str, Any]) -> tuple[str, ...]:
    """One unified diff for each thing that a task's result says would change."""
    diffs = result.get("diff") or []
    return tuple(
        "\n".join(_one(diff)) for diff in (diffs if isinstance(diffs, list) else [diffs]) if isinstance(diff, dict)
    )


def _one(diff: Mapping[str, Any]) -> Iterator[str]:
    before, after = _text(diff.get("before")), _text(diff.get("after"))
    old, new = (str(diff.get(f"{side}_header") or side) for side in ("before", "after"))
    lines = list(difflib.unified_diff(before.splitlines(), after.splitlines(), old, new, lineterm=""))
    # Equal texts: mode, owner or a file's being there differ, which stands in the headers; or it is a secret.
    lines = lines or [f"--- {old}", f"+++ {new}", *(f" {line}" for line in after.splitlines())]
    yield from (visible(line) for line in lines[:MAX_LINES])
    if len(lines) > MAX_LINES:
        yield f"… {len(lines) - MAX_LINES} more lines"


def _text(side: Any) -> str:
    """Some modules give a map in place of a text."""
    return side if isinstance(side, str) else "" if side is None else json.dumps(side, indent=1, sort_keys=True)
