"""What this party can see of itself and of its peers without a job: checked before every promise, and for
`consortium doctor` by name. Each check passes or raises CheckError, which names what was found and what is wanted.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from coordinator.components import data_id
from coordinator.context import Context
from coordinator.kuscia.errors import KusciaError
from coordinator.launcher import LauncherError
from coordinator.messages import Presented
from coordinator.peers import PeerError, Sample
from coordinator.release import source_digest

_PEER_TRIES = 3
_CLOSED = frozenset({401, 403, 404})  # something answers, and it is not a gateway that lets us in: no use to ask again
_IMPORT_S = 90.0


class CheckError(Exception):
    """A check failed: a code for programs, a message for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Finding:
    """What one check found. `code` is empty where all is well; `fix` says what to do next."""

    check: str
    subject: str
    code: str = ""
    what: str = ""
    fix: str = ""


FIXES = {
    "unreachable": "run `consortium doctor --peer {subject}` here, and `consortium doctor` at {subject}",
    "gateway": "something else answers there: compare gateway.host and gateway.port in parties/{subject}.yaml",
    "busy": "wait a minute: {subject} takes only so many requests of one peer",
    "clock": "synchronise both clocks (chrony, NTP); the bound is limits.clock_skew_ms in consortium.yaml",
    "port": "consortium up --refresh; if it stays: restart the head, a process of an earlier job is left there",
    "ray": "consortium up --refresh, and see the head's log",
    "kuscia": "is the node up, and is its key the one of the stack? then consortium up",
    "route": "is {subject} up, with the newest files of all members? then `consortium up --refresh` at both",
    "table": "consortium up --refresh",
    "dataset": "put the file where consortium:settings.datasets.{subject}.path says, then consortium up",
    "folder": "consortium up --refresh puts owner and mode right; is the disk full?",
    "secretflow": "consortium image bake, then consortium up",
}
"""What to do, by code; `subject` is the peer, dataset or slot in question."""


async def findings(context: Context, peers: Sequence[str]) -> list[Finding]:
    """Every check that needs no job, in the order in which one thing rests on another."""
    config = context.config
    if context.kuscia:
        mine: list[tuple[str, str, Callable[[], Awaitable[None]]]] = [
            ("folder", config.party, lambda: _plain(lambda: check_folder(context))),
            ("kuscia", config.party, lambda: check_kuscia(context)),
            *(("peer", name, lambda name=name: check_route(context, name)) for name in peers),
            *(("dataset", name, lambda name=name: check_table(context, name)) for name in config.datasets),
        ]
        return list(await asyncio.gather(*(_found(*one) for one in mine)))
    checks: list[tuple[str, str, Callable[[], Awaitable[None]]]] = [
        *(("peer", name, lambda name=name: check_peer(context, name)) for name in peers),
        ("slots", config.party, lambda: _plain(lambda: _check_free_slots(context))),
        ("folder", config.party, lambda: _plain(lambda: check_folder(context))),
        ("ray", config.party, lambda: check_ray(context)),
        *(("dataset", n, lambda n=n: _plain(lambda: check_dataset(context, n))) for n in sorted(config.datasets)),
        ("secretflow", config.party, lambda: check_secretflow(context)),
    ]
    return list(await asyncio.gather(*(_found(*one) for one in checks)))


async def _found(check: str, subject: str, run: Callable[[], Awaitable[None]]) -> Finding:
    try:
        await run()
    except CheckError as e:
        return Finding(check, subject, e.code, str(e), FIXES[e.code].format(subject=subject))
    return Finding(check, subject)


async def _plain(check: Callable[[], None]) -> None:
    check()


async def presents(context: Context) -> Presented:
    """What this party has in force."""
    try:
        ray = await context.launcher.version() if context.ray else ""
    except LauncherError:
        ray = ""
    return Presented(
        consortium_digest=context.config.consortium_digest,
        versions=context.config.versions,
        ray=ray[:128],
        coordinator=source_digest(),
    )


async def presented(context: Context) -> dict[str, tuple[Presented | None, str]]:
    """What every party has in force, this one included; None and why for a peer that does not say."""

    async def ask(peer: str) -> tuple[Presented | None, str]:
        try:
            return await context.peers.presented(peer), ""
        except PeerError as e:
            return None, str(e)

    peers = sorted(context.config.peers)
    own = await presents(context)
    return {context.config.party: (own, "")} | dict(zip(peers, await asyncio.gather(*map(ask, peers)), strict=True))


