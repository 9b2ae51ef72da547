"""What a fault is: something that is broken on purpose for a while, says what it broke, and mends it again.

A fault is written as a generator: what stands before its `yield` strikes, the text it yields says what was done, what
stands after it undoes that and waits until it is undone. `FAULTS` lists all of them.
"""

from __future__ import annotations

import inspect
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import wraps
from typing import ParamSpec, Self

from consortium.errors import TimedOut

P = ParamSpec("P")
UNDO_S = 120.0
"""A part that was killed is waited for so long when a fault is undone."""

log = logging.getLogger("consortium.testing.faults")


@dataclass(frozen=True)
class Kind:
    """One kind of fault, as it is listed."""

    name: str
    family: str
    text: str
    parameters: tuple[str, ...]


FAULTS: dict[str, Kind] = {}
"""Every kind by name, in the order of the families."""


class Fault:
    """A fault in force from `__enter__` until `undo`; `says` tells what was done, in one sentence."""

    def __init__(self, kind: Kind, steps: Iterator[str]) -> None:
        self.kind, self.says, self._steps = kind, "", steps

    def __enter__(self) -> Self:
        self.says = next(self._steps)
        log.info("fault %s: %s", self.kind.name, self.says)
        return self

    def __exit__(self, *_: object) -> None:
        self.undo()

    def undo(self) -> None:
        """Mend what was broken; does nothing the second time. Raises TimedOut if it does not come back."""
        if next(self._steps, None) is not None:
            raise RuntimeError(f"fault {self.kind.name} yields more than once")
        log.info("fault %s is undone", self.kind.name)


def fault(family: str) -> Callable[[Callable[P, Iterator[str]]], Callable[P, Fault]]:
    """Make a fault of a generator and list it; the first line of its docstring is its description."""

    def make(function: Callable[P, Iterator[str]]) -> Callable[P, Fault]:
        kind = Kind(
            name=function.__name__,
            family=family,
            text=(inspect.getdoc(function) or "").partition("\n")[0],
            parameters=tuple(inspect.signature(function).parameters),
        )
        FAULTS[kind.name] = kind

        @wraps(function)
        def begin(*arguments: P.args, **named: P.kwargs) -> Fault:
            return Fault(kind, function(*arguments, **named))

        return begin

    return make


def until(look: Callable[[], object], what: str, limit_s: float = UNDO_S, pause_s: float = 0.2) -> None:
    """Ask until the answer is true. Raises TimedOut saying `what` did not happen."""
    end = time.monotonic() + limit_s
    while not look():
        if time.monotonic() > end:
            raise TimedOut(f"{what} did not happen within {limit_s:g} s")
        time.sleep(pause_s)
