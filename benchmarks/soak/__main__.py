"""Run a soak: `python -m benchmarks.soak [--minutes 30] [--seed n] [--parties 2]`. Exit 1 when something broke."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import secrets
import shutil
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.soak.jobs import POLICY
from benchmarks.soak.run import TIMEOUTS, Soak
from tests.load.gateway_rig import GatewayRig

RESULTS = Path(__file__).parent.parent / "results"
NAMES = ["alice", "bob", "carol"]
SLOTS = 4
LIMITS = {"open_jobs": 50, "open_jobs_per_peer": 40, "keep_jobs_days": 60 / 86400}
"""A queue that can be filled; and folders of jobs are removed after a minute, when a coordinator starts."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=None, help="default: a new one, which is printed")
    parser.add_argument("--parties", type=int, default=2, choices=(2, 3))
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the JSON of the run")
    options = parser.parse_args()
    seed = secrets.randbelow(1_000_000) if options.seed is None else options.seed
    print(f"seed {seed}, {options.parties} parties, {options.minutes:g} minutes", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="consortium-soak-"))
    soak = asyncio.run(soaked(folder, NAMES[: options.parties], options.minutes * 60, seed))
    path = keep(soak, options.results)
    show(soak)
    print(f"kept in {path}")
    if soak.problems:
        print(f"seed {seed} broke; logs and state: {folder}\nfaults:\n" + "\n".join(fault_log(soak)))
        print("problems:\n" + "\n".join(soak.problems))
        return 1
    shutil.rmtree(folder)
    return 0


async def soaked(folder: Path, parties: list[str], seconds: float, seed: int) -> Soak:
    """A consortium, run through a soak and taken down."""
    settings = {"policy": POLICY, "limits": LIMITS}
    consortium = {"timeouts": TIMEOUTS}
    async with GatewayRig(
        folder, parties, consortium=consortium, settings=settings, slots=SLOTS, links=True, audit_heads_s=5
    ) as rig:
        await rig.connected()
        soak = Soak(rig, seconds, seed)
        await soak.run()
        return soak


def fault_log(soak: Soak) -> list[str]:
    """When each fault came, went, and was got over; seconds of the run."""

    def at(moment: float | None) -> str:
        return "–" if moment is None else f"{moment - soak.began:.1f}"

    return [f"{at(w.begun)} to {at(w.undone)}, over {at(w.over)}: {w.fault.name}" for w in soak.windows]


def keep(soak: Soak, folder: Path) -> Path:
    """One file a run."""
    now = datetime.now(UTC)
    record = {
        "at": now.isoformat(timespec="seconds"),
        "machine": {"cores": os.cpu_count(), "system": platform.platform(), "python": platform.python_version()},
        "seed": soak.seed,
        "seconds": soak.seconds,
        "parties": soak.rig.parties,
        "jobs": [{"kind": k, "label": label, "jobs": n} for (k, label), n in sorted(soak.labels().items())],
        "faults": fault_log(soak),
        "processes": [one.summary() for one in soak.series if len(one.at) > 1],
        "problems": soak.problems,
    }
    path = folder / f"soak-{now:%Y%m%d-%H%M%S}.json"
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    return path


def show(soak: Soak) -> None:
    jobs = Table("jobs", "ended as", "number")
    for (kind, label), number in sorted(soak.labels().items()):
        jobs.add_row(kind, label, str(number))
    sizes = Table("process", "s", "MB first/most/last", "MB/min", "descriptors first/most/last", "descriptors/min")
    for one in soak.series:
        if len(one.at) > 1:
            s = one.summary()
            told = [str(s[k]) if s[k] is not None else "too short" for k in ("mb_per_min", "descriptors_per_min")]
            sizes.add_row(str(s["process"]), str(s["seconds"]), str(s["mb"]), told[0], str(s["descriptors"]), told[1])
    console = Console(width=140)
    console.print(jobs)
    console.print(sizes)
    longest = max((w.over - w.undone for w in soak.windows if w.over and w.undone), default=0.0)
    console.print(f"{len(soak.windows)} faults; the longest way back to work took {longest:.1f} s")


if __name__ == "__main__":
    sys.exit(main())
