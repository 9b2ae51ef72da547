"""Errors that tell a person what is wrong, where, with which value, what would be allowed and how
to mend it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_DOCUMENTS = 3
EXIT_UNREACHABLE = 4
EXIT_REFUSED = 5
EXIT_TIMEOUT = 6
EXIT_DRIFT = 7

EXIT_CODES: Mapping[int, str] = {
    EXIT_OK: "ok",
    EXIT_FAILED: "failed",
    EXIT_USAGE: "wrong usage of the command",
    EXIT_DOCUMENTS: "errors in consortium.yaml, a party file or stack settings",
    EXIT_UNREACHABLE: "cannot reach what the command speaks to",
    EXIT_REFUSED: "refused by the other side",
    EXIT_TIMEOUT: "not done in time",
    EXIT_DRIFT: "something is not as its documents say",
}
"""The command's exit codes; they are stable."""


class ConsortiumError(Exception):
    """The base of every error this package raises on purpose.

    `what` is one sentence; the rest may be empty: `where` (file and field, or host), `value` (what
    was found, never a secret), `allowed` (what would be accepted), `fix` (what to do next).
    """

    exit_code: ClassVar[int] = EXIT_FAILED

    def __init__(self, what: str, *, where: str = "", value: str = "", allowed: str = "", fix: str = "") -> None:
        self.what = what
        self.where = where
        self.value = value
        self.allowed = allowed
        self.fix = fix
        super().__init__(what)

    def __reduce__(self) -> tuple[Any, ...]:
        # Keyword-only arguments are lost by the default pickling; Pulumi's dynamic providers send
        # errors around.
        return (_rebuild, (type(self), self.__dict__.copy()))

    def __str__(self) -> str:
        lines = [f"{self.where}: {self.what}" if self.where else self.what]
        for label, text in (("found", self.value), ("allowed", self.allowed), ("fix", self.fix)):
            if text:
                lines.append(f"  {label}: {_indent(text)}")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, str]:
        """The error for `--json`; empty parts are left out."""
        parts = {
            "what": self.what,
            "where": self.where,
            "value": self.value,
            "allowed": self.allowed,
            "fix": self.fix,
        }
        return {name: text for name, text in parts.items() if text}


class UsageError(ConsortiumError):
    """The command was called with arguments that do not fit together."""

    exit_code = EXIT_USAGE


class Unreachable(ConsortiumError):
    """Nobody answers at an address."""

    exit_code = EXIT_UNREACHABLE


class Refused(ConsortiumError):
    """The other side understood and said no."""

    exit_code = EXIT_REFUSED


class TimedOut(ConsortiumError):
    """Something was not done in the time given."""

    exit_code = EXIT_TIMEOUT


class Problem(ConsortiumError):
    """One error in one document; collected, not raised alone."""

    exit_code = EXIT_DOCUMENTS


class Problems(ConsortiumError):
    """Several problems found in one look, in one report."""

    def __init__(self, what: str, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(what)

    def __str__(self) -> str:
        return "\n".join([f"{self.what}:", *(str(problem) for problem in self.problems)])

    def as_dict(self) -> dict[str, Any]:
        return {"what": self.what, "problems": [problem.as_dict() for problem in self.problems]}


class DocumentErrors(Problems):
    """All problems of all documents in one report."""

    exit_code = EXIT_DOCUMENTS

    def __init__(self, problems: Iterable[Problem]) -> None:
        found = tuple(problems)
        super().__init__(f"{len(found)} error{'s' if len(found) != 1 else ''} in the documents", found)


def _indent(text: str) -> str:
    return text.replace("\n", "\n    ")


def _rebuild(cls: type[ConsortiumError], state: dict[str, Any]) -> ConsortiumError:
    error = cls.__new__(cls)
    Exception.__init__(error, state["what"])
    error.__dict__.update(state)
    return error