def check_dataset(context: Context, name: str) -> None:
    """This party has the dataset, and its coordinator can open the file."""
    path = context.config.datasets.get(name)
    if path is None:
        known = sorted(context.config.datasets)
        raise CheckError("dataset", f"{context.config.party} has no dataset {name!r}; it has {known}")
    try:
        Path(path).open("rb").close()
    except OSError as e:
        raise CheckError("dataset", f"dataset {name!r} of {context.config.party}: {path}: {e.strerror}") from e


async def check_ray(context: Context) -> None:
    """The own Ray answers, and is of the version that was agreed."""
    try:
        found = await context.launcher.version()
    except LauncherError as e:
        raise CheckError("ray", f"the Ray of {context.config.party} does not answer: {e}") from e
    wanted = context.config.versions.get("ray", found)
    if found != wanted:
        raise CheckError("ray", f"the Ray of {context.config.party} is {found}, its configuration says {wanted}")


async def check_kuscia(context: Context) -> None:
    """The own node's KusciaAPI takes certificate and token, and says that it works."""
    try:
        ready = await context.node.api.ready()
    except KusciaError as e:
        raise CheckError("kuscia", f"the Kuscia of {context.config.party}: {e}") from e
    if not ready:
        raise CheckError("kuscia", f"the Kuscia of {context.config.party} says that it is not ready")


async def check_route(context: Context, peer: str) -> None:
    """The own node and the peer's have agreed on a token (RouteStatus in Kuscia's domain_route.proto)."""
    party = context.config.party
    try:
        found = await context.node.api.query("ClusterDomainRoute", {"source": party, "destination": peer})
    except KusciaError as e:
        raise CheckError("route", str(e)) from e
    if found is None:
        raise CheckError("route", f"the node of {party} knows no way to {peer}")
    status = found.get("status") or {}
    if status.get("status") != "Succeeded":
        reason = status.get("reason") or "no reason is given"
        raise CheckError("route", f"the nodes of {party} and {peer} have not agreed on a token yet: {reason}")


async def check_table(context: Context, dataset: str) -> None:
    """The own node knows the dataset."""
    party = context.config.party
    try:
        found = await context.node.api.query("DomainData", {"domain_id": party, "domaindata_id": data_id(dataset)})
    except KusciaError as e:
        raise CheckError("table", str(e)) from e
    if not found:
        raise CheckError("table", f"the node of {party} knows no table {dataset!r}")


async def check_secretflow(context: Context) -> None:
    """The Python of the drivers can import SecretFlow, in the agreed version. Before a job's start the driver itself
    proves it, so prepare does not spend the seconds."""
    assert context.config.ray is not None
    party, python = context.config.party, context.config.ray.python
    program = "import secretflow; print(secretflow.__version__)"
    try:
        async with asyncio.timeout(_IMPORT_S):
            child = await asyncio.create_subprocess_exec(
                python, "-c", program, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
            )
            try:
                out, err = await child.communicate()
            finally:
                if child.returncode is None:
                    child.kill()
    except OSError as e:
        raise CheckError("secretflow", f"{python} of {party} cannot be run: {e.strerror}") from e
    except TimeoutError as e:
        raise CheckError("secretflow", f"import secretflow at {party} takes longer than {_IMPORT_S:g} s") from e
    if child.returncode:
        last = err.decode("utf-8", "replace").strip().splitlines()[-1:] or [f"exit code {child.returncode}"]
        raise CheckError("secretflow", f"{party} cannot import SecretFlow: {last[0][:300]}")
    found = out.decode("utf-8", "replace").split()[-1:]
    wanted = context.config.versions.get("secretflow", "")
    if found != [wanted]:
        raise CheckError("secretflow", f"the SecretFlow of {party} is {' '.join(found)}, agreed is {wanted}")


def check_ports(context: Context, slot: int) -> None:
    """Nobody listens on the ports of a free slot: a receiver of an earlier attempt would answer for the new one."""
    for service in ("fed", "spu"):
        address = getattr(context.config.own, service).get(str(slot))
        if address and _listening(int(address.rpartition(":")[2])):
            message = (
                f"port {address} ({service} of slot {slot}) of {context.config.party} is in use by a stale process"
            )
            raise CheckError("port", message)


def _check_free_slots(context: Context) -> None:
    used = context.store.used_slots()
    for slot in range(context.config.slots):
        if slot not in used:
            check_ports(context, slot)


def _listening(port: int) -> bool:
    with socket.socket(socket.AF_INET6 if socket.has_ipv6 else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return True
    return False


def check_folder(context: Context) -> None:
    """The coordinator may write where jobs are laid."""
    if not os.access(context.config.jobs_dir, os.W_OK):
        raise CheckError(
            "folder", f"{context.config.jobs_dir}: {context.config.party}'s coordinator may not write there"
        )


async def check_peer(context: Context, peer: str) -> None:
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
