"""The networks of an institution."""

from __future__ import annotations

import pulumi
import pulumi_docker as docker

from consortium.components.labels import labels
from consortium.spec import Model

_NO_WAY_OUT = {"com.docker.network.bridge.enable_ip_masquerade": "false"}


class Networks(pulumi.ComponentResource):
    """`inside` holds every node and has no way out; only the gateway also stands on `outside`.

    An internal docker network has no route to anywhere else, so a node reaches a peer through the gateway or not
    at all: not by a rule that someone could forget, but because no other path exists. Without a gateway, in Kuscia
    mode, the head's port is published from a network of its own (`desk`), whose addresses nobody translates on the way
    out: no answer finds its way back.
    """

    def __init__(self, name: str, model: Model, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("consortium:index:Networks", name, None, opts)
        prefix = f"{model.consortium.name}-{model.party}"
        child = pulumi.ResourceOptions(parent=self)
        self.inside = docker.Network(
            f"{name}-inside",
            name=f"{prefix}-inside",
            internal=True,
            labels=labels(docker.NetworkLabelArgs, model),
            opts=child,
        )
        self.outside = docker.Network(
            f"{name}-outside", name=f"{prefix}-outside", labels=labels(docker.NetworkLabelArgs, model), opts=child
        )
        self.desk = (
            docker.Network(
                f"{name}-desk",
                name=f"{prefix}-desk",
                options=_NO_WAY_OUT,
                labels=labels(docker.NetworkLabelArgs, model),
                opts=child,
            )
            if model.kuscia
            else None
        )
        self.register_outputs({"inside": self.inside.name, "outside": self.outside.name})
