"""docker.Network. Docker changes nothing of a network in place, so neither does this."""

from __future__ import annotations

import time
from typing import Any, ClassVar

from airgap.pulumi_resource_docker.resource import Call, Kind, ProviderError, Seen, foreign_labels
from airgap.pulumi_resource_docker.table import LABELS, Prop, Shape, Table, refuse, request, to
from airgap.pulumi_resource_docker.wire import Props

# Docker needs a moment after a container's end until its endpoint is gone.
RELEASE_SECONDS = 3.0

IPAM_FIELDS = {
    "subnet": ("Subnet", Shape.TEXT),
    "gateway": ("Gateway", Shape.TEXT),
    "ipRange": ("IPRange", Shape.TEXT),
    "auxAddress": ("AuxiliaryAddresses", Shape.MAP),
}


def ipam_configs(configs: list[Props]) -> list[Props]:
    """As docker spells them."""
    return [{IPAM_FIELDS[key][0]: value for key, value in one.items()} for one in configs]


def seen_ipam(shown: Props) -> list[Props]:
    """The reverse, from an inspected network."""
    configs = (shown.get("IPAM") or {}).get("Config") or []
    return [{key: one[theirs] for key, (theirs, _) in IPAM_FIELDS.items() if one.get(theirs)} for one in configs]


def shown(key: str) -> Any:
    """Reads one top-level value of what docker shows."""
    return lambda inspected: inspected.get(key)


class Network(Kind):
    """A network of the daemon."""

    name = "Network"
    computed = ("scope",)
    table: ClassVar[Table] = {
        "name": Prop(Shape.TEXT, puts=to("Name"), seen=shown("Name")),
        "driver": Prop(Shape.TEXT, puts=to("Driver"), seen=shown("Driver"), settled=True),
        "internal": Prop(Shape.FLAG, puts=to("Internal"), seen=shown("Internal")),
        "attachable": Prop(Shape.FLAG, puts=to("Attachable"), seen=shown("Attachable")),
        "ipv6": Prop(Shape.FLAG, puts=to("EnableIPv6"), seen=shown("EnableIPv6")),
        "options": Prop(Shape.MAP, puts=to("Options"), seen=shown("Options")),
        "labels": LABELS,
        "ipamConfigs": Prop(
            Shape.OBJECTS,
            puts=to("IPAM.Config", ipam_configs),
            unordered=True,
            settled=True,
            fields={key: Prop(shape) for key, (_, shape) in IPAM_FIELDS.items()},
            seen=seen_ipam,
        ),
        "ipamDriver": Prop(Shape.TEXT, puts=to("IPAM.Driver")),
        "ipamOptions": Prop(Shape.MAP, puts=to("IPAM.Options")),
        "ingress": refuse(Shape.FLAG, "it is for swarm services, which are not served", (False,)),
    }

    def exclusive(self, old: Props, new: Props) -> bool:
        """Two networks cannot have one address range either."""
        return super().exclusive(old, new) or bool(new.get("ipamConfigs"))

    def create(self, call: Call, inputs: Props) -> str:
        """Creates it; what an interrupted create of this same resource left is removed first."""
        from docker.errors import APIError

        body = {"Driver": "bridge", "CheckDuplicate": True, **request(self.table, inputs)}
        body.setdefault("IPAM", {}).setdefault("Driver", "default")
        body["Labels"] = call.labels(body.get("Labels"))
        client = call.daemon.client
        for left in client.networks(names=[inputs["name"]]):
            if left["Name"] == inputs["name"] and call.owns(left["Labels"]):
                call.log(f"network {left['Name']} was left by an interrupted create: removed")
                client.remove_network(left["Id"])
        try:
            call.daemon.post("/networks/create", body)
        except APIError as error:
            raise ProviderError(f"network {inputs['name']}: {error.explanation}") from error
        return str(client.inspect_network(inputs["name"])["Id"])

    def read(self, call: Call, resource_id: str, inputs: Props) -> Seen:
        """A network is what it was made as, or gone."""
        found = call.daemon.client.inspect_network(resource_id)
        given = {name: prop.seen(found) for name, prop in self.table.items() if prop.seen}
        given["labels"] = foreign_labels(found["Labels"])
        outputs = {"scope": found["Scope"], "driver": found["Driver"]}
        outputs["ipamConfigs"] = given["ipamConfigs"]
        return Seen(found["Id"], outputs, inputs={k: v for k, v in given.items() if v})

    def delete(self, call: Call, resource_id: str, inputs: Props) -> None:
        """Removes it, waiting a little for containers that are just leaving."""
        from docker.errors import APIError

        end = time.monotonic() + RELEASE_SECONDS
        while True:
            try:
                call.daemon.client.remove_network(resource_id)
            except APIError as error:
                late = time.monotonic() > end or call.daemon.cancelled.is_set()
                if "active endpoints" not in str(error) or late:
                    raise
                time.sleep(0.1)
            else:
                return
