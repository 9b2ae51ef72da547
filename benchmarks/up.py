"""`up` of one institution with the image present."""

from __future__ import annotations

from benchmarks.result import Result, timed
from consortium.demo import Demo


def measure(demo: Demo) -> list[Result]:
    """Each institution once, from nothing; the slower one counts."""
    demo.consortium("alice", "image", "bake")
    samples = [
        timed(lambda name=party.name: demo.consortium(name, "up", "--yes", "--", "--skip-preview"))
        for party in demo.parties
    ]
    demo.wait_until_connected()
    how = "consortium up --yes --skip-preview from nothing until every service answers; slowest of the institutions"
    return [Result("up of one institution", max(samples), "s", 45, how, samples)]
