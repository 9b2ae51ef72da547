"""docker.Volume."""

from __future__ import annotations

from typing import ClassVar

from airgap.pulumi_resource_docker.network import shown
from airgap.pulumi_resource_docker.resource import Call, Kind, ProviderError, Seen, foreign_labels
from airgap.pulumi_resource_docker.table import LABELS, Prop, Shape, Table, refuse, request, to
from airgap.pulumi_resource_docker.wire import Props


class Volume(Kind):
    """A named volume; its id is its name."""

    name = "Volume"
    computed = ("mountpoint",)
    table: ClassVar[Table] = {
        "name": Prop(Shape.TEXT, puts=to("Name"), seen=shown("Name")),
        "driver": Prop(Shape.TEXT, puts=to("Driver"), seen=shown("Driver"), settled=True),
        "driverOpts": Prop(Shape.MAP, puts=to("DriverOpts"), seen=shown("Options")),
        "labels": LABELS,
        "cluster": refuse(Shape.OBJECT, "it is for swarm clusters, which are not served"),
    }

    def create(self, call: Call, inputs: Props) -> str:
        """Creates it, or takes back what this same resource made before.

        Docker answers a create of an existing volume with that volume: taken without a look, the
        data of another stack would go with this one's destroy.
        """
        from docker.errors import NotFound

        client, name = call.daemon.client, inputs["name"]
        try:
            existing = client.inspect_volume(name)
        except NotFound:
            existing = None
        if existing and not call.owns(existing["Labels"]):
            raise ProviderError(
                f"volume {name} exists and is not of this stack: choose another name, remove it, "
                f"or take it over with `pulumi import docker:index/volume:Volume NAME {name}`"
            )
        if existing:
            call.log(f"volume {name} was made earlier by this resource: its data is kept")
        body = request(self.table, inputs)
        body["Labels"] = call.labels(body.get("Labels"))
        call.daemon.post("/volumes/create", body)
        return str(name)

    def read(self, call: Call, resource_id: str, inputs: Props) -> Seen:
        """A volume that was removed and made again by hand may differ from what was asked for."""
        found = call.daemon.client.inspect_volume(resource_id)
        given = {name: prop.seen(found) for name, prop in self.table.items() if prop.seen}
        given["labels"] = foreign_labels(found["Labels"])
        drifted = {
            name: value
            for name, value in given.items()
            if name in inputs and name != "labels" and value != inputs[name]
        }
        wanted = {item["label"]: item["value"] for item in inputs.get("labels", [])}
        if wanted != {item["label"]: item["value"] for item in given["labels"]} and inputs:
            drifted["labels"] = given["labels"]
        outputs = {"mountpoint": found["Mountpoint"], "driver": found["Driver"]}
        return Seen(resource_id, outputs, drifted, {k: v for k, v in given.items() if v})

    def delete(self, call: Call, resource_id: str, inputs: Props) -> None:
        """Removes it with its data."""
        call.daemon.client.remove_volume(resource_id)
