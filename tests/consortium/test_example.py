"""The documents at the top of this repository are what a newcomer reads first: only the private parts are missing."""

from __future__ import annotations

from pathlib import Path

from consortium.documents import SECRET_KEYS, lint

ROOT = Path(__file__).resolve().parents[2]


def test_the_example_lacks_nothing_but_what_join_makes_in_private() -> None:
    said = {problem.what for problem in lint(ROOT)}
    assert said == {f"consortium:{key} is missing" for key in (*SECRET_KEYS, "gatewayCertificate")}
