"""Writes the public file of the own party."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from consortium import files
from consortium.errors import DocumentErrors
from consortium.spec import Party
from consortium.stackfile import dump
from consortium.validation import validate
from consortium.yamlfile import YamlFile

HEADER = """\
# The public face of {party}: only {party} edits it, everybody holds a copy. It contains no secret.
"""


def checked(public: Mapping[str, Any], party: str) -> Party:
    """The model of a party file that is to be written. Raises DocumentErrors."""
    file = YamlFile(f"parties/{party}.yaml")
    made = validate(Party, dict(public), file)
    if made is None:
        raise DocumentErrors(file.problems)
    return made


def write_party(path: Path, public: Mapping[str, Any], old: Party | None) -> bool:
    """Write the party file unless it says the same as `old`. Returns whether it changed. Raises DocumentErrors."""
    made = checked(public, path.stem)
    return made != old and files.write(path, HEADER.format(party=made.party) + dump(dict(public)))
