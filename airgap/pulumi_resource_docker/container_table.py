"""Every property of docker.Container: what a change of it means and where it goes."""

from __future__ import annotations

from airgap.pulumi_resource_docker import container_values as v
from airgap.pulumi_resource_docker.table import LABELS, On, Prop, Shape, Table, refuse, to
from airgap.pulumi_resource_docker.wire import Props

TEXT, WHOLE, FLAG = Shape.TEXT, Shape.WHOLE, Shape.FLAG
TEXTS, MAP, OBJECT, OBJECTS = Shape.TEXTS, Shape.MAP, Shape.OBJECT, Shape.OBJECTS
NEWER = "the oldest daemon served (API 1.41) lacks it: leave it out"


def config(key: str, shape: Shape, **more: object) -> Prop:
    """A property of the image's process."""
    return Prop(shape, puts=to(key), seen=lambda c: c["Config"].get(key), **more)  # type: ignore[arg-type]


def host(key: str, shape: Shape, on: On = On.REPLACE, **more: object) -> Prop:
    """A property of its surroundings."""
    seen = lambda c: c["HostConfig"].get(key)  # noqa: E731 - as `config` has it
    return Prop(shape, on, puts=to(f"HostConfig.{key}"), seen=seen, **more)  # type: ignore[arg-type]


def memory(key: str, on: On = On.LIMIT) -> Prop:
    """A size in MB."""

    def seen(c: Props) -> int:
        value = int(c["HostConfig"].get(key) or 0)
        return value // v.MEBI if value > 0 else value

    return Prop(WHOLE, on, puts=to(f"HostConfig.{key}", v.megabytes), seen=seen, note="in MB")


def duration() -> Prop:
    """As 30s."""
    return Prop(TEXT, test=v.bad_duration)


def behaviour(shape: Shape, note: str) -> Prop:
    """Not a property of the container but of what this provider does with it."""
    return Prop(shape, On.UPDATE, note=note)


RATES = {"path": Prop(TEXT, required=True), "rate": Prop(WHOLE)}
RESTARTS = ("no", "always", "on-failure", "unless-stopped")

