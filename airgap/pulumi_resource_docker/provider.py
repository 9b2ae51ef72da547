"""docker.Provider: which daemon. Changing it never replaces what it has made."""

from __future__ import annotations

import json

from airgap.pulumi_resource_docker.table import Failure, On, Prop, Shape, Table, check, refuse
from airgap.pulumi_resource_docker.wire import UNKNOWN, Props

SCHEMES = ("unix://", "tcp://", "ssh://", "http://", "https://")
# The SDK's and the engine's own, not properties of the daemon.
INTERNAL = ("version", "pluginDownloadURL")
FILES = "write it to a file and give the folder as cert_path"
ENCODED = (Shape.FLAG, Shape.TEXTS, Shape.OBJECT, Shape.OBJECTS)


def bad_host(value: str) -> str | None:
    """A reason to refuse a daemon's address."""
    if value == UNKNOWN or value.startswith(SCHEMES):
        return None
    return f"= {value!r} must start with one of {', '.join(SCHEMES)}"


PROVIDER: Table = {
    "host": Prop(
        Shape.TEXT,
        On.UPDATE,
        note="the daemon; default DOCKER_HOST, then unix:///var/run/docker.sock",
        test=bad_host,
    ),
    "certPath": Prop(Shape.TEXT, On.UPDATE, note="folder with ca.pem, cert.pem, key.pem for a tcp:// host"),
    "disableDockerDaemonCheck": Prop(
        Shape.FLAG, On.UPDATE, note="has no effect: the daemon is asked only when it is needed"
    ),
    "context": refuse(Shape.TEXT, "give its address as host"),
    "caMaterial": refuse(Shape.TEXT, FILES, private=True),
    "certMaterial": refuse(Shape.TEXT, FILES, private=True),
    "keyMaterial": refuse(Shape.TEXT, FILES, private=True),
    "registryAuth": refuse(Shape.OBJECTS, "pull the image with `docker login` beforehand", ([],)),
    "sshOpts": refuse(Shape.TEXTS, "put them into the configuration of ssh", ([],)),
}


def decoded(config: Props) -> Props:
    """The configuration; the engine sends what is not a string as JSON in one."""
    made = {}
    for name, value in config.items():
        if name in INTERNAL:
            continue
        shape = PROVIDER[name].shape if name in PROVIDER else Shape.TEXT
        encoded = isinstance(value, str) and shape in ENCODED and value != UNKNOWN
        made[name] = json.loads(value) if encoded else value
    return made


def check_config(config: Props) -> list[Failure]:
    """What is wrong with the configuration."""
    return check(PROVIDER, decoded(config), "docker.Provider")
