"""A Kuscia node: its container, what it keeps, and a database where one is asked for."""

from __future__ import annotations

from dataclasses import dataclass, field

import pulumi
import pulumi_docker as docker

from consortium.components.labels import labels
from consortium.components.network import Networks
from consortium.kuscia import node_config
from consortium.kuscia.image import DATABASE, NODE, wanted_images
from consortium.kuscia.image_resource import NodeImage
from consortium.kuscia.names import database_name, node_name
from consortium.kuscia.node_config import NodeSecrets, kuscia_yaml
from consortium.kuscia.objects import DATA_PATH
from consortium.kuscia.settings import KusciaSettings, MariaDb
from consortium.spec import Model

WAIT_S = 300
"""How long a node may take until it answers; the first start makes a cluster."""
_LISTENS = "exec 3<>/dev/tcp/127.0.0.1/{port}"


@dataclass(frozen=True)
class KusciaNodeModel:
    """What the node stands on."""

    model: Model
    settings: KusciaSettings
    secrets: NodeSecrets = field(repr=False)
    networks: Networks


class KusciaNode(pulumi.ComponentResource):
    """The official image, unchanged. Peers reach one port; KusciaAPI is for who stands on the inside network."""

    def __init__(self, name: str, node: KusciaNodeModel, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("consortium:index:KusciaNode", name, None, opts)
        model, settings = node.model, node.settings
        prefix = f"{model.consortium.name}-{model.party}"
        own = pulumi.ResourceOptions(parent=self)
        # Jobs, data and results lie in the volumes: no change of the documents may take them away.
        protected = pulumi.ResourceOptions(parent=self, protect=True)
        volumes = {
            path: docker.Volume(
                f"{name}-{what}",
                name=f"{prefix}-kuscia-{what}",
                labels=labels(docker.VolumeLabelArgs, model),
                opts=protected,
            )
            for what, path in node_config.KEPT.items()
        }
        images = {
            what: NodeImage(f"{model.party}-{what}-image", model.settings.engine, wanted, own)
            for what, wanted in wanted_images(model, node.secrets.registry_password).items()
        }
        before = [_database(name, node, settings.mariadb, images[DATABASE], self)] if settings.mariadb else []
        limits = model.limits_of("kuscia")
        self.container = docker.Container(
            name,
            name=f"{prefix}-kuscia",
            hostname=node_name(model.party),
            image=images[NODE].image_id,
            command=["bin/kuscia", "start", "-c", node_config.PATH],
            restart="unless-stopped",
            must_run=True,
            wait=True,
            wait_timeout=WAIT_S,
            memory=limits.memory_mb,
            memory_swap=limits.memory_mb,  # no swap: a node that swaps misses heartbeats instead of failing clearly
            cpus=str(limits.cpus),
            shm_size=limits.shm_mb,
            stop_timeout=30,
            destroy_grace_seconds=30,
            privileged=settings.runtime == "runc",
            # A task as a process has its own file system by proot, which traces it.
            capabilities=docker.ContainerCapabilitiesArgs(adds=["SYS_PTRACE"]) if settings.runtime == "runp" else None,
            healthcheck=docker.ContainerHealthcheckArgs(
                # Both doors ask for a certificate: that they take connections is what can be seen without one.
                tests=["CMD", "bash", "-c", " && ".join(_LISTENS.format(port=port) for port in _DOORS)],
                interval="10s",
                timeout="5s",
                start_period="120s",
                retries=3,
            ),
            networks_advanced=[
                docker.ContainerNetworksAdvancedArgs(name=node.networks.inside.name, aliases=[node_name(model.party)]),
                docker.ContainerNetworksAdvancedArgs(name=node.networks.outside.name),
            ],
            ports=[
                docker.ContainerPortArgs(
                    internal=node_config.PUBLIC_PORT,
                    external=model.settings.gateway.port,
                    ip=model.settings.gateway.bind,
                )
            ],
            volumes=[
                *(docker.ContainerVolumeArgs(volume_name=v.name, container_path=path) for path, v in volumes.items()),
                *_datasets(model),
            ],
            uploads=[_secret_file(node_config.PATH, kuscia_yaml(settings, node.secrets))],
            log_driver="json-file",
            log_opts={"max-size": "10m", "max-file": "3"},
            labels=labels(docker.ContainerLabelArgs, model, role="kuscia"),
            opts=pulumi.ResourceOptions(parent=self, depends_on=before),
        )
        self.id = self.container.id
        self.register_outputs({"id": self.id})


_DOORS = (node_config.API_PORT, node_config.PUBLIC_PORT)


def _datasets(model: Model) -> list[docker.ContainerVolumeArgs]:
    """Where objects.py says that they are; tasks write their results beside them."""
    return [
        docker.ContainerVolumeArgs(host_path=str(path), container_path=f"{DATA_PATH}/{dataset}.csv", read_only=True)
        for dataset, path in model.dataset_paths().items()
    ]


def _secret_file(path: str, content: str, mode: str = "0400") -> docker.ContainerUploadArgs:
    """Laid before the container starts; encrypted in state, and in no argument, variable or image."""
    return docker.ContainerUploadArgs(file=path, content=pulumi.Output.secret(content), permissions=mode)


def _database(
    name: str, node: KusciaNodeModel, settings: MariaDb, image: NodeImage, parent: pulumi.Resource
) -> docker.Container:
    """On the inside network alone; its password in a file, as its image's entry point reads it."""
    model, name = node.model, f"{name}-db"
    prefix = f"{model.consortium.name}-{model.party}"
    password = "/etc/kuscia-database-password"  # noqa: S105 a path
    volume = docker.Volume(
        name,
        name=f"{prefix}-kuscia-mariadb",
        labels=labels(docker.VolumeLabelArgs, model),
        opts=pulumi.ResourceOptions(parent=parent, protect=True),
    )
    return docker.Container(
        name,
        name=f"{prefix}-kuscia-db",
        hostname=database_name(model.party),
        image=image.image_id,
        envs=[
            f"MARIADB_DATABASE={node_config.DATABASE}",
            f"MARIADB_USER={node_config.DATABASE}",
            f"MARIADB_PASSWORD_FILE={password}",
            # Root signs in from within the container only, and needs no password there that would stand in its log.
            "MARIADB_ROOT_HOST=localhost",
            "MARIADB_ALLOW_EMPTY_ROOT_PASSWORD=1",
        ],
        restart="unless-stopped",
        must_run=True,
        wait=True,
        wait_timeout=WAIT_S,
        memory=settings.memory_mb,
        memory_swap=settings.memory_mb,
        cpus=str(settings.cpus),
        stop_timeout=30,
        destroy_grace_seconds=30,
        healthcheck=docker.ContainerHealthcheckArgs(
            tests=["CMD", "healthcheck.sh", "--connect", "--innodb_initialized"],
            interval="10s",
            timeout="5s",
            start_period="60s",
            retries=3,
        ),
        networks_advanced=[
            docker.ContainerNetworksAdvancedArgs(name=node.networks.inside.name, aliases=[database_name(model.party)])
        ],
        volumes=[docker.ContainerVolumeArgs(volume_name=volume.name, container_path="/var/lib/mysql")],
        # Its entry point reads it as the user of the database, and nobody else is in there.
        uploads=[_secret_file(password, node.secrets.database_password, "0444")],
        log_driver="json-file",
        log_opts={"max-size": "10m", "max-file": "3"},
        labels=labels(docker.ContainerLabelArgs, model, role="kuscia-db"),
        opts=pulumi.ResourceOptions(parent=parent),
    )
