"""Run every benchmark on institutions of its own: `python -m benchmarks [NAME …]`. Nothing here is a timed test."""

from __future__ import annotations

import json
import os
import platform
import secrets
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import noop, psi, up
from benchmarks.result import Result
from consortium.demo import Demo, DemoParty

RESULTS = Path(__file__).parent / "results"
PORTS = (("alice", 38443, 38080), ("bob", 48443, 48080))

BENCHMARKS: dict[str, Callable[[Demo], list[Result]]] = {"up": up.measure, "noop": noop.measure, "psi": psi.measure}
"""In this order: `up` makes the institutions that the others use."""


def main() -> None:
    wanted = sys.argv[1:] or list(BENCHMARKS)
    if unknown := set(wanted) - set(BENCHMARKS):
        sys.exit(f"no such benchmark: {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    with tempfile.TemporaryDirectory(prefix="consortium-bench-") as folder:
        demo = Demo(
            Path(folder), name=f"bench-{secrets.token_hex(2)}", parties=tuple(DemoParty(*party) for party in PORTS)
        )
        try:
            demo.prepare()
            results = [r for name, measure in BENCHMARKS.items() if name in wanted for r in run(name, measure, demo)]
        finally:
            demo.down()
            Path(folder).mkdir(exist_ok=True)
    keep(results)
    show(results)


def run(name: str, measure: Callable[[Demo], list[Result]], demo: Demo) -> list[Result]:
    print(f"\n--- {name}", flush=True)
    return measure(demo)


def keep(results: list[Result]) -> None:
    """One file a run, never overwritten, with what it ran on."""
    now = datetime.now(UTC)
    record = {
        "at": now.isoformat(timespec="seconds"),
        "machine": {"cores": os.cpu_count(), "system": platform.platform(), "python": platform.python_version()},
        "results": [result.as_dict() for result in results],
    }
    path = RESULTS / f"{now:%Y%m%d-%H%M%S}.json"
    path.write_text(json.dumps(record, indent=2) + "\n")
    print(f"\nkept in {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}")


def show(results: list[Result]) -> None:
    table = Table("benchmark", "seen", "goal", "met", "how")
    for result in results:
        table.add_row(result.name, f"{result.value:.3g} {result.unit}", result.goal_text, result.verdict, result.how)
    Console(width=160).print(table)


main()
