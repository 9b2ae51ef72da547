"""What the party file tells of a CSV table: the names of its columns, and the type of each that holds no text."""

from __future__ import annotations

import csv
import math
from itertools import islice
from pathlib import Path
from typing import Any

from consortium.spec import ColumnType

_LINE = 100_000
_ROWS = 1000
_DIGITS = 19  # what has fewer fits into 64 bits


def described(path: Path) -> dict[str, Any]:
    """`columns` and `types` for a spec.Dataset, from the first thousand rows; none if it cannot be read yet.

    No value leaves this function. What is no number in every one of these rows is text; so is an empty column.
    """
    nothing: dict[str, Any] = {"columns": [], "types": {}}
    if path.suffix != ".csv":
        return nothing
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = iter(lambda: file.readline(_LINE), "")
            rows = list(islice(csv.reader(lines), _ROWS + 1))
    except (OSError, UnicodeDecodeError, csv.Error):
        return nothing
    names = [name.strip() for name in rows[0]] if rows else []
    found: dict[str, ColumnType] = {}
    for place, name in enumerate(names):
        held = [row[place].strip() for row in rows[1:] if place < len(row)]
        if name and (kind := _type(held)):
            found[name] = kind
    return {"columns": [name for name in names if name], "types": found}


def _type(held: list[str]) -> ColumnType | None:
    if not held:
        return None
    if all(map(_is_whole, held)):
        return "int"
    return "float" if all(map(_is_number, held)) else None


def _is_whole(text: str) -> bool:
    """A number that is spelt as a number would be: 007 is somebody's code."""
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdecimal() and len(digits) < _DIGITS):
        return False
    return text == str(int(text))


def _is_number(text: str) -> bool:
    try:
        number = float(text)
    except ValueError:
        return False
    leading_zeros = len(text) > 1 and text[0] == "0" and text[1].isdecimal()
    return math.isfinite(number) and text.isascii() and not leading_zeros and "_" not in text
