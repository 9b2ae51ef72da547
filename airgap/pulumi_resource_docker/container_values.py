"""How the container's structured properties are written in Docker's API, and how they are read."""

from __future__ import annotations

import re
from typing import Any

from airgap.pulumi_resource_docker.wire import Props

MEBI = 2**20
CPU = 10**9
UNITS = {"h": 3600, "m": 60, "s": 1, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
DURATION = re.compile(r"([\d.]+)(ms|us|µs|ns|h|m|s)")


def megabytes(value: int) -> int:
    """Memory sizes are given in MB; -1 means no limit."""
    return value * MEBI if value > 0 else value


def cpus(value: str) -> int:
    """``1.5`` as billionths."""
    return round(float(value) * CPU)


def nanoseconds(duration: str) -> int:
    """Go's notation of a duration: ``1m30s``."""
    return round(sum(float(n) * UNITS[unit] for n, unit in DURATION.findall(duration)) * CPU)


def bad_duration(value: str) -> str | None:
    """A reason to refuse a duration."""
    if value == "0" or DURATION.sub("", value) == "" != value:
        return None
    return f"= {value!r} must be a duration as 30s or 1m30s"


def bad_cpus(value: str) -> str | None:
    """A reason to refuse a number of CPUs."""
    return None if re.fullmatch(r"\d+(\.\d+)?", value) else f"= {value!r} must be a number, as 1.5"


def bad_envs(values: list[str]) -> str | None:
    """A reason to refuse an environment. The value is not shown: it may be a secret."""
    bad = [str(at) for at, value in enumerate(values) if "=" not in value and "-" not in value]
    return f"item {', '.join(bad)} must be NAME=VALUE" if bad else None


def port_key(port: Props) -> str:
    """Docker's name of a container's port."""
    return f"{port['internal']}/{port.get('protocol') or 'tcp'}"


def exposed(ports: list[Props]) -> Props:
    """The ports that the container has."""
    return {port_key(port): {} for port in ports}


def port_bindings(ports: list[Props]) -> Props:
    """Where they are published; docker chooses a port when none is given."""
    made: Props = {}
    for port in ports:
        bound = {"HostIp": port.get("ip") or "0.0.0.0", "HostPort": str(port.get("external") or "")}
        made.setdefault(port_key(port), []).append(bound)
    return made


def seen_ports(inspected: Props) -> list[Props]:
    """The reverse."""
    found = []
    for key, bound in sorted((inspected["HostConfig"]["PortBindings"] or {}).items()):
        number, protocol = key.split("/")
        for one in bound or []:
            port: Props = {"internal": int(number)}
            if protocol != "tcp":
                port["protocol"] = protocol
            if one["HostPort"]:
                port["external"] = int(one["HostPort"])
            if one["HostIp"] not in ("", "0.0.0.0"):
                port["ip"] = one["HostIp"]
            found.append(port)
    return found


def binds(volumes: list[Props]) -> list[str]:
    """Named volumes and folders of the host."""
    made = []
    for volume in volumes:
        source = volume.get("volumeName") or volume.get("hostPath")
        if source:
            mode = "ro" if volume.get("readOnly") else "rw"
            relabel = volume.get("selinuxRelabel")
            mode = f"{mode},{relabel}" if relabel else mode
            made.append(f"{source}:{volume['containerPath']}:{mode}")
    return made


def anonymous(volumes: list[Props]) -> Props:
    """Volumes of the container alone."""
    sources = ("volumeName", "hostPath", "fromContainer")
    return {v["containerPath"]: {} for v in volumes if not any(v.get(s) for s in sources)}


def borrowed(volumes: list[Props]) -> list[str]:
    """Containers whose volumes are taken over."""
    chosen = [v for v in volumes if v.get("fromContainer")]
    return [f"{v['fromContainer']}:{'ro' if v.get('readOnly') else 'rw'}" for v in chosen]


def bad_volumes(volumes: list[Props]) -> str | None:
    """A reason to refuse volumes."""
    for at, volume in enumerate(volumes):
        if not isinstance(volume, dict):
            continue
        if not volume.get("containerPath") and not volume.get("fromContainer"):
            return f"[{at}] needs a containerPath"
        if volume.get("volumeName") and volume.get("hostPath"):
            return f"[{at}] has a volumeName and a hostPath: give one"
    return None


def seen_volumes(inspected: Props) -> list[Props]:
    """The reverse."""
    found = []
    for bind in inspected["HostConfig"]["Binds"] or []:
        source, path, *mode = bind.split(":")
        volume: Props = {"containerPath": path}
        volume["hostPath" if source.startswith("/") else "volumeName"] = source
        if mode and "ro" in mode[0].split(","):
            volume["readOnly"] = True
        found.append(volume)
    return found


def mounts(given: list[Props]) -> list[Props]:
    """Docker's newer way to say the same, with options."""
    made = []
    for mount in given:
        one = {
            "Type": mount["type"],
            "Target": mount["target"],
            "Source": mount.get("source"),
            "ReadOnly": mount.get("readOnly", False),
        }
        if bind := mount.get("bindOptions"):
            one["BindOptions"] = {"Propagation": bind.get("propagation")}
        if tmpfs := mount.get("tmpfsOptions"):
            one["TmpfsOptions"] = {"Mode": tmpfs.get("mode"), "SizeBytes": tmpfs.get("sizeBytes")}
        if volume := mount.get("volumeOptions"):
            driver = {"Name": volume.get("driverName"), "Options": volume.get("driverOptions")}
            one["VolumeOptions"] = {
                "NoCopy": volume.get("noCopy", False),
                "Labels": {item["label"]: item["value"] for item in volume.get("labels", [])},
                "DriverConfig": driver if driver["Name"] else None,
            }
        made.append(one)
    return made


def healthcheck(given: Props) -> Props:
    """Docker's names; its durations are nanoseconds."""
    made: Props = {"Test": given["tests"], "Retries": given.get("retries", 0)}
    for key, theirs in HEALTH_DURATIONS.items():
        made[theirs] = nanoseconds(given[key]) if key in given else 0
    return made


HEALTH_DURATIONS = {"interval": "Interval", "timeout": "Timeout", "startPeriod": "StartPeriod"}


def seen_healthcheck(inspected: Props) -> Props | None:
    """The reverse."""
    check = inspected["Config"].get("Healthcheck")
    if not check or not check.get("Test"):
        return None
    found: Props = {"tests": check["Test"]}
    if check.get("Retries"):
        found["retries"] = check["Retries"]
    for key, theirs in HEALTH_DURATIONS.items():
        if check.get(theirs):
            found[key] = f"{check[theirs] / CPU:g}s"
    return found


def endpoint(network: Props) -> Props:
    """A container's place in a network."""
    keys = {"ipv4Address": "IPv4Address", "ipv6Address": "IPv6Address", "linkLocalIps": "LinkLocalIPs"}
    addresses = {theirs: network[key] for key, theirs in keys.items() if network.get(key)}
    made: dict[str, Any] = {"Aliases": network.get("aliases", [])}
    if addresses:
        made["IPAMConfig"] = addresses
    if network.get("driverOpts"):
        made["DriverOpts"] = dict(option.split("=", 1) for option in network["driverOpts"])
    return made


def devices(given: list[Props]) -> list[Props]:
    """Devices of the host."""
    return [
        {
            "PathOnHost": device["hostPath"],
            "PathInContainer": device.get("containerPath") or device["hostPath"],
            "CgroupPermissions": device.get("permissions") or "rwm",
        }
        for device in given
    ]


def device_requests(given: list[Props]) -> list[Props]:
    """Devices that a driver chooses, as GPUs."""
    return [
        {
            "Driver": one.get("driver", ""),
            "Count": one.get("count", 0),
            "DeviceIDs": one.get("deviceIds", []),
            "Capabilities": [one["capabilities"]] if one.get("capabilities") else [],
            "Options": one.get("options", {}),
        }
        for one in given
    ]


def rates(given: list[Props]) -> list[Props]:
    """Limits of a device's traffic."""
    return [{"Path": one["path"], "Rate": one.get("rate", 0)} for one in given]


def ulimits(given: list[Props]) -> list[Props]:
    """Limits of a process."""
    return [{"Name": one["name"], "Soft": one["soft"], "Hard": one["hard"]} for one in given]
