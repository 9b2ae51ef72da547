"""Which throw-away consortiums there are on this machine: their names, ports, folders and owners.

A consortium belongs to the process that made it. When that process is gone, however it ended, the next one finds its
entry here and removes what it left (`reap`). An entry is written before anything is made on the engine.
"""

from __future__ import annotations

import os
import random
import secrets
import shutil
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import docker
import docker.errors
from pydantic import BaseModel, ConfigDict

from consortium import files
from consortium.errors import ConsortiumError
from consortium.folders import cache_folder, locked

ENTRY = "environment.json"
LABEL = "consortium.name"
LOWEST_PORT = 10_000


class Owner(BaseModel):
    """A process, told apart from a later one with the same number."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pid: int
    started: str
    """Boot id and start time in clock ticks since boot, as /proc says (proc(5), stat field 22)."""

    @classmethod
    def this_process(cls) -> Owner:
        return cls(pid=os.getpid(), started=_started(os.getpid()))

    @property
    def alive(self) -> bool:
        return _started(self.pid) == self.started


class Environment(BaseModel):
    """One throw-away consortium."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    owner: Owner | None
    """None: it is up, and kept until somebody reaps it by name."""
    gateway_ports: dict[str, int]
    operator_ports: dict[str, int]

    @property
    def folder(self) -> Path:
        """Holds one workspace per party."""
        return registry() / self.name

    @property
    def orphaned(self) -> bool:
        """Whether its owner is gone."""
        return self.owner is not None and not self.owner.alive

    def kept(self) -> Environment:
        """The same without an owner, registered."""
        disowned = self.model_copy(update={"owner": None})
        disowned.save()
        return disowned

    def save(self) -> None:
        """Register it as it is now."""
        files.write(self.folder / ENTRY, self.model_dump_json(indent=2) + "\n")


def registry() -> Path:
    """The folder with an entry for each throw-away consortium of this user."""
    return files.private_folder(cache_folder() / "testing")


def environments() -> list[Environment]:
    """All that are registered, by name."""
    found = []
    for entry in sorted(registry().glob(f"*/{ENTRY}")):
        with suppress(FileNotFoundError):  # reaped meanwhile
            found.append(Environment.model_validate_json(entry.read_bytes()))
    return found


def find(name: str) -> Environment:
    """The one with this name. Raises ConsortiumError."""
    known = environments()
    for environment in known:
        if environment.name == name:
            return environment
    raise ConsortiumError(
        "no such throw-away consortium on this machine",
        value=name,
        allowed=", ".join(e.name for e in known) or "there is none",
        fix="consortium testing list",
    )


def claim(parties: Sequence[str], address: str) -> Environment:
    """Register a consortium of this process, with a new name and ports that nobody else here has.

    Gateways listen on `address`. Raises ConsortiumError where too few ports are free.
    """
    with _exclusive():
        ports = _free_ports(address, 2 * len(parties))
        environment = Environment(
            name=f"t-{secrets.token_hex(4)}",
            owner=Owner.this_process(),
            gateway_ports={party: next(ports) for party in parties},
            operator_ports={party: next(ports) for party in parties},
        )
        files.private_folder(environment.folder)
        environment.save()
    return environment


def extend(environment: Environment, party: str, address: str) -> Environment:
    """The same with ports for one more party, registered."""
    with _exclusive():
        ports = _free_ports(address, 2)
        extended = environment.model_copy(
            update={
                "gateway_ports": {**environment.gateway_ports, party: next(ports)},
                "operator_ports": {**environment.operator_ports, party: next(ports)},
            }
        )
        extended.save()
    return extended


def reap(engine: docker.DockerClient, names: Sequence[str] | None = None) -> dict[str, list[str]]:
    """Remove the named consortiums, or all whose owners are gone. Name → what was removed of it.

    Raises ConsortiumError for a name that is not registered.
    """
    with _exclusive():  # two runs that begin together must not remove the same things
        wanted = [find(name) for name in names] if names is not None else [e for e in environments() if e.orphaned]
        return {environment.name: remove(engine, environment) for environment in wanted}


def remove(engine: docker.DockerClient, environment: Environment) -> list[str]:
    """Everything the engine has of it, then its folder and entry. Returns the names of what was there."""
    removed = sweep(engine, environment.name)
    shutil.rmtree(environment.folder)
    return removed


def sweep(engine: docker.DockerClient, name: str) -> list[str]:
    """Remove the containers, networks and volumes that carry a consortium's label. Returns their names."""
    ours: dict[str, str | list[str] | bool] = {"label": f"{LABEL}={name}"}
    removed = []
    for container in engine.containers.list(all=True, filters=ours, ignore_removed=True):
        with suppress(docker.errors.NotFound):
            container.remove(force=True, v=True)
            removed.append(str(container.name))
    for things in (engine.networks.list(filters=ours), engine.volumes.list(filters=ours)):
        for thing in things:
            with suppress(docker.errors.NotFound):
                thing.remove()
                removed.append(str(thing.name))
    return removed


@contextmanager
def _exclusive() -> Iterator[None]:
    with locked(registry() / "lock"):
        yield


def _started(pid: int) -> str:
    """Empty if there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot}:{stat.rpartition(')')[2].split()[19]}"


def _free_ports(address: str, count: int) -> Iterator[int]:
    """Ports that no entry holds and nobody listens on, below those that the kernel takes for outgoing connections."""
    end = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    taken = {port for e in environments() for ports in (e.gateway_ports, e.operator_ports) for port in ports.values()}
    found: list[int] = []
    for port in random.sample(range(LOWEST_PORT, end), end - LOWEST_PORT):
        if port not in taken and all(_free(host, port) for host in (address, "127.0.0.1")):
            found.append(port)
        if len(found) == count:
            return iter(found)
    raise ConsortiumError(
        "too few free ports",
        where=address,
        value=f"{len(found)} between {LOWEST_PORT} and {end}",
        allowed=f"{count} are needed",
    )


def _free(host: str, port: int) -> bool:
    with socket.socket() as probe, suppress(OSError):
        probe.bind((host, port))
        return True
    return False
