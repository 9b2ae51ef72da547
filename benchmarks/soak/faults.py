"""What can go wrong in a soak.

A fault is a name, something to do and something that undoes it: nothing else is known of it, so that faults of
containers can take the place of these.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random

from tests.load.gateway_rig import GatewayRig

Step = Callable[[], Awaitable[object]]


@dataclass(frozen=True)
class Fault:
    """`harmless`: no job may end otherwise for it."""

    name: str
    do: Step
    undo: Step
    harmless: bool = False


Make = Callable[[GatewayRig, Random], Fault]


async def nothing() -> None:
    """What is undone by itself."""


def coordinator_killed(r: GatewayRig, chance: Random) -> Fault:
    """SIGKILL; started anew, as the node's supervisor does."""
    party = chance.choice(r.parties)

    async def do() -> None:
        r.children[party].kill()
        r.children[party].wait()

    async def undo() -> None:
        r.spawn(party)
        await r.wait_up(party)

    return Fault(f"coordinator of {party} killed", do, undo)


def coordinator_stopped(r: GatewayRig, chance: Random) -> Fault:
    """SIGSTOP: its sockets stay open and nobody answers."""
    party = chance.choice(r.parties)
    return _stopped(f"coordinator of {party} stopped", lambda: r.children[party].pid)


def gateway_killed(r: GatewayRig, chance: Random) -> Fault:
    """SIGKILL of Envoy, and a new one with the same files."""
    gateway = r.gateways[chance.choice(r.parties)]

    async def do() -> None:
        gateway.stop()

    return Fault(f"gateway of {gateway.party} killed", do, lambda: asyncio.to_thread(gateway.start))


def gateway_stopped(r: GatewayRig, chance: Random) -> Fault:
    """SIGSTOP of Envoy."""
    gateway = r.gateways[chance.choice(r.parties)]

    def pid() -> int:
        assert gateway.process
        return gateway.process.pid

    return _stopped(f"gateway of {gateway.party} stopped", pid)


def _stopped(name: str, pid: Callable[[], int]) -> Fault:
    async def send(number: signal.Signals) -> None:
        os.kill(pid(), number)

    return Fault(name, lambda: send(signal.SIGSTOP), lambda: send(signal.SIGCONT))


def driver_killed(r: GatewayRig, chance: Random) -> Fault:
    """Some driver of a party, if one lives."""
    ray, pick = r.rays[party := chance.choice(r.parties)], chance.random()

    async def do() -> None:
        if alive := ray.alive():
            ray.kill(alive[int(pick * len(alive))])

    return Fault(f"a driver of {party} killed", do, nothing)


def driver_stopped(r: GatewayRig, chance: Random) -> Fault:
    """Some driver of a party, if one lives, with its children."""
    ray, pick = r.rays[party := chance.choice(r.parties)], chance.random()
    groups: list[int] = []

    async def do() -> None:
        if alive := ray.alive():
            groups.append(ray.processes[alive[int(pick * len(alive))]].pid)
            os.killpg(groups[0], signal.SIGSTOP)

    async def undo() -> None:
        for group in groups:
            with contextlib.suppress(ProcessLookupError):  # ended by its coordinator meanwhile, as it should be
                os.killpg(group, signal.SIGCONT)

    return Fault(f"a driver of {party} stopped", do, undo)


def ray_down(r: GatewayRig, chance: Random) -> Fault:
    """The Jobs API answers 503; drivers live on."""
    ray = r.rays[party := chance.choice(r.parties)]

    async def be(down: bool) -> None:
        ray.down = down

    return Fault(f"Ray of {party} does not answer", lambda: be(True), lambda: be(False))


def link_cut(r: GatewayRig, chance: Random) -> Fault:
    """One way or both; connections that are open break."""
    pair, both = chance.choice(sorted(r.links)), chance.random() < 0.5
    links = [r.links[pair], *([r.links[pair[::-1]]] if both else [])]

    async def be(cut: bool) -> None:
        for link in links:
            link.cut = cut
            if cut:
                link.break_all()

    return Fault(f"link {pair[0]} {'–' if both else '→'} {pair[1]} cut", lambda: be(True), lambda: be(False))


def link_quiet(r: GatewayRig, chance: Random) -> Fault:
    """Half-open: connections stay, nothing passes."""
    pair = chance.choice(sorted(r.links))
    link = r.links[pair]

    async def be(quiet: bool) -> None:
        link.quiet = quiet

    return Fault(f"link {pair[0]} → {pair[1]} quiet", lambda: be(True), lambda: be(False))


def link_slow(r: GatewayRig, chance: Random) -> Fault:
    """Up to 200 ms more in each direction of every connection."""
    pair, delay_s = chance.choice(sorted(r.links)), chance.uniform(0.02, 0.2)
    link = r.links[pair]

    async def be(delay_s: float) -> None:
        link.delay_s = delay_s

    name = f"link {pair[0]} → {pair[1]} slower by {delay_s * 1000:.0f} ms"
    return Fault(name, lambda: be(delay_s), lambda: be(0), harmless=True)


def clock_within(r: GatewayRig, chance: Random) -> Fault:
    """Inside the bound of 250 ms: jobs must not mind."""
    return _clock(r, chance.choice(r.parties), chance.choice((-1, 1)) * chance.uniform(0.02, 0.12), harmless=True)


def clock_beyond(r: GatewayRig, chance: Random) -> Fault:
    """Seconds off: jobs must be refused, or run, and never hang."""
    return _clock(r, chance.choice(r.parties), chance.choice((-1, 1)) * chance.uniform(1, 8), harmless=False)


def _clock(r: GatewayRig, party: str, ahead_s: float, *, harmless: bool) -> Fault:
    async def be(ahead_s: float) -> None:
        r.set_clock(party, ahead_s)

    name = f"clock of {party} {ahead_s * 1000:+.0f} ms"
    return Fault(name, lambda: be(ahead_s), lambda: be(0), harmless=harmless)


FAULTS: tuple[tuple[Make, int], ...] = (
    (coordinator_killed, 2),
    (coordinator_stopped, 3),
    (gateway_killed, 2),
    (gateway_stopped, 3),
    (driver_killed, 4),
    (driver_stopped, 4),
    (ray_down, 4),
    (link_cut, 5),
    (link_quiet, 4),
    (link_slow, 4),
    (clock_within, 3),
    (clock_beyond, 3),
)
"""With weights: processes are killed seldom, or no series of memory would be long enough to be judged."""


def draw(r: GatewayRig, chance: Random, more: tuple[tuple[Make, int], ...] = ()) -> Fault:
    """The next fault."""
    made = (*FAULTS, *more)
    return chance.choices([make for make, _ in made], [weight for _, weight in made])[0](r, chance)
