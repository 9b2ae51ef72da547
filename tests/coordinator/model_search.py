"""Plays many schedules of the protocol, on every core: `python model_search.py [COUNT [FIRST SEED]]`.

Ends with code 1 at the first schedule that breaks an invariant, and prints its seed and story.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from simulation import Broken, World

CHUNK = 50


@dataclass
class Found:
    """What a search saw: how jobs ended at the parties, how many different stories, the first one that broke a rule."""

    ends: Counter[str] = field(default_factory=Counter)
    stories: set[bytes] = field(default_factory=set)
    broken: str = ""

    @property
    def distinct(self) -> int:
        return len(self.stories)


def play(seeds: range) -> Found:
    """Play the schedules of these seeds; stops at one that breaks an invariant."""
    found = Found()
    for seed in seeds:
        world = World(seed)
        try:
            world.run()
        except Broken as broken:
            found.broken = str(broken)
            return found
        # a story without its first line, which is the seed
        found.stories.add(hashlib.blake2b("\n".join(world.trace[1:]).encode(), digest_size=12).digest())
        found.ends.update(str(p.job.phase) for p in world.parties.values() if p.job)
    return found


def search(first: int, wanted: int, workers: int, progress: Callable[[int], None] = lambda done: None) -> Found:
    """Play schedules from seed `first` on until `wanted` of them were different, or one broke an invariant."""
    total = Found()
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        while total.distinct < wanted:
            last = first + wanted - total.distinct
            chunks = [range(at, min(at + CHUNK, last)) for at in range(first, last, CHUNK)]
            for found in pool.imap(play, chunks):
                total.ends.update(found.ends)
                total.stories |= found.stories
                progress(total.distinct)
                if found.broken:
                    total.broken = found.broken
                    return total
            first = last
    return total


def main() -> int:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    first = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    began = shown = time.monotonic()

    def progress(done: int) -> None:
        nonlocal shown
        now = time.monotonic()
        if now - shown > 15 or done >= count:
            shown = now
            print(f"{done:>8,} of {count:,} distinct schedules, {done / (now - began):.0f} a second", flush=True)

    found = search(first, count, os.cpu_count() or 1, progress)
    if found.broken:
        print(found.broken)
        return 1
    print(f"{found.distinct:,} distinct schedules, no invariant broken; ends at parties: {dict(found.ends)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
