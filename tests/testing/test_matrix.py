"""The fault matrix as data: complete, thought about before it is run, and its document made of what was seen."""

from __future__ import annotations

from pathlib import Path

import pytest

from testing.faults import FAULTS
from testing.matrix.__main__ import chosen
from testing.matrix.cases import ENTRIES, Case, Phase, Role, all_cases
from testing.matrix.document import DOCUMENT, render
from testing.matrix.expected import EITHER, TABLE, expected
from testing.matrix.play import _judge
from testing.matrix.program import job
from testing.matrix.results import KEPT, Results, Seen, plain

CASE = Case(ENTRIES["kill driver"], Phase.RUNNING, Role.PARTICIPANT)


def seen(**changes: object) -> Seen:
    return Seen.model_validate(
        {
            "says": "killed it",
            "struck_in": "running at bob",
            "ended": {"alice": "failed", "bob": "failed"},
            "causes": {"alice": "", "bob": "driver-failed: it ended"},
            "seconds": 3.0,
            "problems": [],
            **changes,
        }
    )


def view(
    phase: str, reason: str = "bob: the driver ended with an error", **outcomes: dict[str, str]
) -> dict[str, object]:
    return {"phase": phase, "reason": reason, "outcomes": outcomes}


def test_every_fault_has_a_row() -> None:
    assert {entry.fault for entry in ENTRIES.values()} == set(FAULTS)


def test_every_case_has_an_expectation_and_every_expectation_a_case() -> None:
    cases = {(case.entry.name, case.phase) for case in all_cases()}
    assert cases == {(name, phase) for name, entry in ENTRIES.items() for phase in entry.phases}
    for case in all_cases():
        assert expected(case).phases <= EITHER
    assert set(TABLE) == set(ENTRIES)


def test_the_document_is_what_the_results_render_to() -> None:
    assert DOCUMENT.read_text() == render(Results.read())


def test_the_results_hold_only_cases_of_the_matrix() -> None:
    assert set(Results.read().cases) <= {case.key for case in all_cases()}
    assert KEPT.exists()


def test_the_document_names_every_fault() -> None:
    text = DOCUMENT.read_text()
    for name, entry in ENTRIES.items():
        assert f"### {name}\n\n{entry.text}" in text
    for name in FAULTS:
        assert f"`{name}(" in text


def test_a_case_that_was_not_played_says_so_and_a_problem_is_shown() -> None:
    assert "0 of" in render(Results())
    assert "✓" not in render(Results()).partition("## Processes")[2]
    text = render(Results(cases={CASE.key: seen(problems=["hangs"])}))
    assert "✗ bob: driver-failed: it ended **! hangs**" in text
    assert "1 not as they must be" in text


def test_resuming_leaves_out_what_passed_and_plays_again_what_did_not() -> None:
    results = Results(cases={CASE.key: seen()})
    assert CASE not in chosen([], True, results)
    assert CASE in chosen([], False, results)
    assert CASE in chosen([], True, Results(cases={CASE.key: seen(problems=["hangs"])}))
    assert chosen(["kill driver / running / participant"], False, results) == [CASE]


def test_results_are_kept_after_each_case(tmp_path: Path) -> None:
    path = tmp_path / "faults.json"
    Results().add(CASE, seen(), path)
    assert Results.read(path).cases == {CASE.key: seen()}


@pytest.mark.parametrize(
    ("views", "problem"),
    [
        ({"alice": view("failed"), "bob": view("failed")}, ""),
        ({"alice": view("failed"), "bob": view("succeeded")}, "diverges"),
        ({"alice": view("succeeded"), "bob": view("succeeded")}, "expected ['failed']"),
        ({"alice": view("failed", "it rains"), "bob": view("failed")}, "cause not expected at alice: it rains"),
    ],
)
def test_what_came_of_a_case_is_judged(views: dict[str, dict[str, object]], problem: str) -> None:
    found = _judge(CASE, views)
    assert any(problem in text for text in found) if problem else found == []


def test_what_differs_from_run_to_run_is_not_kept() -> None:
    assert plain("bob refused 20261125-matrix-abcdef-1 at 172.18.0.3:8443 of t-0123abcd") == (
        "bob refused JOB at ADDRESS of CONSORTIUM"
    )


def test_the_program_lingers_where_the_fault_does_not_strike() -> None:
    text = job(Case(ENTRIES["kill party"], Phase.ENDING, Role.PARTICIPANT))["main.py"]
    assert '"lingers": "alice"' in text
    compile(text, "main.py", "exec")
