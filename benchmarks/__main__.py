"""Run benchmarks: `python -m benchmarks [GROUP or NAME …]`. Nothing here is a timed test."""

from __future__ import annotations

import json
import os
import platform
import secrets
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from pkgutil import resolve_name

from rich.console import Console
from rich.table import Table

from benchmarks.result import Result

RESULTS = Path(__file__).parent / "results"
PORTS = (("alice", 38443, 38080), ("bob", 48443, 48080))

GROUPS: dict[str, dict[str, str]] = {
    "coordinator": {
        "skew": "benchmarks.coordinator:skew",
        "latency": "benchmarks.coordinator:latency",
        "queue": "benchmarks.coordinator:queue",
    },
    "audit": {"append": "benchmarks.audit:append_rate", "verify": "benchmarks.audit_verify:verify_rate"},
    "containers": {"up": "benchmarks.up:measure", "noop": "benchmarks.noop:measure", "psi": "benchmarks.psi:measure"},
}
"""Group → name → function that returns results; it is given a demo in `containers` (`up` starts it), else a folder."""


def main() -> None:
    chosen = choose(sys.argv[1:])
    results: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="consortium-bench-") as name:
        folder = Path(name)
        for group, names in chosen.items():
            if group == "containers":
                results += on_containers(names, folder / "institutions")
            else:
                results += [r for name in names for r in run(group, name, folder)]
    keep(results)
    show(results)


def choose(words: list[str]) -> dict[str, list[str]]:
    """Group → names in the table's order; everything if nothing is named."""
    known = {*GROUPS, *(name for names in GROUPS.values() for name in names)}
    if unknown := sorted(set(words) - known):
        sys.exit(f"no such benchmark: {', '.join(unknown)}; there are {', '.join(sorted(known))}")
    wanted = {g: [n for n in names if not words or g in words or n in words] for g, names in GROUPS.items()}
    return {group: names for group, names in wanted.items() if names}


def on_containers(names: list[str], folder: Path) -> list[Result]:
    from consortium.demo import Demo, DemoParty

    demo = Demo(folder, name=f"bench-{secrets.token_hex(2)}", parties=tuple(DemoParty(*party) for party in PORTS))
    try:
        demo.prepare()
        return [r for name in names for r in run("containers", name, demo)]
    finally:
        demo.down()


def run(group: str, name: str, given: object) -> list[Result]:
    print(f"\n--- {name}", flush=True)
    results: list[Result] = resolve_name(GROUPS[group][name])(given)
    return results


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
