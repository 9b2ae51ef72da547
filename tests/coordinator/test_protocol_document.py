"""docs/protocol.md draws the machine that the code runs: an arrow more or less in one of them is an error."""

from __future__ import annotations

import re
from pathlib import Path

from coordinator.model import TRANSITIONS, Phase
from coordinator.statements import Kind

TEXT = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text("utf-8")


def test_drawing_and_table_agree() -> None:
    drawn = {(Phase(a), Phase(b)) for a, b in re.findall(r"^    (\w+) --> (\w+)$", TEXT, re.MULTILINE)}
    coded = {(a, b) for a, to in TRANSITIONS.items() for b in to if b is not Phase.DIVERGED}
    assert drawn == coded
    assert all(Phase.DIVERGED in to for phase, to in TRANSITIONS.items() if phase is not Phase.DIVERGED)


def test_every_invariant_is_described() -> None:
    simulation = (Path(__file__).parent / "simulation.py").read_text("utf-8")
    assert set(re.findall(r"\bI\d\b", simulation)) == set(re.findall(r"^\| (I\d) \|", TEXT, re.MULTILINE))


def test_every_kind_is_described() -> None:
    described = set(re.findall(r"^\| (\w+) \| [0n] \|", TEXT, re.MULTILINE))
    assert described == {k.value for k in Kind}
