"""A coordinator that sees another clock, names jobs otherwise, or has other versions or another program."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib import resources
from typing import Any

from testing.consortium import Consortium
from testing.faults.fault import fault, until
from testing.faults.hands import added, changed, read, read_bytes, restart, write
from testing.nodes import Node
from testing.party import Party
from testing.run import Run

CONFIG = "/etc/consortium/coordinator.json"
SETTINGS = "/run/consortium-fault.json"
BUNDLES = "/var/lib/consortium/bundles"
_LIBRARIES = tuple(f"/opt/{venv}/lib/python3.11/site-packages" for venv in ("coordinator", "secretflow"))
_MARK = f"{_LIBRARIES[0]}/consortium_fault.pth"


@contextmanager
def shimmed(party: Party) -> Iterator[None]:
    """Let the party's coordinator and drivers be shown other values; nothing is different yet.

    Both begin and end restart the coordinator. Around what has it already it does nothing.
    """
    head = party.head
    if head.run("test", "-e", _MARK)[0] == 0:
        yield
        return
    program = resources.files("testing.faults").joinpath("shim.py").read_text()
    with ExitStack() as undo:
        undo.callback(restart, head, "coordinator")
        undo.callback(head.check, "rm", "-f", SETTINGS)
        for folder in _LIBRARIES:
            undo.enter_context(added(head, f"{folder}/consortium_fault.py", program))
            undo.enter_context(added(head, f"{folder}/consortium_fault.pth", "import consortium_fault\n"))
        restart(head, "coordinator")
        yield


@contextmanager
def shown(party: Party, **values: Any) -> Iterator[None]:
    """Show a party's shim some values besides those it is shown already."""
    with shimmed(party):
        head = party.head
        before = _values(head)
        try:
            write(head, SETTINGS, json.dumps({**before, **values}))
            yield
        finally:
            kept = {k: v for k, v in _values(head).items() if k not in values}
            write(head, SETTINGS, json.dumps({**kept, **{k: before[k] for k in values if k in before}}))


def _values(head: Node) -> dict[str, Any]:
    if head.run("test", "-e", SETTINGS)[0]:
        return {}
    found: dict[str, Any] = json.loads(read(head, SETTINGS))
    return found


@contextmanager
def all_shimmed(consortium: Consortium) -> Iterator[None]:
    """Every party's coordinator, once, so that a fault needs no restart when it strikes."""
    with ExitStack() as undo:
        for party in consortium.parties.values():
            undo.enter_context(shimmed(party))
        consortium.wait_until_connected()
        yield


@fault("sidecar")
def clock_offset(party: Party, seconds: float = 3.0) -> Iterator[str]:
    """A party's clock is set: its coordinator, and every driver it starts from now on, see another time of day."""
    with shown(party, clock_s=seconds):
        yield f"the clock of {party.name} is {abs(seconds):g} s {'fast' if seconds > 0 else 'slow'}"


@fault("sidecar")
def wrong_job_name(party: Party, suffix: str = "-other") -> Iterator[str]:
    """A party calls an attempt by another name than its peers do."""
    with shown(party, job_name=suffix):
        yield f"{party.name} puts {suffix!r} behind the name of every attempt"


@fault("sidecar")
def slow_checks(party: Party, seconds: float = 5.0) -> Iterator[str]:
    """The checks before a promise take longer at a party."""
    with shown(party, checks_s=seconds):
        yield f"{party.name} needs {seconds:g} s more for its checks before it promises"


@fault("sidecar")
def changed_version(party: Party, package: str = "secretflow", version: str = "0.0.0") -> Iterator[str]:
    """A party has another version of a package, as its configuration says. Restarts its coordinator."""

    def change(text: str) -> str:
        document = json.loads(text)
        document["versions"][package] = version
        return json.dumps(document)

    head = party.head
    with ExitStack() as undo:
        undo.callback(restart, head, "coordinator")
        undo.enter_context(changed(head, CONFIG, change))
        restart(head, "coordinator")
        yield f"{party.name} has {package} {version}"


@fault("sidecar")
def changed_program(party: Party, run: Run) -> Iterator[str]:
    """The folder of a job that a party keeps is not the one that was proposed and approved."""
    from coordinator.bundle import pack, unpack

    head = party.head
    path = f"{BUNDLES}/{run.view(party.name)['proposal']['program_digest']}.tar"
    until(lambda: head.run("test", "-e", path)[0] == 0, f"the arrival of {path} at {party.name}", 30)
    before = read_bytes(head, path)
    files = unpack(before, 100_000_000)
    name = next(n for n in sorted(files) if n.endswith(".py"))
    files[name] += b"\n# changed by a fault\n"
    try:
        write(head, path, pack(files))
        yield f"{name} of {run.job_id} is another one at {party.name}"
    finally:
        write(head, path, before)
