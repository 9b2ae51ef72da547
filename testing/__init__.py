"""Throw-away consortiums for tests: real stacks, real nodes, real gateways, and faults on demand.

With pytest, use the fixture `consortium` (testing/plugin.py). Without:

    with Consortium(parties=3, workers={"bob": 2}) as c:
        run = c.party("alice").submit("jobs/psi")
        assert run.wait().phase == "succeeded"
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from testing.consortium import Consortium
    from testing.nodes import Node
    from testing.party import Party
    from testing.run import Outcome, Run

__all__ = ["Consortium", "Node", "Outcome", "Party", "Run"]

_HOME = {"Consortium": "consortium", "Node": "nodes", "Party": "party", "Outcome": "run", "Run": "run"}


def __getattr__(name: str) -> Any:
    # Not imported above: pytest loads the plugin of this package in every project that has it installed.
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
