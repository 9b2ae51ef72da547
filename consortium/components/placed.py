"""Where the nodes of an institution stand: in containers of an engine, or on machines that are there already."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pulumi
import pulumi_docker as docker

from consortium import reach
from consortium.components.kuscia_node import KusciaNode, KusciaNodeModel
from consortium.components.labels import labels
from consortium.components.network import Networks
from consortium.components.node import Node, NodeModel
from consortium.kuscia.names import node_name
from consortium.machines import Machine, targets_of
from consortium.nodefiles import Secrets, hosts_of
from consortium.reach import Reach
from consortium.spec import Model


@dataclass(frozen=True)
class Placed:
    """`ids`: node → what changes when another node takes its place. `reach`: how Ansible gets to them.

    `kuscia`: the node that no Ansible touches, of `mode: kuscia`.
    """

    ids: Mapping[str, pulumi.Input[str]]
    reach: Reach
    kuscia: KusciaNode | None = None


def place(parent: pulumi.Resource, name: str, model: Model, secrets: Secrets, image: str) -> Placed:
    """Make the nodes, or find them. Every resource is a child of `parent`."""
    put: Callable[..., Placed] = _on_hosts if model.settings.placement == "ssh" else _on_engine
    return put(parent, name, model, secrets, image)


def _on_hosts(parent: pulumi.Resource, _name: str, model: Model, secrets: Secrets, _image: str) -> Placed:
    child = pulumi.ResourceOptions(parent=parent)
    found = {node: Machine(node, target, secrets.ssh_key, child) for node, target in targets_of(model).items()}
    ids = {node: machine.machine_id for node, machine in found.items()}
    return Placed(ids, reach.on_hosts(model, secrets.ssh_key))


def _on_engine(parent: pulumi.Resource, name: str, model: Model, secrets: Secrets, image: str) -> Placed:
    engine = docker.Provider(f"{name}-engine", host=model.settings.engine, opts=pulumi.ResourceOptions(parent=parent))
    child = pulumi.ResourceOptions(parent=parent, providers={"docker": engine})
    on_engine = pulumi.ResourceOptions(parent=parent, provider=engine)
    prefix = f"{model.consortium.name}-{model.party}"

    networks = Networks(f"{name}-networks", model, child)
    # What was signed and promised lies in the volumes: no change of the documents may take it away.
    protected = pulumi.ResourceOptions(parent=parent, provider=engine, protect=True)
    volumes = {
        what: docker.Volume(
            f"{name}-{what}",
            name=f"{prefix}-{what}",
            labels=labels(docker.VolumeLabelArgs, model),
            opts=protected,
        )
        for what in ("state", "jobs", *(() if model.kuscia else ("access",)))
    }
    node_image = docker.RemoteImage(f"{name}-image", name=image, keep_locally=True, opts=on_engine)

    hosts = hosts_of(model)
    nodes = {
        host.name: Node(host.name, NodeModel(model, host, node_image.image_id, networks, **volumes), child)
        for host in hosts
    }
    ids = {node: made.id for node, made in nodes.items()}
    return Placed(ids, Reach(engine=model.settings.engine), _kuscia(model, secrets, networks, child))


def _kuscia(model: Model, secrets: Secrets, networks: Networks, opts: pulumi.ResourceOptions) -> KusciaNode | None:
    if not (model.kuscia and secrets.kuscia):
        return None
    return KusciaNode(node_name(model.party), KusciaNodeModel(model, model.kuscia, secrets.kuscia, networks), opts)
