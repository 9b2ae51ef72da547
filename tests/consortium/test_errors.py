"""An error is for a person: it names the thing, the value, what is allowed and what to do."""

from __future__ import annotations

import pickle
from pathlib import Path

from consortium.errors import (
    EXIT_CODES,
    ConsortiumError,
    DocumentErrors,
    Problem,
    Refused,
    TimedOut,
    Unreachable,
    UsageError,
)
from consortium.yamlfile import YamlFile, dotted, shorten


def test_every_part_is_printed_and_empty_ones_are_not() -> None:
    error = ConsortiumError("is wrong", where="a.yaml: b", value="1\n2", allowed="3", fix="write 3")
    assert str(error) == "a.yaml: b: is wrong\n  found: 1\n    2\n  allowed: 3\n  fix: write 3"
    assert str(ConsortiumError("alone")) == "alone"
    assert ConsortiumError("alone", fix="x").as_dict() == {"what": "alone", "fix": "x"}


def test_errors_survive_pickling() -> None:
    error = pickle.loads(pickle.dumps(UsageError("w", where="x", fix="f")))
    assert (type(error), str(error)) == (UsageError, "x: w\n  fix: f")


def test_a_report_holds_every_problem() -> None:
    report = DocumentErrors([Problem("a", where="x"), Problem("b", where="y")])
    assert str(report) == "2 errors in the documents:\nx: a\ny: b"
    assert report.as_dict()["problems"] == [{"what": "a", "where": "x"}, {"what": "b", "where": "y"}]
    assert str(DocumentErrors([Problem("a")])).startswith("1 error in")


def test_exit_codes_are_documented_and_stable() -> None:
    classes = [ConsortiumError, UsageError, DocumentErrors, Unreachable, Refused, TimedOut]
    assert [c.exit_code for c in classes] == [1, 2, 3, 4, 5, 6]
    assert set(EXIT_CODES) == set(range(8))


def test_values_are_shortened_to_one_printable_line() -> None:
    assert shorten("a\x1b[31m\nb") == "a [31m b"
    assert len(shorten("x" * 1000)) == 80
    assert shorten(["a"]) == "['a']"
    assert dotted(("a", 0, "b")) == "a[0].b"
    file = YamlFile("f", lines={(): 1, ("a",): 3})
    assert file.where(("a", 0)) == "f:3: a[0]"
    assert YamlFile(str(Path("f"))).where() == "f"
