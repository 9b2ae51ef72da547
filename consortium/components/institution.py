"""One institution: its networks, volumes, nodes and gateway, and the Ansible run that makes them a party."""

from __future__ import annotations

import pulumi
import pulumi_docker as docker

from consortium.components.labels import labels
from consortium.components.network import Networks
from consortium.components.node import Node, NodeModel
from consortium.converge import GROUPS, Converge
from consortium.nodefiles import Secrets, files_for, hosts_of
from consortium.spec import Model


class Institution(pulumi.ComponentResource):
    """Everything `pulumi up` makes for one party. Stands at the top of its stack: it has no parent."""

    TYPE = "consortium:index:Institution"

    def __init__(
        self, name: str, model: Model, secrets: Secrets, image: str, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__(self.TYPE, name, None, opts)
        engine = docker.Provider(f"{name}-engine", host=model.settings.engine, opts=pulumi.ResourceOptions(parent=self))
        child = pulumi.ResourceOptions(parent=self, providers={"docker": engine})
        on_engine = pulumi.ResourceOptions(parent=self, provider=engine)
        prefix = f"{model.consortium.name}-{model.party}"

        networks = Networks(f"{name}-networks", model, child)
        # What was signed and promised lies in the volumes: no change of the documents may take it away.
        protected = pulumi.ResourceOptions(parent=self, provider=engine, protect=True)
        state, jobs, access = (
            docker.Volume(
                f"{name}-{what}",
                name=f"{prefix}-{what}",
                labels=labels(docker.VolumeLabelArgs, model),
                opts=protected,
            )
            for what in ("state", "jobs", "access")
        )
        node_image = docker.RemoteImage(f"{name}-image", name=image, keep_locally=True, opts=on_engine)

        hosts = hosts_of(model)
        nodes = {
            host.name: Node(
                host.name, NodeModel(model, host, node_image.image_id, networks, state, jobs, access), child
            )
            for host in hosts
        }
        self.converge = Converge(
            f"{name}-converge",
            party=model.party,
            engine=model.settings.engine,
            hosts={host: node.id for host, node in nodes.items()},
            groups={host.name: GROUPS[host.role] for host in hosts},
            files={host.name: files_for(model, secrets, host) for host in hosts},
            # Not self.urn: an input that waits for the parent would make a circle of dependencies.
            parent_urn=f"urn:pulumi:{pulumi.get_stack()}::{pulumi.get_project()}::{self.TYPE}::{name}",
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.gateway_endpoint = f"{model.own.gateway.host}:{model.own.gateway.port}"
        # Known only once the nodes answer: an output that is there before its service would be a lie.
        operator = f"http://{model.settings.operator.bind}:{model.settings.operator.port}"
        self.status_page = self.converge.id.apply(lambda _: f"{operator}/")
        self.coordinator_api = self.converge.id.apply(lambda _: f"{operator}/api/v1")
        self.register_outputs({"gateway_endpoint": self.gateway_endpoint})
