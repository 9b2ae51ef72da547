"""What is asked of the container engine itself."""

from __future__ import annotations

import ipaddress

import docker


def engine_address() -> str:
    """The address at which containers reach ports that this machine publishes: the engine's default bridge."""
    config = docker.from_env().networks.get("bridge").attrs["IPAM"]["Config"][0]
    # An engine that was just started leaves the gateway out; it is the subnet's first address then.
    return str(config.get("Gateway") or next(ipaddress.ip_network(config["Subnet"]).hosts()))
