"""What was seen of each case, kept as JSON: a later run replaces its own cases and leaves the others."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from consortium import files
from consortium.folders import INSTALLATION
from testing.matrix.cases import Case

KEPT = INSTALLATION / "docs" / "faults.json"
_PRIVATE = (
    (re.compile(r"\d{8}-[a-z0-9-]+-[a-z2-7]{6}(?:-\d+)?"), "JOB"),
    (re.compile(r"\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?"), "ADDRESS"),
    (re.compile(r"\bt-[0-9a-f]{8}\b"), "CONSORTIUM"),
    (re.compile(r"\b[0-9a-f]{64}\b"), "DIGEST"),
)


class Seen(BaseModel):
    """What came of one case."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    says: str
    """What the fault said it did."""
    struck_in: str
    """Phase of the job at the struck party when the fault was in force."""
    ended: dict[str, str]
    """Party → phase in which the job ended there."""
    causes: dict[str, str]
    """Party → code and text of its own signed outcome; or, without one, the reason."""
    seconds: float
    problems: list[str]
    """What was not as it must be; empty: all was well."""

    @property
    def passed(self) -> bool:
        return not self.problems


class Results(BaseModel):
    """All that was seen, by the key of the case."""

    model_config = ConfigDict(extra="forbid")

    cases: dict[str, Seen] = {}

    @classmethod
    def read(cls, path: Path = KEPT) -> Results:
        """What is kept; nothing if there is no file. Raises ValidationError for another file."""
        return cls.model_validate_json(path.read_bytes()) if path.exists() else cls()

    def add(self, case: Case, seen: Seen, path: Path = KEPT) -> None:
        """Keep it, on disk too."""
        self.cases[case.key] = seen
        ordered = Results(cases=dict(sorted(self.cases.items())))
        files.write(path, ordered.model_dump_json(indent=1) + "\n")


def plain(text: str) -> str:
    """Without what differs from run to run: names of jobs, addresses, digests."""
    for pattern, word in _PRIVATE:
        text = pattern.sub(word, text)
    return text[:400]
