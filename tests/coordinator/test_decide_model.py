"""Many random schedules of the whole protocol: loss, repetition, reordering, skewed clocks, crashes, deaths, cancels.

`make model` plays 100,000 (model_search.py). A failure prints the seed and the whole story.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace

import pytest
from model_search import search
from simulation import Broken, World

from coordinator import attempt, before_start, decide
from coordinator.actions import Commit
from coordinator.failpoints import Step
from coordinator.model import Job, Observed, Phase
from coordinator.statements import Kind

COUNT = 600


def test_every_schedule_keeps_the_invariants() -> None:
    found = search(0, COUNT, workers=os.cpu_count() or 1)
    assert found.broken == ""
    assert found.distinct >= COUNT
    # a search that never reaches an end of some kind, or seldom starts, would prove little
    assert {"succeeded", "failed", "cancelled"} <= set(found.ends), found.ends
    assert found.ends["succeeded"] > COUNT // 2


@pytest.mark.parametrize("seed", [38568])
def test_a_schedule_that_once_broke_an_invariant(seed: int) -> None:
    """38568: the initiator cancelled between two attempts and died; the other settled on the attempt before."""
    World(seed).run()


Rule = Callable[[Job, Observed], Commit | None]


def _impatient(job: Job, seen: Observed) -> Commit | None:
    """Aborts what it promised when the promise ends: the classical mistake."""
    step = before_start.promised(job, seen)
    if step and "in doubt" in step.reason:
        return replace(step, phase=Phase.APPROVED)
    return step


def _hasty(job: Job, seen: Observed) -> Commit | None:
    """Starts before the last promise is in."""
    if job.leads and len(job.promises(job.attempt)) == 1:
        for other in job.others:
            own = next(s for k, s in job.statements.items() if k.kind is Kind.PROMISE)
            job = job.adding(own.model_copy(update={"party": other}))
    return before_start.promised(job, seen)


def _eager(job: Job, seen: Observed) -> Commit | None:
    """Says go when it is ready itself."""
    if job.leads and job.me in job.readies(job.attempt):
        own = next(s for k, s in job.statements.items() if k.kind is Kind.READY and k.attempt == job.attempt)
        job = job.adding(*(own.model_copy(update={"party": other}) for other in job.others))
    return attempt.running(job, seen)


def _vain(job: Job, seen: Observed) -> Commit | None:
    """Calls it a success on its own signature."""
    if job.driver_gone and job.outcomes(job.attempt)[job.me].status == "succeeded":
        return Commit(Step.END, "done here", phase=Phase.SUCCEEDED, changes={"settled": True})
    return attempt.ending(job, seen)


def _forgetful(job: Job, seen: Observed) -> Commit | None:
    """Ends without looking after its driver."""
    return attempt.ending(replace(job, driver_gone=True), seen)


@pytest.mark.parametrize(
    ("phase", "rule"),
    [
        (Phase.PROMISED, _impatient),
        (Phase.PROMISED, _hasty),
        (Phase.RUNNING, _eager),
        (Phase.ENDING, _vain),
        (Phase.ENDING, _forgetful),
    ],
)
def test_the_search_finds_a_broken_rule(monkeypatch: pytest.MonkeyPatch, phase: Phase, rule: Rule) -> None:
    monkeypatch.setitem(decide.STEPS, phase, rule)  # type: ignore[arg-type]
    with pytest.raises(Broken):
        for seed in range(600):
            World(seed).run()
