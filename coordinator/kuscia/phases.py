"""How a job goes through its phases where Kuscia carries it (docs/adr/0015).

proposed ──> approved ──> starting ──> running ──> ending ──> succeeded, failed, cancelled
    │           │  ↑          │         ↓  ↑         ↑  │
    │           │  │          │       suspended ─────┤  │
    │           │  │          └──────────────────────┘  │
    │           │  └───────── (next attempt) ───────────┘
    └───────────┴──> failed, cancelled
"""

from __future__ import annotations

from collections.abc import Mapping

from coordinator.model import Phase

_CLOSED = frozenset({Phase.FAILED, Phase.CANCELLED})

KUSCIA_TRANSITIONS: Mapping[Phase, frozenset[Phase]] = {phase: frozenset[Phase]() for phase in Phase} | {
    Phase.PROPOSED: frozenset({Phase.APPROVED}) | _CLOSED,
    Phase.APPROVED: frozenset({Phase.STARTING}) | _CLOSED,
    Phase.STARTING: frozenset({Phase.RUNNING, Phase.ENDING}),
    Phase.RUNNING: frozenset({Phase.SUSPENDED, Phase.ENDING}),
    Phase.SUSPENDED: frozenset({Phase.RUNNING, Phase.ENDING}),
    Phase.ENDING: frozenset({Phase.APPROVED, Phase.SUCCEEDED}) | _CLOSED,
}
"""phase -> phases it may become. The store puts this table into the WHERE of every update."""
