"""`python -m testing.matrix`: plays the fault matrix against one throw-away consortium (`make faults`)."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from consortium.errors import ConsortiumError
from testing import faults
from testing.consortium import Consortium
from testing.matrix import document
from testing.matrix.cases import Case, all_cases
from testing.matrix.play import TIMEOUTS, Player
from testing.matrix.results import KEPT, Results, Seen

JOB_EVERY = 8
"""After so many cases, and after each family, a job without a fault must succeed."""
GUESS_S = 25.0


def chosen(only: Sequence[str], resume: bool, results: Results) -> list[Case]:
    """Cases whose key holds one of `only`; with `resume`, without those that passed."""
    cases = [c for c in all_cases() if not only or any(word in c.key for word in only)]
    return [c for c in cases if not (resume and c.key in results.cases and results.cases[c.key].passed)]


def main() -> int:
    """Exit code 0 when every case that was played went as it must."""
    options = _options()
    if options.write_docs:
        document.write(Results.read(options.results))
        return 0
    results = Results.read(options.results)
    cases = chosen(options.only, options.resume, results)
    if options.list:
        print("\n".join(case.key for case in cases))
        return 0
    if not cases:
        print("no case is left to play")
        return 0
    os.environ.setdefault("COLUMNS", "120")
    with ExitStack() as stack:
        made = Consortium.attach(options.attach) if options.attach else Consortium(timeouts=TIMEOUTS, on_progress=_say)
        consortium = made if options.attach else stack.enter_context(made)
        stack.enter_context(faults.relayed(consortium))
        stack.enter_context(faults.all_shimmed(consortium))
        failed = _play(Player(consortium), cases, results, options.results)
    document.write(results)
    _say(f"{len(cases)} cases, {len(failed)} not as they must be" + "".join(f"\n  {key}" for key in failed))
    return 1 if failed else 0


def _play(player: Player, cases: list[Case], results: Results, path: Path) -> list[str]:
    failed, began = list[str](), time.monotonic()
    for number, case in enumerate(cases, 1):
        seen = player.play(case)
        last = number == len(cases) or cases[number].entry.family != case.entry.family
        if last or number % JOB_EVERY == 0:
            seen = seen.model_copy(update={"problems": [*seen.problems, *_afterwards(player)]})
        results.add(case, seen, path)
        if not seen.passed:
            failed.append(case.key)
        each_s = (time.monotonic() - began) / number
        left_min = each_s * (len(cases) - number) / 60
        _say(f"{number}/{len(cases)} {_told(case, seen)} ({seen.seconds:.0f} s; {left_min:.0f} min left)")
    return failed


def _afterwards(player: Player) -> list[str]:
    """Problems that show when no fault is in force: a job that does not succeed, a record that is lost."""
    try:
        player.trivial()
    except (AssertionError, ConsortiumError) as error:
        return [f"afterwards: {error}", *player.records()]
    return player.records()


def _told(case: Case, seen: Seen) -> str:
    ended = ", ".join(f"{party} {phase}" for party, phase in seen.ended.items())
    return f"{'ok  ' if seen.passed else 'FAIL'} {case.key}: {ended}" + "".join(f"\n    {p}" for p in seen.problems)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m testing.matrix", description=__doc__)
    parser.add_argument("--only", action="append", default=[], help="cases whose key holds this; may be repeated")
    parser.add_argument("--resume", action="store_true", help="leave out what passed already")
    parser.add_argument("--list", action="store_true", help="print the chosen cases, and play none")
    parser.add_argument("--write-docs", action="store_true", help="write docs/faults.md anew, and play none")
    parser.add_argument("--attach", metavar="NAME", help="use this consortium, which is up, and leave it up")
    parser.add_argument("--results", type=Path, default=KEPT, help="JSON of what was seen; it is added to")
    return parser.parse_args()


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
