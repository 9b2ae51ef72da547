"""Processes that die or stand still."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Literal

from consortium.errors import UsageError
from testing.faults.fault import fault, until
from testing.faults.hands import SYSTEM_PYTHON, healthy
from testing.leftovers import Look
from testing.nodes import Node
from testing.party import Party
from testing.run import Run

Part = Literal["driver", "ray-worker", "ray-head", "coordinator", "gateway", "party"]
PARTS: tuple[Part, ...] = ("driver", "ray-worker", "ray-head", "coordinator", "gateway", "party")
_SERVICES: dict[Part, str] = {
    "ray-worker": "ray",
    "ray-head": "ray",
    "coordinator": "coordinator",
    "gateway": "gateway",
}


@fault("processes")
def kill(party: Party, part: Part, run: Run | None = None, *, stays: bool = False) -> Iterator[str]:
    """A part of a party is killed (SIGKILL). What has a supervisor comes back at once, unless it `stays` away.

    `driver` needs the `run` whose driver is meant, and does not come back. A whole party always stays away.
    """
    if part == "driver":
        group = _group(party, run)
        party.head.check("kill", "-KILL", "--", f"-{group}")
        yield f"killed {party.name}'s driver of {run.job_id if run else ''} (process group {group})"
        return
    if part == "party":
        nodes = party.nodes
        try:
            for node in nodes:
                node.container.kill()
            yield f"killed all nodes of {party.name}"
        finally:
            for node in nodes:
                node.container.start()
            for node in nodes:
                healthy(node)
        return
    node, service = _home(party, part), _SERVICES[part]
    before = _pid(node, service)
    try:
        if stays:
            node.check("sv", "once", f"/etc/service/{service}")  # the supervisor will not start it again
        node.check("pkill", "-KILL", "-u", service)
        until(lambda: not _lives(node, before), f"the end of process {before} of {node.name}")
        yield f"killed {service} of {node.name}" + (", which stays away" if stays else "")
    finally:
        node.check("sv", "up", f"/etc/service/{service}")
        healthy(node)


@fault("processes")
def pause(party: Party, part: Part, run: Run | None = None) -> Iterator[str]:
    """A part of a party stands still (SIGSTOP, or the engine's freezer): it keeps its connections, and says nothing."""
    if part == "driver":
        group = _group(party, run)
        try:
            party.head.check("kill", "-STOP", "--", f"-{group}")
            yield f"stopped {party.name}'s driver of {run.job_id if run else ''} (process group {group})"
        finally:
            party.head.run("kill", "-CONT", "--", f"-{group}")  # it may have been ended meanwhile
        return
    if part in ("ray-head", "coordinator"):  # these two share the head
        node, user = party.head, _SERVICES[part]
        try:
            node.check("pkill", "-STOP", "-u", user)
            yield f"stopped every process of {user} on {node.name}"
        finally:
            node.run("pkill", "-CONT", "-u", user)
            healthy(node)
        return
    nodes = party.nodes if part == "party" else [_home(party, part)]
    with ExitStack() as undo:
        for node in nodes:
            node.container.pause()
            undo.callback(_thaw, node)
        yield f"paused {', '.join(node.name for node in nodes)}"
    for node in nodes:
        healthy(node)


_HOLD = """
import json, os, signal, sys, time
folder, seconds, part, pattern = sys.argv[1], float(sys.argv[2]), sys.argv[3], sys.argv[4]
def of(path, key):
    try:
        return json.load(open(folder + path))[key]
    except (OSError, ValueError, KeyError):
        return None
while not of("/output/session.json", "ready_at"):
    time.sleep(0.005)
held = []
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        args = open(f"/proc/{pid}/cmdline").read().replace("\\0", " ")
    except OSError:
        continue
    if pattern in args and int(pid) != os.getpid():
        held.append(int(pid))
def end(*_):
    for pid in held:
        try:
            os.kill(pid, signal.SIGCONT)
        except ProcessLookupError:
            pass
    os._exit(0)
signal.signal(signal.SIGTERM, end)
for pid in held:
    os.kill(pid, signal.SIGSTOP)
begin = time.time()
if part == "driver":
    while not (begin := of("/go.json", "start_at")):
        time.sleep(0.005)
while (left := begin + seconds - time.time()) > 0:
    time.sleep(left)
end()
"""


@fault("processes")
def start_skew(
    party: Party, run: Run, seconds: float, part: Literal["driver", "coordinator"] = "driver"
) -> Iterator[str]:
    """A party is late: its driver has loaded, and it (or the coordinator) then stands still for a while.

    The driver stands until so long after the agreed moment, the coordinator for so long after the driver has loaded.
    Enter it before the job's first attempt is ready; it strikes by itself, once.
    """
    head, folder = party.head, f"/var/lib/consortium-jobs/{run.job_id}/1"
    pattern = f"/{run.job_id}/1/program/" if part == "driver" else "-m coordinator serve"
    marker = f"hold-{run.job_id}-{part}"
    command = [SYSTEM_PYTHON, "-I", "-c", f"# {marker}\n{_HOLD}", folder, str(seconds), part, pattern]
    head.container.exec_run(command, detach=True)
    try:
        yield f"{party.name}'s {part} begins {seconds:g} s late in the first attempt of {run.job_id}"
    finally:
        head.run("pkill", "-TERM", "-f", f"^{SYSTEM_PYTHON} -I -c # {marker}")


def _group(party: Party, run: Run | None) -> int:
    if run is None:
        raise UsageError("a driver belongs to a job", fix="give the run: kill(party, 'driver', run)")
    group = Look(party, run).group
    if group is None:
        raise AssertionError(f"{party.name} runs no driver of {run.job_id}")
    return group


def _home(party: Party, part: Part) -> Node:
    if part == "ray-worker":
        if not party.workers:
            raise UsageError("this party has no Ray workers", value=party.name, fix="Consortium(workers=1)")
        return party.workers[0]
    return party.gateway if part == "gateway" else party.head


def _thaw(node: Node) -> None:
    container = node.container
    if container.status == "paused":
        container.unpause()


def _pid(node: Node, service: str) -> int:
    return int(node.check("cat", f"/etc/service/{service}/supervise/pid"))


def _lives(node: Node, pid: int) -> bool:
    return node.run("kill", "-0", str(pid))[0] == 0
