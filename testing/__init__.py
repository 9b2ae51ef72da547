"""Throw-away consortiums for tests: real stacks, real nodes, real gateways, and faults on demand.

With pytest, use the fixture `consortium` (testing/plugin.py). Without:

    with Consortium(parties=3, workers={"bob": 2}) as c:
        run = c.party("alice").submit("jobs/psi")
        assert run.wait().phase == "succeeded"
"""

from testing.consortium import Consortium
from testing.nodes import Node
from testing.party import Party
from testing.run import Outcome, Run

__all__ = ["Consortium", "Node", "Outcome", "Party", "Run"]
