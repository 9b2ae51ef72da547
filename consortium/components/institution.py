"""One institution: its nodes, wherever they stand, and the Ansible run that makes them a party."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pulumi

from consortium.components.kuscia_wiring import wire
from consortium.components.placed import place
from consortium.converge import GROUPS, Converge
from consortium.nodefiles import NodeFile, Secrets, files_for, hosts_of
from consortium.spec import Model


class Institution(pulumi.ComponentResource):
    """Everything `pulumi up` makes for one party. Stands at the top of its stack: it has no parent.

    `files`: host → its files, where others than those of the model are to be laid: what was there before an upgrade.
    """

    TYPE = "consortium:index:Institution"

    def __init__(
        self,
        name: str,
        model: Model,
        secrets: Secrets,
        image: str,
        files: Mapping[str, Sequence[NodeFile]] | None = None,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__(self.TYPE, name, None, opts)
        placed = place(self, name, model, secrets, image)
        hosts = hosts_of(model)
        # Not self.urn: an input that waits for the parent would make a circle of dependencies.
        urn = f"urn:pulumi:{pulumi.get_stack()}::{pulumi.get_project()}::{self.TYPE}::{name}"
        self.converge = Converge(
            f"{name}-converge",
            party=model.party,
            reach=placed.reach,
            ssh_key=secrets.ssh_key,
            hosts=placed.ids,
            groups={host.name: GROUPS[host.role] for host in hosts},
            files={host.name: (files or {}).get(host.name) or files_for(model, secrets, host) for host in hosts},
            drain=model.settings.drain.model_dump(mode="json"),
            parent_urn=urn,
            opts=pulumi.ResourceOptions(parent=self),
        )
        node = placed.kuscia.container if placed.kuscia else self.converge
        self.wiring = wire(f"{name}-wiring", model, secrets, placed, [node], urn, self)
        self.gateway_endpoint = f"{model.own.gateway.host}:{model.own.gateway.port}"
        # Known only once the nodes answer: an output that is there before its service would be a lie.
        operator = f"http://{model.settings.operator.bind}:{model.settings.operator.port}"
        self.status_page = self.converge.id.apply(lambda _: f"{operator}/")
        self.coordinator_api = self.converge.id.apply(lambda _: f"{operator}/api/v1")
        self.register_outputs({"gateway_endpoint": self.gateway_endpoint})
