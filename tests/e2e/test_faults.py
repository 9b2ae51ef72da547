"""A shortened fault matrix (the whole one: `make faults`): each family once, in phases test_liveness.py leaves out."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from testing import Consortium, faults
from testing.matrix.cases import all_cases
from testing.matrix.play import Player

CASES = {case.key: case for case in all_cases()}
CHOSEN = (
    "changed program / pending / participant",
    "wrong job name / preparing / initiator",
    "gateway 404 / starting / participant",
    "late driver / starting / participant",
    "half-open / running / participant",
    "expired certificate / running / initiator",
    "disk full / running / participant",
    "duplicated messages / preparing / initiator",
    "kill party / ending / participant",
)


@pytest.fixture(scope="module")
def player(consortium: Consortium) -> Iterator[Player]:
    with faults.relayed(consortium), faults.all_shimmed(consortium):
        yield Player(consortium)


@pytest.mark.parametrize("key", CHOSEN)
def test_a_fault_ends_as_expected_and_leaves_nothing(player: Player, key: str) -> None:
    seen = player.play(CASES[key])
    print(seen.model_dump_json(indent=1))
    assert seen.problems == []


def test_no_record_is_lost_and_a_job_succeeds(player: Player) -> None:
    player.trivial()
    assert player.records() == []