CONTAINER: Table = {
    "name": Prop(TEXT, note="the container's name", seen=lambda c: c["Name"].lstrip("/")),
    "image": config("Image", TEXT, required=True),
    # the process
    "command": config("Cmd", TEXTS),
    "entrypoints": config("Entrypoint", TEXTS),
    "envs": config("Env", TEXTS, unordered=True, private=True, test=v.bad_envs),
    "user": config("User", TEXT),
    "workingDir": config("WorkingDir", TEXT),
    "hostname": config("Hostname", TEXT),
    "domainname": config("Domainname", TEXT),
    "tty": config("Tty", FLAG),
    "stdinOpen": config("OpenStdin", FLAG),
    "stopSignal": config("StopSignal", TEXT),
    "stopTimeout": config("StopTimeout", WHOLE),
    "labels": LABELS,
    "healthcheck": Prop(
        OBJECT,
        puts=to("Healthcheck", v.healthcheck),
        seen=v.seen_healthcheck,
        fields={
            "tests": Prop(TEXTS, required=True),
            "interval": duration(),
            "timeout": duration(),
            "startPeriod": duration(),
            "retries": Prop(WHOLE),
            "startInterval": refuse(TEXT, NEWER),
        },
    ),
    "init": host("Init", FLAG),
    "platform": Prop(TEXT, note="query parameter of the create request"),
    # limits
    "memory": memory("Memory"),
    "memorySwap": memory("MemorySwap"),
    "memoryReservation": memory("MemoryReservation"),
    "shmSize": memory("ShmSize", On.REPLACE),
    "cpus": Prop(
        TEXT,
        On.LIMIT,
        puts=to("HostConfig.NanoCpus", v.cpus),
        test=v.bad_cpus,
        seen=lambda c: f"{(c['HostConfig'].get('NanoCpus') or 0) / v.CPU:g}",
    ),
    "cpuShares": host("CpuShares", WHOLE, On.LIMIT),
    "cpuSet": host("CpusetCpus", TEXT, On.LIMIT),
    "cpuPeriod": host("CpuPeriod", WHOLE, On.LIMIT),
    "cpuQuota": host("CpuQuota", WHOLE, On.LIMIT),
    "ulimits": Prop(
        OBJECTS,
        puts=to("HostConfig.Ulimits", v.ulimits),
        unordered=True,
        fields={
            "name": Prop(TEXT, required=True),
            "soft": Prop(WHOLE, required=True),
            "hard": Prop(WHOLE, required=True),
        },
    ),
    "deviceReadBps": Prop(OBJECTS, puts=to("HostConfig.BlkioDeviceReadBps", v.rates), fields=RATES),
    "deviceReadIops": Prop(OBJECTS, puts=to("HostConfig.BlkioDeviceReadIOps", v.rates), fields=RATES),
    "deviceWriteBps": Prop(OBJECTS, puts=to("HostConfig.BlkioDeviceWriteBps", v.rates), fields=RATES),
    "deviceWriteIops": Prop(OBJECTS, puts=to("HostConfig.BlkioDeviceWriteIOps", v.rates), fields=RATES),
    "storageOpts": host("StorageOpt", MAP),
    # rights
    "privileged": host("Privileged", FLAG),
    "readOnly": host("ReadonlyRootfs", FLAG),
    "capabilities": Prop(
        OBJECT,
        puts=(
            ("HostConfig.CapAdd", lambda c: c.get("adds")),
            ("HostConfig.CapDrop", lambda c: c.get("drops")),
        ),
        fields={"adds": Prop(TEXTS), "drops": Prop(TEXTS)},
    ),
    "securityOpts": host("SecurityOpt", TEXTS, unordered=True),
    "groupAdds": host("GroupAdd", TEXTS, unordered=True),
    "sysctls": host("Sysctls", MAP),
    "pidMode": host("PidMode", TEXT),
    "ipcMode": host("IpcMode", TEXT),
    "usernsMode": host("UsernsMode", TEXT),
    "cgroupnsMode": host("CgroupnsMode", TEXT, allowed=("private", "host")),
    "cgroupParent": host("CgroupParent", TEXT),
    "runtime": host("Runtime", TEXT),
    "devices": Prop(
        OBJECTS,
        puts=to("HostConfig.Devices", v.devices),
        unordered=True,
        fields={
            "hostPath": Prop(TEXT, required=True),
            "containerPath": Prop(TEXT),
            "permissions": Prop(TEXT),
        },
    ),
    "deviceCgroupRules": host("DeviceCgroupRules", TEXTS, unordered=True),
    "deviceRequests": Prop(
        OBJECTS,
        puts=to("HostConfig.DeviceRequests", v.device_requests),
        fields={
            "driver": Prop(TEXT),
            "count": Prop(WHOLE),
            "deviceIds": Prop(TEXTS),
            "capabilities": Prop(TEXTS),
            "options": Prop(MAP),
        },
    ),
    "gpus": refuse(TEXT, "use deviceRequests: count -1, capabilities [gpu]"),
    # files
    "volumes": Prop(
        OBJECTS,
        puts=(
            ("HostConfig.Binds", v.binds),
            ("HostConfig.VolumesFrom", v.borrowed),
            ("Volumes", v.anonymous),
        ),
        unordered=True,
        test=v.bad_volumes,
        seen=v.seen_volumes,
        fields={
            "volumeName": Prop(TEXT),
            "hostPath": Prop(TEXT),
            "containerPath": Prop(TEXT),
            "fromContainer": Prop(TEXT),
            "readOnly": Prop(FLAG),
            "selinuxRelabel": Prop(TEXT, allowed=("z", "Z")),
        },
    ),
    "mounts": Prop(
        OBJECTS,
        puts=to("HostConfig.Mounts", v.mounts),
        unordered=True,
        fields={
            "type": Prop(TEXT, required=True, allowed=("bind", "volume", "tmpfs")),
            "target": Prop(TEXT, required=True),
            "source": Prop(TEXT),
            "readOnly": Prop(FLAG),
            "bindOptions": Prop(OBJECT, fields={"propagation": Prop(TEXT)}),
            "tmpfsOptions": Prop(OBJECT, fields={"mode": Prop(WHOLE), "sizeBytes": Prop(WHOLE)}),
            "volumeOptions": Prop(
                OBJECT,
                fields={
                    "driverName": Prop(TEXT),
                    "driverOptions": Prop(MAP),
                    "labels": LABELS,
                    "noCopy": Prop(FLAG),
                    "subpath": refuse(TEXT, NEWER),
                },
            ),
        },
    ),
    "tmpfs": host("Tmpfs", MAP),
    "uploads": Prop(
        OBJECTS,
        note="written into the container before it starts",
        unordered=True,
        fields={
            "file": Prop(TEXT, required=True),
            "content": Prop(TEXT, private=True),
            "contentBase64": Prop(TEXT, private=True),
            "source": Prop(TEXT, note="a path on the machine that runs pulumi"),
            "sourceHash": Prop(TEXT, note="a change of it replaces the container"),
            "executable": Prop(FLAG),
            "permissions": Prop(TEXT, note="octal"),
            "owner": Prop(TEXT, note="a number, as names are the container's own"),
            "group": Prop(TEXT, note="a number"),
        },
    ),
    # network
    "networksAdvanced": Prop(
        OBJECTS,
        note="the first in the create request, the others connected before the start",
        unordered=True,
        fields={
            "name": Prop(TEXT, required=True),
            "aliases": Prop(TEXTS),
            "ipv4Address": Prop(TEXT),
            "ipv6Address": Prop(TEXT),
            "linkLocalIps": Prop(TEXTS),
            "driverOpts": Prop(TEXTS),
            "gwPriority": refuse(WHOLE, NEWER, (0,)),
            "macAddress": refuse(TEXT, NEWER),
        },
    ),
    "networkMode": host("NetworkMode", TEXT),
    "ports": Prop(
        OBJECTS,
        puts=(("HostConfig.PortBindings", v.port_bindings), ("ExposedPorts", v.exposed)),
        unordered=True,
        seen=v.seen_ports,
        fields={
            "internal": Prop(WHOLE, required=True),
            "external": Prop(WHOLE, note="docker chooses one when it is absent"),
            "ip": Prop(TEXT),
            "protocol": Prop(TEXT, allowed=("tcp", "udp", "sctp")),
        },
    ),
    "publishAllPorts": host("PublishAllPorts", FLAG),
    "hosts": Prop(
        OBJECTS,
        puts=to("HostConfig.ExtraHosts", lambda hs: [f"{h['host']}:{h['ip']}" for h in hs]),
        unordered=True,
        fields={"host": Prop(TEXT, required=True), "ip": Prop(TEXT, required=True)},
    ),
    "dns": host("Dns", TEXTS),
    "dnsOpts": host("DnsOptions", TEXTS),
    "dnsSearches": host("DnsSearch", TEXTS),
    # life
    "restart": Prop(
        TEXT,
        On.UPDATE,
        puts=to("HostConfig.RestartPolicy.Name"),
        allowed=RESTARTS,
        seen=lambda c: c["HostConfig"]["RestartPolicy"]["Name"] or "no",
    ),
    "maxRetryCount": Prop(
        WHOLE,
        On.UPDATE,
        puts=to("HostConfig.RestartPolicy.MaximumRetryCount"),
        seen=lambda c: c["HostConfig"]["RestartPolicy"]["MaximumRetryCount"],
    ),
    "rm": host("AutoRemove", FLAG),
    "logDriver": Prop(TEXT, puts=to("HostConfig.LogConfig.Type")),
    "logOpts": Prop(MAP, puts=to("HostConfig.LogConfig.Config")),
    "start": behaviour(FLAG, "false: created, not started"),
    "mustRun": behaviour(FLAG, "a stopped one is drift, and an update starts it; default true"),
    "wait": behaviour(FLAG, "create and update wait until it is healthy"),
    "waitTimeout": behaviour(WHOLE, "seconds; default 60"),
    "containerReadRefreshTimeoutMilliseconds": behaviour(WHOLE, "how long a start may take"),
    "destroyGraceSeconds": behaviour(WHOLE, "delete stops it first and gives it this long"),
    "removeVolumes": behaviour(FLAG, "delete removes its anonymous volumes; default true"),
    "attach": refuse(FLAG, "run the command with another tool and leave it out", (False,)),
    "logs": refuse(FLAG, "read them with `docker logs` and leave it out", (False,)),
}
