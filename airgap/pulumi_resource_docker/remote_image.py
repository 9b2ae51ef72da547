"""docker.RemoteImage: an image the daemon has, or pulls."""

from __future__ import annotations

from typing import ClassVar

from airgap.pulumi_resource_docker.resource import Call, Kind, ProviderError, Seen
from airgap.pulumi_resource_docker.table import On, Prop, Shape, Table, refuse
from airgap.pulumi_resource_docker.wire import Props

DIGEST_LENGTH = len("sha256:") + 64


class RemoteImage(Kind):
    """Its id is the image's digest followed by the name, as the official provider has it."""

    name = "RemoteImage"
    computed = ("imageId", "repoDigest")
    autonamed = False
    table: ClassVar[Table] = {
        "name": Prop(Shape.TEXT, note="looked up, and pulled when the daemon lacks it", required=True),
        "platform": Prop(Shape.TEXT, note="used when it is pulled"),
        "keepLocally": Prop(Shape.FLAG, On.UPDATE, note="true: destroy leaves the image"),
        "forceRemove": Prop(Shape.FLAG, On.UPDATE, note="destroy removes it by force"),
        "pullTriggers": Prop(Shape.TEXTS, note="a change looks the image up again", unordered=True),
        "triggers": Prop(Shape.MAP, note="a change looks the image up again"),
        "build": refuse(Shape.OBJECT, "use docker.Image, or bake the image beforehand"),
    }

    def create(self, call: Call, inputs: Props) -> str:
        """Looks it up first: an image that exists only here can be pulled from nowhere."""
        from docker.errors import ImageNotFound

        client, name = call.daemon.client, inputs["name"]
        try:
            return str(client.inspect_image(name)["Id"] + name)
        except ImageNotFound:
            self._pull(call, name, inputs.get("platform"))
        return str(client.inspect_image(name)["Id"] + name)

    def _pull(self, call: Call, name: str, platform: str | None) -> None:
        from docker.utils import parse_repository_tag

        repository, tag = parse_repository_tag(name)
        client = call.daemon.client
        events = client.pull(repository, tag or "latest", True, decode=True, platform=platform)
        for event in events:
            if event.get("error"):
                raise ProviderError(f"image {name} is not on the daemon: {event['error']}")
            words = (event.get("id"), event.get("status"), event.get("progress"))
            call.log(" ".join(word for word in words if word), ephemeral=True)

    def read(self, call: Call, resource_id: str, inputs: Props) -> Seen:
        """The image that now has the name."""
        name = inputs.get("name") or resource_id[DIGEST_LENGTH:] or resource_id
        found = call.daemon.client.inspect_image(name)
        outputs = {"imageId": found["Id"], "repoDigest": (found["RepoDigests"] or [""])[0]}
        return Seen(found["Id"] + name, outputs, inputs={"name": name})

    def delete(self, call: Call, resource_id: str, inputs: Props) -> None:
        """Removes the name, and the image with its last name, unless it is to be kept."""
        from docker.errors import APIError, NotFound

        if inputs.get("keepLocally"):
            return
        try:
            call.daemon.client.remove_image(inputs["name"], force=inputs.get("forceRemove", False))
        except NotFound:
            pass
        except APIError as error:
            raise ProviderError(
                f"image {inputs['name']}: {error.explanation}. With keep_locally=True it stays"
            ) from error
