"""The SDK's functions that are served: looking at a network and at an image."""

from __future__ import annotations

from airgap.pulumi_resource_docker.daemon import Daemon
from airgap.pulumi_resource_docker.network import seen_ipam
from airgap.pulumi_resource_docker.wire import Props


def get_network(daemon: Daemon, args: Props) -> Props:
    """docker.get_network."""
    found = daemon.client.inspect_network(args["name"])
    return {
        "id": found["Id"],
        "name": found["Name"],
        "driver": found["Driver"],
        "internal": found["Internal"],
        "scope": found["Scope"],
        "options": found["Options"] or {},
        "ipamConfigs": seen_ipam(found),
    }


def get_remote_image(daemon: Daemon, args: Props) -> Props:
    """docker.get_remote_image."""
    found = daemon.client.inspect_image(args["name"])
    return {
        "id": found["Id"],
        "name": args["name"],
        "repoDigest": (found["RepoDigests"] or [""])[0],
    }


FUNCTIONS = {
    "docker:index/getNetwork:getNetwork": get_network,
    "docker:index/getRemoteImage:getRemoteImage": get_remote_image,
}
