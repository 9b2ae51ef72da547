"""Checks of this party before it promises an attempt. Each refusal names both values.

These are the cases in which rayfed's own readiness barrier passes falsely; here they all fail closed.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from coordinator.bundle import BundleError, digest, unpack
from coordinator.context import Context
from coordinator.launcher import LauncherError
from coordinator.model import Checks, Job
from coordinator.peers import PeerError, Sample
from coordinator.statements import Kind, PrepareBody

_PEER_TRIES = 3
_CLOSED = frozenset({401, 403, 404})  # something answers, and it is not a gateway that lets us in: no use to ask again


class CheckError(Exception):
    """A check failed: a code for programs, a message for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


async def run_checks(context: Context, job: Job, attempt: int) -> Checks:
    """Every check in turn, cheap ones first; the first failure is the result."""
    try:
        for check in _CHECKS:
            await check(context, job)
        await asyncio.gather(*(_check_peer(context, peer) for peer in job.others))
    except CheckError as e:
        return Checks(attempt, e.code, str(e))
    return Checks(attempt)


async def _same_agreement(context: Context, job: Job) -> None:
    proposal, config = job.proposal, context.terms_of(job)
    asked = job.get(Kind.PREPARE, job.initiator, job.attempt)
    theirs = asked.consortium_digest if isinstance(asked, PrepareBody) else "none"
    if theirs != config.consortium_digest:
        raise CheckError(
            "consortium",
            f"the consortium files differ: {job.initiator} has {theirs}, {config.party} has "
            f"{config.consortium_digest}; whoever is behind runs `consortium up`, then it is asked again by itself",
        )
    for name in sorted(proposal.versions.keys() | config.versions.keys()):
        wanted, ours = proposal.versions.get(name, "none"), config.versions.get(name, "none")
        if wanted != ours:
            raise CheckError("versions", f"{name} differs: {job.initiator} has {wanted}, {config.party} has {ours}")


async def _same_program(context: Context, job: Job) -> None:
    wanted = job.proposal.program_digest
    try:
        found = digest(unpack(context.bundle_path(wanted).read_bytes(), context.config.limits.bundle_bytes))
    except (OSError, BundleError) as e:
        raise CheckError("program", f"the job folder {wanted} cannot be read: {e}") from e
    if found != wanted:
        raise CheckError("program", f"the program differs: proposed {wanted}, {context.config.party} has {found}")


async def _data(context: Context, job: Job) -> None:
    for name in job.proposal.datasets.get(context.config.party, ()):
        path = context.config.datasets.get(name)
        if path is None:
            known = sorted(context.config.datasets)
            raise CheckError("dataset", f"{context.config.party} has no dataset {name!r}; it has {known}")
        try:
            Path(path).open("rb").close()
        except OSError as e:
            raise CheckError("dataset", f"dataset {name!r} of {context.config.party}: {path}: {e.strerror}") from e


async def _ray(context: Context, job: Job) -> None:
    try:
        found = await context.launcher.version()
    except LauncherError as e:
        raise CheckError("ray", f"the Ray of {context.config.party} does not answer: {e}") from e
    wanted = context.config.versions.get("ray", found)
    if found != wanted:
        raise CheckError("ray", f"the Ray of {context.config.party} is {found}, its configuration says {wanted}")


async def _ports(context: Context, job: Job) -> None:
    """A receiver left from an earlier attempt would answer in the place of the new one."""
    slot = context.free_slot()
    for service in ("fed", "spu"):
        address = getattr(context.config.own, service).get(str(slot))
        if slot is not None and address and _listening(int(address.rpartition(":")[2])):
            message = (
                f"port {address} ({service} of slot {slot}) of {context.config.party} is in use by a stale process"
            )
            raise CheckError("port", message)


def _listening(port: int) -> bool:
    with socket.socket(socket.AF_INET6 if socket.has_ipv6 else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return True
    return False


async def _folder(context: Context, job: Job) -> None:
    if not os.access(context.config.jobs_dir, os.W_OK):
        raise CheckError(
            "folder", f"{context.config.jobs_dir}: {context.config.party}'s coordinator may not write there"
        )


async def _check_peer(context: Context, peer: str) -> None:
    """Both directions and the clock. One lost request must not cost a job, so there are a few tries.

    Heartbeats go both ways all the time and measure the clock: where both were gone just now, that is the proof.
    """
    state = context.peers.state[peer]
    if state.proved_since(time.monotonic()) <= 2 * context.config.timeouts.heartbeat_s and state.best:
        _check_clock(context, peer, state.best)
        return
    for left in reversed(range(_PEER_TRIES)):
        try:
            nonce = await context.peers.reach(peer)
            sample = await context.peers.measure_clock(peer)
            break
        except PeerError as e:
            if not left or e.status in _CLOSED:
                code = "gateway" if e.status in _CLOSED else "busy" if e.status == 429 else "unreachable"
                raise CheckError(code, f"{context.config.party} to {peer}: {e}") from e
            await asyncio.sleep(context.config.timeouts.heartbeat_s / 2)
    if nonce not in state.nonces:
        me = context.config.party
        raise CheckError("unreachable", f"{peer} answered {me}, but did not come back through its gateway")
    state.nonces.remove(nonce)
    _check_clock(context, peer, sample)


def _check_clock(context: Context, peer: str, sample: Sample) -> None:
    off_ms, bound_ms = abs(sample.offset_s) * 1000, context.config.limits.clock_skew_ms
    if off_ms - sample.delay_s * 500 > bound_ms:
        raise CheckError(
            "clock",
            f"the clocks of {context.config.party} and {peer} differ by {sample.offset_s * 1000:+.0f} ms "
            f"(± {sample.delay_s * 500:.0f}), the bound is {bound_ms:.0f} ms: synchronise them (NTP)",
        )


_CHECKS: tuple[Callable[[Context, Job], Awaitable[None]], ...] = (
    _same_agreement,
    _same_program,
    _data,
    _folder,
    _ports,
    _ray,
)
