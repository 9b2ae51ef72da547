"""What a host of `placement: ssh` has besides the files of its node: units, firewall, bounds of its log.

Pure, like nodefiles.py. A unit is hardened as far as its service stands it; docs/ssh.md has the scores.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Any

from consortium import ports
from consortium.kuscia.host_view import STOP_S
from consortium.node_addresses import machine
from consortium.node_file import Host, NodeFile
from consortium.node_paths import ACCESS_DIR, JOBS_DIR, STATE_DIR
from consortium.render import render
from consortium.spec import Model
from consortium.ssh_settings import ANYWHERE

SYSTEMD = PurePosixPath("/etc/systemd")
FIREWALL = PurePosixPath("/etc/consortium/firewall.nft")
FIREWALL_PROGRAM = PurePosixPath("/usr/local/sbin/consortium-firewall")
JOURNAL = SYSTEMD / "journald@consortium.conf"
ADDRESSES = SYSTEMD / "system" / "consortium.service.d" / "addresses.conf"
"""Template of what says to whom a service may speak."""
LOG_MB = 1024
"""What the journal of our services takes on a host at most; older entries go first."""
LOG_DAYS = 90
_WRITABLE = {
    "ray": (JOBS_DIR,),
    "coordinator": (STATE_DIR, JOBS_DIR),
    "gateway": (ACCESS_DIR,),
}
_MASKS = {"ray": "0007", "coordinator": "0007", "gateway": "0027"}


def services_of(role: str, *, kuscia: bool = False) -> tuple[str, ...]:
    """The services of a node, in the order in which they start."""
    if kuscia:
        return ("kuscia", "coordinator")
    return {"head": ("ray", "coordinator"), "worker": ("ray",), "gateway": ("gateway",)}[role]


def addresses_of(service: str) -> PurePosixPath:
    """The file that says to whom a service may speak."""
    return SYSTEMD / "system" / f"consortium-{service}.service.d" / ADDRESSES.name


def names_own_hosts(path: str) -> bool:
    """Whether a file of a host says who the own hosts are: it changes when one comes or goes."""
    return PurePosixPath(path) in (FIREWALL, *map(addresses_of, ("ray", "coordinator")))


def host_files(model: Model, host: Host) -> tuple[NodeFile, ...]:
    """The files of one host, for systemd and nftables; none where nodes are containers."""
    if model.settings.placement != "ssh":
        return ()
    return (
        _file(FIREWALL_PROGRAM, mode="0755", rules=str(FIREWALL)),
        _file(FIREWALL, service="firewall", on_change="reload", firewall=firewall_view(model, host)),
        _file(SYSTEMD / "system" / "consortium-firewall.service", program=str(FIREWALL_PROGRAM)),
        _file(JOURNAL, log_mb=LOG_MB, log_days=LOG_DAYS),
        *(
            _file(
                SYSTEMD / "system" / f"consortium-{service}.service",
                template=SYSTEMD / "system" / "consortium.service",
                service=service,
                on_change="restart",
                unit=unit_view(model, host, service),
            )
            for service in services_of(host.role, kuscia=model.kuscia is not None)
            if service != "kuscia"
        ),
        # Beside the unit, not in it: one host more or less restarts nothing. systemd applies it when it reads it.
        *(_file(addresses_of(service), template=ADDRESSES, only_to=_own(model)) for service in _confined(model, host)),
        *((_kuscia_unit(model),) if model.kuscia else ()),
    )


def _kuscia_unit(model: Model) -> NodeFile:
    """Root's, since it asks the container engine: it has a template of its own."""
    path = SYSTEMD / "system" / "consortium-kuscia.service"
    return _file(path, service="kuscia", on_change="restart", party=model.party, stop_s=STOP_S)


