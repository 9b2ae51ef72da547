"""Links of a document as the site has them. In the repository they lead to files; on the site those must be pages."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
ADOPTED = {"CHANGELOG.md": "changes.md", "CONTRIBUTING.md": "contributing.md", "README.md": "index.md"}
"""Documents outside docs/ that have a page of their own: path in the repository → page."""

_FENCE = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(\]\()([^)\s#]+)((?:#[^)\s]*)?\))")


def outside(text: str, origin: str) -> Iterator[str]:
    """Paths in the repository, outside docs/ and without a page of their own, that a document links to.

    `origin` is the document's own path in the repository.
    """
    for match in _LINK.finditer(_FENCE.sub("", text)):
        path = _in_repository(match[2], origin)
        if path is not None and path not in ADOPTED and not path.startswith("docs/"):
            yield path


def for_site(text: str, origin: str, page: str) -> str:
    """The document with links that the site can follow; code is left as it is. `page`: where it stands on the site."""
    return _outside_of_code(text, lambda part: _LINK.sub(lambda match: _rewritten(match, origin, page), part))


def source_page(path: str) -> str:
    """Where the site shows a file or folder of the repository."""
    return f"source/{path}.md"


def _rewritten(match: re.Match[str], origin: str, page: str) -> str:
    path = _in_repository(match[2], origin)
    if path is None:
        return match[0]
    target = path.removeprefix("docs/") if path.startswith("docs/") else ADOPTED.get(path, source_page(path))
    if target == "adr":  # the folder: its first page
        target = "adr/0001-record-decisions.md"
    return match[1] + posixpath.relpath(target, posixpath.dirname(page)) + match[3]


def _in_repository(target: str, origin: str) -> str | None:
    """None for an address elsewhere."""
    if re.match(r"[a-z]+:", target):
        return None
    return posixpath.normpath(posixpath.join(posixpath.dirname(origin), target))


def _outside_of_code(text: str, change: Callable[[str], str]) -> str:
    done, at = [], 0
    for fence in _FENCE.finditer(text):
        done += [change(text[at : fence.start()]), fence[0]]
        at = fence.end()
    return "".join([*done, change(text[at:])])
