"""The machines of an institution on hosts: their targets, and the Pulumi resource that records each."""

from __future__ import annotations

from typing import Any

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, ReadResult, Resource, ResourceProvider, UpdateResult

from consortium import ssh
from consortium.errors import ConsortiumError, Unreachable
from consortium.node_addresses import machine
from consortium.nodefiles import hosts_of
from consortium.spec import Model
from consortium.ssh import Target

PROBE = """\
. /etc/os-release
cat /etc/machine-id
echo "$PRETTY_NAME"
uname -m
nproc
awk '/^MemTotal/ {print int($2 / 1024)}' /proc/meminfo
"""
FACTS = ("machine_id", "system", "architecture", "processors", "memory_mb")


def targets_of(model: Model) -> dict[str, Target]:
    """Node → the machine that carries it. ValueError unless the placement is ssh."""
    if not model.settings.ssh:
        raise ValueError("only placement: ssh has machines")
    common = model.settings.ssh
    found = {}
    for host in hosts_of(model):
        its = machine(model, host)
        user = its.user or common.user
        become = common.become and user != "root"
        found[host.name] = Target(host.name, its.address, its.port or common.port, user, become, its.host_keys)
    return found


def look(key: str, target: Target) -> dict[str, str]:
    """What a machine is, by FACTS. Raises Unreachable, HostRefused, ConsortiumError."""
    with ssh.access(key, [target]) as folder:
        said = ssh.run(folder, target, PROBE).splitlines()
    if len(said) != len(FACTS) or not said[0]:
        raise ConsortiumError(
            "the host does not say what it is",
            where=ssh.place(target),
            value="\n".join(said)[:500],
            allowed="Linux with systemd",
        )
    return dict(zip(FACTS, said, strict=True))


class MachineProvider(ResourceProvider):
    """Looks at a machine; makes and removes none."""

    serialize_as_secret_always = False  # it captures no secret

    def create(self, props: dict[str, Any]) -> CreateResult:
        return CreateResult(id_=props["target"]["name"], outs=_seen(props))

    def read(self, id_: str, props: dict[str, Any]) -> ReadResult:
        try:
            return ReadResult(id_, _seen(props))
        except Unreachable as error:
            # To be found again by the next `up`; a refresh that stops here could never be followed by a repair.
            return ReadResult(id_, {**props, "problem": str(error)})

    def diff(self, _id: str, olds: dict[str, Any], news: dict[str, Any]) -> DiffResult:
        changed = bool(olds.get("problem")) or any(olds.get(k) != news[k] for k in ("target", "public_key"))
        return DiffResult(changes=changed, replaces=[], stables=[], delete_before_replace=False)

    def update(self, _id: str, _olds: dict[str, Any], news: dict[str, Any]) -> UpdateResult:
        return UpdateResult(outs=_seen(news))


def _seen(props: dict[str, Any]) -> dict[str, Any]:
    facts = look(str(props["ssh_key"]), Target.from_props(props["target"]))
    return {**props, **facts, "problem": ""}


class Machine(Resource, module="consortium", name="Machine"):
    """One existing machine: where it is, which keys it shows, and what it was when it was looked at."""

    machine_id: pulumi.Output[str]
    system: pulumi.Output[str]

    def __init__(self, name: str, target: Target, key: str, opts: pulumi.ResourceOptions) -> None:
        unknown = dict.fromkeys((*FACTS, "problem"))
        super().__init__(
            MachineProvider(),
            name,
            {
                **unknown,
                "target": target.as_props(),
                "public_key": ssh.public_key(key, name),
                "ssh_key": pulumi.Output.secret(key),
            },
            opts,
        )
