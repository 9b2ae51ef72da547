"""One node: a container that is a small machine, configured later by Ansible."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
import pulumi_docker as docker

from consortium import ports
from consortium.components.labels import labels
from consortium.components.network import Networks
from consortium.node_paths import ACCESS_DIR
from consortium.nodefiles import JOBS_DIR, STATE_DIR, Host, data_path
from consortium.spec import Model

HEALTH = docker.ContainerHealthcheckArgs(
    tests=["CMD", "/usr/local/bin/node-health"], interval="10s", timeout="5s", start_period="60s", retries=3
)


@dataclass(frozen=True)
class NodeModel:
    """What a node needs to know: its place in the institution, and the things it stands on."""

    model: Model
    host: Host
    image: pulumi.Input[str]
    networks: Networks
    state: docker.Volume
    jobs: docker.Volume
    access: docker.Volume | None = None
    """The gateway's access log; None where there is no gateway."""


class Node(pulumi.ComponentResource):
    """A head, worker or gateway container with its limits, restart policy, health check and labels."""

    def __init__(self, name: str, node: NodeModel, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("consortium:index:Node", name, None, opts)
        model, host = node.model, node.host
        limits = model.limits_of(host.role)
        self.container = docker.Container(
            name,
            name=f"{model.consortium.name}-{host.name}",
            hostname=host.name,
            image=node.image,
            restart="unless-stopped",
            must_run=True,
            memory=limits.memory_mb,
            memory_swap=limits.memory_mb,  # no swap: a node that swaps misses heartbeats instead of failing clearly
            cpus=str(limits.cpus),
            shm_size=limits.shm_mb,
            stop_timeout=10,
            destroy_grace_seconds=10,
            healthcheck=HEALTH,
            networks_advanced=_networks(node),
            volumes=_volumes(node),
            ports=_ports(model, host),
            log_driver="json-file",
            log_opts={"max-size": "10m", "max-file": "3"},
            labels=labels(docker.ContainerLabelArgs, model, role=host.role),
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.id = self.container.id
        self.register_outputs({"id": self.id})


def _networks(node: NodeModel) -> list[docker.ContainerNetworksAdvancedArgs]:
    inside = docker.ContainerNetworksAdvancedArgs(name=node.networks.inside.name, aliases=[node.host.name])
    if node.networks.desk:
        return [inside, docker.ContainerNetworksAdvancedArgs(name=node.networks.desk.name)]
    if node.host.role != "gateway":
        ray = node.model.settings.ray
        more = [ray.network] if ray and ray.network and node.host.role == "head" else []
        return [inside, *(docker.ContainerNetworksAdvancedArgs(name=name) for name in more)]
    return [inside, docker.ContainerNetworksAdvancedArgs(name=node.networks.outside.name)]


def _volumes(node: NodeModel) -> list[docker.ContainerVolumeArgs]:
    is_head = node.host.role == "head"
    jobs = docker.ContainerVolumeArgs(volume_name=node.jobs.name, container_path=str(JOBS_DIR))
    state = docker.ContainerVolumeArgs(volume_name=node.state.name, container_path=str(STATE_DIR))
    if node.access is None:  # Kuscia's head, which runs no program and sees no dataset
        return [jobs, state]
    access = docker.ContainerVolumeArgs(volume_name=node.access.name, container_path=str(ACCESS_DIR), read_only=is_head)
    if node.host.role == "gateway":
        return [access]
    data = [
        docker.ContainerVolumeArgs(host_path=str(path), container_path=str(data_path(name, path)), read_only=True)
        for name, path in node.model.dataset_paths().items()
    ]
    return [jobs, *([state, access] if is_head else []), *data]


def _ports(model: Model, host: Host) -> list[docker.ContainerPortArgs] | None:
    gateway, operator = model.settings.gateway, model.settings.operator
    if model.kuscia:
        inside = ports.COORDINATOR_OPERATOR_PORT
        return [docker.ContainerPortArgs(internal=inside, external=operator.port, ip=operator.bind)]
    if host.role != "gateway":
        return None
    return [
        docker.ContainerPortArgs(internal=ports.GATEWAY_PUBLIC_PORT, external=gateway.port, ip=gateway.bind),
        docker.ContainerPortArgs(internal=ports.GATEWAY_OPERATOR_PORT, external=operator.port, ip=operator.bind),
    ]
