"""Where the nodes of one institution reach one another: by name on an engine's network, by address on hosts."""

from __future__ import annotations

from consortium.node_file import Host
from consortium.spec import Model
from consortium.ssh_settings import SshHost


def head_name(party: str) -> str:
    """Host name of a party's head."""
    return f"{party}-head"


def gateway_name(party: str) -> str:
    """Host name of a party's gateway."""
    return f"{party}-gateway"


def head_address(model: Model) -> str:
    """Where the own head is reached."""
    return model.settings.ssh.head.inside_address if model.settings.ssh else head_name(model.party)


def gateway_address(model: Model) -> str:
    """Where the own gateway is reached from the inside."""
    if not model.settings.ssh:
        return gateway_name(model.party)
    if not model.settings.ssh.gateway:
        raise ValueError("with `mode: kuscia` there is no gateway")
    return model.settings.ssh.gateway.inside_address


def machine(model: Model, host: Host) -> SshHost:
    """The machine that carries a node of `placement: ssh`. ValueError for another placement."""
    if not model.settings.ssh:
        raise ValueError("only placement: ssh has machines")
    ssh = model.settings.ssh
    gateway = (ssh.gateway,) if ssh.gateway else ()
    return {"head": (ssh.head,), "worker": ssh.workers, "gateway": gateway}[host.role][host.index]
