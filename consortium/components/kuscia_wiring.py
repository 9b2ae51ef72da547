"""What an institution's Kuscia node is told, and the way to it: nothing is published for that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pulumi

from consortium.components.placed import Placed
from consortium.head_view import kuscia_url
from consortium.kuscia.keys import api_token
from consortium.kuscia.objects import objects
from consortium.kuscia.requests import requests
from consortium.kuscia.wiring import Access, Wiring
from consortium.machines import targets_of
from consortium.node_addresses import head_name
from consortium.nodefiles import Secrets
from consortium.spec import Model


def wire(
    name: str,
    model: Model,
    secrets: Secrets,
    placed: Placed,
    after: Sequence[pulumi.Resource],
    parent_urn: str,
    parent: pulumi.Resource,
) -> Wiring | None:
    """Peers, routes, engine, data and grants in the node; None in Ray mode. `after`: what makes the node answer."""
    known, settings = secrets.kuscia, model.kuscia
    if settings is None or known is None or known.client is None:
        return None
    client, domain = known.client, known.domain

    def access(way: Mapping[str, Any]) -> Access:
        return Access(
            url=kuscia_url(model),
            ca=domain.certificate,
            certificate=client.certificate,
            key=client.key,
            token=api_token(domain),
            way=way,
        )

    certificates = {peer: party.kuscia.certificate for peer, party in model.peers.items() if party.kuscia}
    return Wiring(
        name,
        party=model.party,
        access=pulumi.Output.from_input(_way(model, secrets, placed)).apply(access),
        requests=requests(objects(model, settings, certificates)),
        parent_urn=parent_urn,
        opts=pulumi.ResourceOptions(parent=parent, depends_on=list(after)),
    )


def _way(model: Model, secrets: Secrets, placed: Placed) -> pulumi.Input[dict[str, Any]]:
    """From where KusciaAPI is reached: the head, which stands on the node's inside network or on its host."""
    head = head_name(model.party)
    if model.settings.ssh:
        return {"target": targets_of(model)[head].as_props(), "ssh_key": secrets.ssh_key}
    # By its name, which a container made anew has too: what stands in state stays true. The id says that it is there.
    way = {"engine": model.settings.engine, "container": f"{model.consortium.name}-{head}"}
    return pulumi.Output.from_input(placed.ids[head]).apply(lambda _: way)
