"""Whether a backup may take the place of what a head holds; the restoring itself: tests/e2e/test_restore.py."""

from __future__ import annotations

import pytest

from consortium.errors import Refused
from consortium.restoring import Here, Step, decide
from coordinator.backup_file import Label

LABEL = Label(consortium="demo", party="alice", schema_version=2, made_at=0, audit_seq=40, audit_hash="a" * 64)
NEW = Here(records=3, jobs=0, continues=False)


@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize(
    ("here", "step"),
    [
        (NEW, Step.RESTORE),
        (Here(records=0, jobs=0, continues=False), Step.RESTORE),
        (Here(records=41, jobs=5, continues=True), Step.NOTHING),
        (Here(records=900, jobs=50, continues=True), Step.NOTHING),
    ],
    ids=["a new machine", "nothing at all", "restored already", "worked on since"],
)
def test_a_new_institution_is_restored_and_one_that_went_on_is_left_alone(
    here: Here, step: Step, replace: bool
) -> None:
    assert decide(here, LABEL, replace) is step


@pytest.mark.parametrize(
    ("here", "words"),
    [(Here(records=90, jobs=1, continues=False), "1 jobs, 90 audit records"), (None, "does not answer")],
    ids=["another history", "silent coordinator"],
)
def test_what_could_be_lost_is_replaced_only_on_demand(here: Here | None, words: str) -> None:
    with pytest.raises(Refused) as refused:
        decide(here, LABEL, replace=False)
    assert words in str(refused.value)
    assert "--replace" in refused.value.fix
    assert decide(here, LABEL, replace=True) is Step.RESTORE
