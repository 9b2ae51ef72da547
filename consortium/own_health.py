"""Whether an institution is well after a change of its nodes, by what its own coordinator finds."""

from __future__ import annotations

import time
from collections.abc import Callable

from consortium.client import Coordinator
from consortium.errors import ConsortiumError

PAUSE_S = 1.0


def first_fault(coordinator: Coordinator) -> str:
    """The first thing that is not as it must be; empty when all is well. Peers are not judged: they may be changing
    themselves. Raises ConsortiumError where the coordinator does not answer.
    """
    findings = coordinator.get("/findings")["findings"]
    bad = [one for one in findings if one["code"] and one["check"] != "peer"]
    return f"{bad[0]['check']} {bad[0]['subject']}: {bad[0]['what']}" if bad else ""


def until_well(look: Callable[[], str], party: str, within_s: float, tell: Callable[[str], None]) -> None:
    """Look again and again until `look` finds no fault; what it raises is one. Raises ConsortiumError in the end."""
    tell("looking whether all is well")
    end = time.monotonic() + within_s
    while fault := _seen(look):
        if time.monotonic() > end:
            raise ConsortiumError(f"not healthy after {within_s:g} s", where=party, value=fault)
        time.sleep(PAUSE_S)


def _seen(look: Callable[[], str]) -> str:
    try:
        return look()
    except ConsortiumError as error:
        return str(error)
