"""What a container is now: for refresh (has it drifted?) and for import (what is it?). Pure."""

from __future__ import annotations

from typing import Any

from airgap.pulumi_resource_docker.container_table import CONTAINER
from airgap.pulumi_resource_docker.resource import foreign_labels
from airgap.pulumi_resource_docker.table import On
from airgap.pulumi_resource_docker.wire import Props

# What docker sets when nothing is asked for: an import need not tell it.
DEFAULTS = {
    "networkMode": ("default", "bridge"),
    "ipcMode": ("private", "shareable"),
    "cgroupnsMode": ("private", "host"),
    "shmSize": (64,),
    "restart": ("no",),
    "runtime": ("runc",),
    "stopSignal": ("SIGTERM",),
    "cpus": ("0",),
}
# What the image sets as well, by its own names.
FROM_IMAGE = {
    "command": "Cmd",
    "entrypoints": "Entrypoint",
    "user": "User",
    "workingDir": "WorkingDir",
    "stopSignal": "StopSignal",
}
# What the official provider fills in when the program leaves it out.
FILLED = ("command", "entrypoints", "hostname", "init", "ipcMode", "runtime", "shmSize", "stopSignal")
COMPUTED = ("bridge", "networkDatas", *FILLED)


def outputs(inspected: Props, inputs: Props) -> Props:
    """Properties that nobody gave."""
    networks = inspected["NetworkSettings"]["Networks"] or {}
    found: Props = {
        "bridge": inspected["NetworkSettings"].get("Bridge", ""),
        "networkDatas": [
            {
                "networkName": name,
                "ipAddress": at["IPAddress"],
                "ipPrefixLength": at["IPPrefixLen"],
                "gateway": at["Gateway"],
                "globalIpv6Address": at["GlobalIPv6Address"],
                "globalIpv6PrefixLength": at["GlobalIPv6PrefixLen"],
                "ipv6Gateway": at["IPv6Gateway"],
                "macAddress": at["MacAddress"],
            }
            for name, at in sorted(networks.items())
        ],
    }
    for name in FILLED:
        seen = CONTAINER[name].seen
        if name not in inputs and seen:
            found[name] = seen(inspected)
    if not inspected["State"]["Running"]:
        found["exitCode"] = inspected["State"]["ExitCode"]
    return found


def drifted(inspected: Props, inputs: Props, image_id: str | None) -> Props:
    """Inputs that no longer hold. Only what docker can change in a living container is compared;
    the rest is as it was created. ``image_id`` is what the given image name means now."""
    found: Props = {}
    for name, prop in CONTAINER.items():
        changeable = prop.on in (On.UPDATE, On.LIMIT) or name == "name"
        if not (changeable and prop.seen and name in inputs):
            continue
        now = prop.seen(inspected)
        if (now or None) != (inputs[name] or None) and not _same_number(now, inputs[name]):
            found[name] = now
    if inputs.get("image") and image_id != inspected["Image"]:
        found["image"] = inspected["Image"]
    networks = inspected["NetworkSettings"]["Networks"] or {}
    names = {*networks, *(at["NetworkID"] for at in networks.values())}
    wanted = inputs.get("networksAdvanced", [])
    if inspected["State"]["Running"] and any(one["name"] not in names for one in wanted):
        found["networksAdvanced"] = [one for one in wanted if one["name"] in names]
    must_run = inputs.get("mustRun", True) and inputs.get("start", True)
    if must_run and not inspected["State"]["Running"]:
        found["mustRun"] = False
    return found


def _same_number(now: Any, given: Any) -> bool:
    """``2`` and ``2.0`` CPUs are the same."""
    try:
        return float(now) == float(given)
    except (TypeError, ValueError):
        return False


def importable(inspected: Props, image: Props) -> Props:
    """The inputs that would make such a container: what differs from docker's and the image's."""
    found: Props = {}
    theirs = image.get("Config") or {}
    for name, prop in CONTAINER.items():
        value = prop.seen(inspected) if prop.seen else None
        if value in (None, "", 0, False, [], {}) or value in DEFAULTS.get(name, ()):
            continue
        if name in FROM_IMAGE and value == theirs.get(FROM_IMAGE[name]):
            continue
        found[name] = value
    found["envs"] = [e for e in found.get("envs", []) if e not in (theirs.get("Env") or [])]
    ours = {**(inspected["Config"]["Labels"] or {})}
    kept = {k: x for k, x in ours.items() if (theirs.get("Labels") or {}).get(k) != x}
    found["labels"] = foreign_labels(kept)
    if inspected["Id"].startswith(found.get("hostname", "-")):
        del found["hostname"]
    networks = inspected["NetworkSettings"]["Networks"] or {}
    if found.pop("networkMode", None) in networks:
        found["networksAdvanced"] = [{"name": name} for name in sorted(networks)]
    return {name: value for name, value in found.items() if value != []}
