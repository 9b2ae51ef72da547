"""`ssh` in the stack settings: the machines of an institution that are there already, and how they are reached."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

_NAME = re.compile(r"(?=.{1,253}$)([a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?\.)*[a-zA-Z][a-zA-Z0-9-]{0,62}")
_KEY_TYPES = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "ssh-rsa",
)


def _ip(value: str) -> str:
    try:
        found = ipaddress.IPv4Address(value)
    except ValueError:
        raise ValueError("must be an IPv4 address: Ray knows no other") from None
    if found.is_loopback or found.is_unspecified or found.is_multicast:
        raise ValueError("must be an address at which the other hosts of this institution reach it")
    return str(found)


def _reachable(value: str) -> str:
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        if not _NAME.fullmatch(value):
            raise ValueError("must be an IP address or a host name that this machine can reach") from None
        return value


def _network(value: str) -> str:
    try:
        return str(ipaddress.ip_network(value))
    except ValueError:
        raise ValueError("must be a network such as 10.0.0.0/8, its host bits zero") from None


def _host_key(value: str) -> str:
    kind, _, blob = value.partition(" ")
    if kind not in _KEY_TYPES:
        raise ValueError(f"must begin with one of {', '.join(_KEY_TYPES)}, as in /etc/ssh/ssh_host_ed25519_key.pub")
    try:
        raw = base64.b64decode(blob, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("must be the key's type and base64 text with one space between, without a comment") from None
    length = int.from_bytes(raw[:4], "big")
    if raw[4 : 4 + length] != kind.encode():
        raise ValueError(f"is no key of type {kind}: its text was cut or changed")
    return value


Ip = Annotated[str, StringConstraints(max_length=64), AfterValidator(_ip)]
Address = Annotated[str, StringConstraints(max_length=253), AfterValidator(_reachable)]
Network = Annotated[str, StringConstraints(max_length=64), AfterValidator(_network)]
HostKey = Annotated[str, StringConstraints(max_length=2048), AfterValidator(_host_key)]
UserName = Annotated[str, StringConstraints(pattern=r"^[a-z_][a-z0-9_.-]{0,31}$")]
Port = Annotated[int, Field(ge=1, le=65535, strict=True)]

SSH_KEY = "sshKey"
"""What the stack's secret is called with which the hosts are reached."""
ANYWHERE = ("0.0.0.0/0", "::/0")


class _Ssh(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class SshHost(_Ssh):
    """One machine; it carries one node."""

    address: Address
    """Where this machine reaches its sshd."""
    host_keys: tuple[HostKey, ...] = Field(min_length=1, max_length=8)
    """Its sshd's public keys, `type base64`. A host that shows another is not spoken to."""
    inside: Ip | None = None
    """Where the institution's other hosts reach it; null = `address`, which must be an IPv4 address then."""
    port: Port | None = None
    """Of its sshd; null = that of all hosts."""
    user: UserName | None = None
    """Who signs in; null = that of all hosts."""

    @model_validator(mode="after")
    def _known_inside(self) -> Self:
        try:
            _ip(self.inside or self.address)
        except ValueError as error:
            raise ValueError(f"`inside` is needed beside the address {self.address}: it {error}") from None
        return self

    @property
    def inside_address(self) -> str:
        """Its IP address for the institution's other hosts."""
        return self.inside or self.address


class Opening(_Ssh):
    """A port of every host that is none of ours, and who may reach it."""

    port: Port
    """TCP."""
    sources: tuple[Network, ...] = Field(min_length=1, max_length=64)
    """Networks that may reach it."""


class SshPlacement(_Ssh):
    """The hosts of `placement: ssh`. `user` and `port` are for all hosts that name none of their own."""

    head: SshHost
    """Ray's head and the coordinator; with `mode: kuscia` the coordinator and the Kuscia node."""
    gateway: SshHost | None = None
    """Envoy; needed in Ray mode. With `mode: kuscia` the head carries the Kuscia node, which is the door."""
    workers: tuple[SshHost, ...] = Field((), max_length=64)
    """As many as `workers` of the settings says."""
    user: UserName = "root"
    """Who signs in."""
    port: Port = 22
    """Of sshd."""
    become: bool = True
    """Whether `user`, unless it is root, becomes root by sudo without a password."""
    admin_from: tuple[Network, ...] = Field(ANYWHERE, min_length=1, max_length=64)
    """Who may reach sshd, and the operator's port where that is not on loopback."""
    also_open: tuple[Opening, ...] = Field((), max_length=64)
    """For what else runs on these hosts: monitoring, backup."""
    clock: Literal["chrony", "other"] = "chrony"
    """`other`: the clock is kept by something that this project neither installs nor checks."""

    @model_validator(mode="after")
    def _hosts_apart(self) -> Self:
        for what, values in (
            ("address", [f"{h.address} port {h.port or self.port}" for h in self.hosts()]),
            ("inside address", [h.inside_address for h in self.hosts()]),
        ):
            if twice := sorted({value for value in values if values.count(value) > 1}):
                raise ValueError(f"two hosts have the same {what} {twice[0]}: a host carries one node")
        return self

    def hosts(self) -> tuple[SshHost, ...]:
        """All hosts: the head, the workers, the gateway."""
        return (self.head, *self.workers, *((self.gateway,) if self.gateway else ()))
