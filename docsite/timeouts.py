"""The reference of the timeouts: what the default budget becomes, and why. Own ones: `consortium timeouts`."""

from __future__ import annotations

from consortium.timeout_table import TABLE
from consortium.timeouts import TimeoutBudget
from docsite.schema import cell

SLOTS = 2  # the default of consortium.yaml


def page() -> str:
    """The table of derived timeouts with the default budget."""
    budget = TimeoutBudget()
    parts = [
        "# Timeouts",
        "Five numbers are agreed on, under `timeouts` of [consortium.yaml](consortium-yaml.md#timeoutbudget); all"
        f" others follow. Here with the defaults and {SLOTS} slots; `consortium timeouts` prints those of a workspace.",
    ]
    rows = [
        f"| `{row.name}` | {row.compute(budget, SLOTS):g} {row.unit} | {cell(row.consumer)} | {cell(row.formula)} |"
        f" {cell(row.reason)} |"
        for row in TABLE
    ]
    parts.append("\n".join(["| timeout | value | read by | formula | reason |", "|---|---|---|---|---|", *rows]))
    return "\n\n".join(parts) + "\n"
