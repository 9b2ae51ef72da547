"""docker.Image: built from a folder by the daemon's own builder, never pushed."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import ClassVar

from airgap.pulumi_resource_docker.resource import Call, Kind, ProviderError, Seen
from airgap.pulumi_resource_docker.table import Failure, On, Prop, Shape, Table, refuse
from airgap.pulumi_resource_docker.wire import Props, unknown

# The provider's own input: makes an edited file in the context a change that a preview shows.
CONTEXT_DIGEST = "contextDigest"


def folder(build: Props) -> Path:
    """The build context; a path is relative to the project, where the provider runs."""
    return Path(build.get("context") or ".").absolute()


def dockerfile(build: Props) -> Path:
    """The Dockerfile; as with the official provider its path is not relative to the context."""
    given = build.get("dockerfile")
    return Path(given).absolute() if given else folder(build) / "Dockerfile"


def members(root: Path) -> list[str]:
    """Paths below ``root`` that docker would send, sorted."""
    ignore = root / ".dockerignore"
    if ignore.exists():
        from docker.utils.build import exclude_paths

        lines = [line.strip() for line in ignore.read_text().splitlines()]
        patterns = [line for line in lines if line and not line.startswith("#")]
        return sorted(exclude_paths(str(root), patterns))
    found = []
    for parent, _, files in os.walk(root):
        found += [str((Path(parent) / name).relative_to(root)) for name in files]
    return sorted(found)


def context_digest(build: Props) -> str:
    """Changes with every name, mode and byte that can reach the image."""
    root, digest = folder(build), hashlib.sha256()
    for name in [*members(root), str(dockerfile(build))]:
        path = root / name
        if path.is_symlink():
            data = str(path.readlink()).encode()
        elif path.is_file():
            data = path.read_bytes()
        else:
            continue
        mode = path.lstat().st_mode & 0o111
        digest.update(f"{name}\0{mode}\0{len(data)}\0".encode() + data)
    return digest.hexdigest()


class Image(Kind):
    """Its id is the image's name; as the official provider's, a delete leaves the image."""

    name = "Image"
    computed = ("baseImageName", "registryServer", "repoDigest")
    autonamed = False
    table: ClassVar[Table] = {
        "imageName": Prop(Shape.TEXT, On.UPDATE, note="the tag that the image gets", required=True),
        "build": Prop(
            Shape.OBJECT,
            On.UPDATE,
            note="built again whenever a file of the context changes",
            fields={
                "context": Prop(Shape.TEXT),
                "dockerfile": Prop(Shape.TEXT),
                "args": Prop(Shape.MAP),
                "target": Prop(Shape.TEXT),
                "platform": Prop(Shape.TEXT),
                "network": Prop(Shape.TEXT),
                "addHosts": Prop(Shape.TEXTS),
                "cacheFrom": Prop(Shape.OBJECT, fields={"images": Prop(Shape.TEXTS)}),
                "builderVersion": Prop(Shape.TEXT, allowed=("BuilderV1",), note="BuildKit needs the official provider"),
            },
        ),
        "skipPush": Prop(Shape.FLAG, On.UPDATE, note="must be true: nothing is pushed"),
        "buildOnPreview": refuse(Shape.FLAG, "previews change nothing: leave it out", (False,)),
        "registry": refuse(Shape.OBJECT, "nothing is pushed: leave it out, set skip_push=True"),
    }

    def check(self, inputs: Props) -> list[Failure]:
        """The official provider pushes unless told not to: a program must have been told."""
        failures = super().check(inputs)
        if not inputs.get("skipPush"):
            failures.append(("skipPush", "must be true: the stand-in provider pushes nothing"))
        build = inputs.get("build", {})
        if not unknown(build) and isinstance(build, dict) and not dockerfile(build).is_file():
            failures.append(("build", f"{dockerfile(build)} does not exist"))
        return failures

    def prepare(self, inputs: Props) -> Props:
        """Notes what the context holds."""
        build = inputs.get("build", {})
        if unknown(build) or not dockerfile(build).is_file():
            return inputs
        return {**inputs, "build": {**build, CONTEXT_DIGEST: context_digest(build)}}

    def create(self, call: Call, inputs: Props) -> str:
        """Builds it."""
        build, name = inputs.get("build", {}), inputs["imageName"]
        events = call.daemon.client.build(
            path=str(folder(build)),
            dockerfile=str(dockerfile(build)),
            tag=name,
            buildargs=build.get("args"),
            target=build.get("target", ""),
            platform=build.get("platform"),
            network_mode=build.get("network"),
            extra_hosts=dict(entry.split(":", 1) for entry in build.get("addHosts", [])),
            cache_from=build.get("cacheFrom", {}).get("images"),
            decode=True,
            rm=True,
        )
        for event in events:
            if event.get("error"):
                raise ProviderError(f"image {name}: {event['error'].strip()}")
            if event.get("stream", "").strip():
                call.log(event["stream"].strip(), ephemeral=True)
        return str(name)

    def update(self, call: Call, resource_id: str, old: Props, new: Props) -> None:
        """Builds it again."""
        self.create(call, new)

    def read(self, call: Call, resource_id: str, inputs: Props) -> Seen:
        """The image that now has the name."""
        name = inputs.get("imageName") or resource_id
        found = call.daemon.client.inspect_image(name)
        outputs = {
            "baseImageName": name,
            "registryServer": "",
            "repoDigest": (found["RepoDigests"] or [found["Id"]])[0],
        }
        return Seen(name, outputs, inputs={"imageName": name, "skipPush": True})

    def delete(self, call: Call, resource_id: str, inputs: Props) -> None:
        """Leaves it: other stacks may use it."""
