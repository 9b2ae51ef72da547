"""Which workers are drained, and what becomes of those that do not finish."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from consortium import draining
from consortium.ansible import AnsibleFailed, Event
from consortium.draining import StillInUse, drain

USED = "alice-worker-2 is used by task work of job abc, attempt 1"


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Callable[[Event | None], list[Any]]:
    """The play ends as the event says; it is really run in tests/e2e/test_scaling.py."""

    def ends(verdict: Event | None) -> list[Any]:
        seen: list[Any] = []

        def run(playbook: Path, inventory: Any, *, on_event: Callable[[Event], None], **_: Any) -> None:
            seen.append(inventory)
            for _ in range(3):
                on_event(Event("waiting", draining.WAIT, "alice-head", USED))
            if verdict:
                on_event(verdict)
                raise AnsibleFailed("no")

        monkeypatch.setattr(draining, "run_playbook", run)
        return seen

    return ends


def drained(force: bool) -> list[tuple[str, str]]:
    said: list[tuple[str, str]] = []
    drain(
        ("alice-head", {"ansible_host": "1"}),
        {"alice-worker-2": {"ansible_host": "2"}},
        wait_s=5,
        force=force,
        env={},
        tell=lambda line, severity: said.append((severity, line)),
    )
    return said


IN_USE = Event("failed", draining.VERDICT, "alice-head", USED)


def test_who_is_waited_for_is_said_once(play: Any) -> None:
    seen = play(None)
    assert drained(force=False) == [("INFO", f"waiting: {USED}"), ("INFO", "alice-worker-2: drained")]
    assert seen[0]["leaving"] == {"alice-worker-2": {"ansible_host": "2", "drain_keep": True}}
    assert seen[0]["head"]["alice-head"]["ray_drain_names"] == ["alice-worker-2"]


def test_a_worker_that_does_not_finish_stays_and_its_job_is_named(play: Any) -> None:
    play(IN_USE)
    with pytest.raises(StillInUse, match="alice-worker-2: in use after 5 s") as refused:
        drained(force=False)
    assert refused.value.value == USED


def test_by_force_it_goes_all_the_same(play: Any) -> None:
    seen = play(IN_USE)
    assert drained(force=True)[-1] == ("WARNING", f"taken away by force (drain.force): {USED}")
    assert seen[0]["leaving"]["alice-worker-2"]["drain_keep"] is False


@pytest.mark.parametrize("force", [False, True])
def test_a_drain_that_did_not_run_is_none(play: Any, force: bool) -> None:
    play(Event("unreachable", draining.WAIT, "alice-head", "no such container"))
    with pytest.raises(StillInUse, match="no"):
        drained(force)