def unit_view(model: Model, host: Host, service: str) -> dict[str, Any]:
    """The variable `unit` of the template of a service's unit."""
    limits = model.limits_of(host.role)
    low_port = service == "gateway" and min(model.settings.gateway.port, model.settings.operator.port) < 1024
    return {
        "service": service,
        "party": model.party,
        "umask": _MASKS[service],
        "writable": [f"/var/lib/{service}", *map(str, _WRITABLE[service])],
        # The whole host is the node's: the head's share is Ray's, and the coordinator takes little beside it.
        "memory_mb": limits.memory_mb if service != "coordinator" else None,
        "cpu_percent": round(limits.cpus * 100) if service != "coordinator" else None,
        "gpus": limits.gpus if service == "ray" else 0,
        "low_port": low_port,
        "confined": service in _confined(model, host),
        # It runs programs: JAX compiles at run time, Ray reads the machine's memory and sets priorities.
        "runs_programs": service == "ray",
        # The coordinator makes folders with setgid: what it lays for a driver belongs to the group ray.
        "sets_gid": service == "coordinator",
    }


def firewall_view(model: Model, host: Host) -> dict[str, Any]:
    """The variable `firewall`: who may reach which ports of this host, and whom its services may reach."""
    ssh = model.settings.ssh
    if ssh is None:
        raise ValueError("only placement: ssh has a firewall of its own")
    admin = [machine(model, host).port or ssh.port]
    open_to_all: list[int] = []
    if host.role == "gateway" or model.kuscia:
        open_to_all = [model.settings.gateway.port]
        if not ipaddress.ip_address(model.settings.operator.bind).is_loopback:
            admin.append(model.settings.operator.port)
    return {
        "public_ports": open_to_all,
        "own": _own(model),
        "rules": [
            *(_rule(ssh.admin_from, str(port)) for port in admin),
            *(_rule(opening.sources, str(opening.port)) for opening in ssh.also_open),
            *_inside(model, host),
        ],
        "confined": _confined(model, host),
    }


def _confined(model: Model, host: Host) -> list[str]:
    """Services that speak to own hosts only; a door speaks to peers, whose addresses may change."""
    return [s for s in services_of(host.role, kuscia=model.kuscia is not None) if s not in ("gateway", "kuscia")]


def _inside(model: Model, host: Host) -> list[dict[str, Any]]:
    """Which of our own hosts may reach which ports here; what is listed nowhere is closed."""
    ssh = model.settings.ssh
    assert ssh
    if not ssh.gateway:  # Kuscia's one host: loopback is open to itself
        return []
    head, gateway = ssh.head.inside_address, ssh.gateway.inside_address
    workers = [worker.inside_address for worker in ssh.workers]
    options = ports.RAY_FIXED_PORTS
    ray = [
        f"{ports.RAY_GCS_PORT}-{options['metrics-export-port']}",
        f"{options['min-worker-port']}-{options['max-worker-port']}",
    ]
    if host.role == "gateway":
        out = [
            port
            for services in ports.outbound_ports(model.consortium.members, model.party, model.consortium.slots).values()
            for port in services.values()
        ]
        return [_rule([head, *workers], f"{min(out)}-{max(out)}")]
    cluster = [address for address in (head, *workers) if address != machine(model, host).inside_address]
    found = [_rule(cluster, *ray)] if cluster else []
    if host.role == "head":
        services = ports.services(model.consortium.slots)
        forwarded = sorted({ports.COORDINATOR_OPERATOR_PORT, *services.values()})
        found.append(_rule([gateway], *map(str, forwarded)))
    return found


def _rule(sources: Iterable[str], *open_ports: str) -> dict[str, Any]:
    found = list(sources)
    anywhere = set(ANYWHERE) <= set(found)
    return {"anywhere": anywhere, "sources": _by_family(found), "ports": list(open_ports)}


def _own(model: Model) -> list[str]:
    assert model.settings.ssh
    return [host.inside_address for host in model.settings.ssh.hosts()]


def _by_family(addresses: Iterable[str]) -> dict[str, list[str]]:
    """nftables has one word for the addresses of each family."""
    found: dict[str, list[str]] = {"ip": [], "ip6": []}
    for address in addresses:
        found["ip6" if ":" in address else "ip"].append(address)
    return found


def _file(path: PurePosixPath, *, template: PurePosixPath | None = None, mode: str = "0644", **more: Any) -> NodeFile:
    about = {key: more.pop(key) for key in ("service", "on_change") if key in more}
    return NodeFile(str(path), render(f"{str(template or path).lstrip('/')}.j2", more), mode=mode, **about)
