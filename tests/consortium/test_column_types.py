"""What a table tells of itself to the party file."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consortium.spec import Dataset
from consortium.tables import described


def told(folder: Path, content: bytes) -> dict[str, Any]:
    path = folder / "a.csv"
    path.write_bytes(content)
    return described(path)


@pytest.mark.parametrize(
    ("content", "names"),
    [(b"\xef\xbb\xbfid,age\n1,2\n", ["id", "age"]), (b"", []), (b"\xff\xff\n", []), (b'"a b",c', ["a b", "c"])],
)
def test_names_are_those_of_the_first_line(tmp_path: Path, content: bytes, names: list[str]) -> None:
    assert told(tmp_path, content)["columns"] == names
    nothing = {"columns": [], "types": {}}
    assert described(tmp_path / "missing.csv") == nothing
    assert described(tmp_path / "a.parquet") == nothing


@pytest.mark.parametrize(
    ("held", "kind"),
    [
        (["1", "-2", "0"], "int"),
        (["1", "2.5", "-1e3"], "float"),
        (["1", "two"], None),
        (["1", ""], None),
        ([], None),
        (["007", "123"], None),
        (["00.5"], None),
        (["nan"], None),
        (["inf"], None),
        (["1_000"], None),
        (["\u0661"], None),
        (["9" * 18], "int"),
        (["9" * 5000], None),
        (["1"] * 1000 + ["text that nobody looked at"], "int"),
    ],
)
def test_a_column_is_a_number_only_if_all_it_holds_is_one(tmp_path: Path, held: list[str], kind: str | None) -> None:
    rows = "".join(f"{value},x\n" for value in held)
    assert told(tmp_path, f"a,b\n{rows}".encode())["types"] == ({"a": kind} if kind else {})


@given(st.lists(st.lists(st.text(max_size=8), min_size=1, max_size=4), max_size=5))
def test_whatever_a_table_holds_the_party_file_takes_what_is_told(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]]
) -> None:
    text = io.StringIO()
    csv.writer(text).writerows([["id", "age", "name", "city"], *rows])
    found = told(tmp_path_factory.mktemp("t"), text.getvalue().encode("utf-8", "surrogatepass"))
    assert Dataset.model_validate(found).columns in (("id", "age", "name", "city"), ())
