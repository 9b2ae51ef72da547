"""The table of attacks names tests that are there, and every attack that was asked for has a row."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "attacks.md").read_text("utf-8")
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in TEXT.splitlines() if line.startswith("| ")]
NAMED = sorted({found for row in ROWS for found in re.findall(r"`(tests/[\w/]+\.py::\w+)`", row[-1])})
ASKED = (
    "port scan", "plaintext", "TLS 1.2", "no certificate", "another party's certificate", "right CA, wrong SAN",
    "unknown SNI", "header spoofing of the party identity", "replayed proposal", "oversized", "slowloris",
    "path traversal", "zip bomb", "YAML with tags", "Jinja injection through a party file", "malicious name",
    "state files", "logs", "events", "artifacts", "process arguments", "image layers",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMED)
def test_the_test_is_there(name: str) -> None:
    module, _, function = name.partition("::")
    tree = ast.parse((ROOT / module).read_text("utf-8"))
    assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_row_names_one() -> None:
    without = [row[0] for row in ROWS if row[0] not in ("attack", "where") and "`tests/" not in row[-1]]
    assert without == []
    assert len(NAMED) > 30


@pytest.mark.parametrize("attack", ASKED)
def test_every_attack_that_was_asked_for_has_a_row(attack: str) -> None:
    assert any(attack in row[0] for row in ROWS), attack
