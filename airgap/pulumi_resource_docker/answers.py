"""Answers of the provider, put together from what the pure parts found."""

from __future__ import annotations

import os
from typing import Any

from airgap.protos import provider_pb2 as pb
from airgap.pulumi_resource_docker.diff import Difference
from airgap.pulumi_resource_docker.resource import Seen
from airgap.pulumi_resource_docker.wire import Props


def public(properties: Props) -> Props:
    """Without the provider's own inputs."""
    return {name: value for name, value in properties.items() if not name.startswith("__")}


def outputs(inputs: Props, seen: Seen) -> Props:
    """The properties of a resource that exists."""
    return public({**inputs, **seen.outputs})


def autoname(request: Any, old: Props) -> str:
    """The name it has, else the engine's proposal, else its own with random letters."""
    if "name" in old.get("__defaults", ()) and old.get("name"):
        return str(old["name"])
    if request.autonaming.proposed_name:
        return str(request.autonaming.proposed_name)
    seed = request.randomSeed or os.urandom(8)
    return f"{request.urn.rsplit('::', 1)[-1]}-{seed.hex()[:7]}"


def failures(failures: list[tuple[str, str]]) -> list[Any]:
    """Check failures. The reason names the property itself, and the field for it stays empty: the
    engine would look up and print a top-level value, which tells too little or too much."""
    return [pb.CheckFailure(reason=f"{name} {why}") for name, why in failures]


def diff(found: Difference) -> Any:
    """A DiffResponse: names at the top level, details for the smallest parts."""
    details = {}
    for path, what in found.details.items():
        top = path.split(".")[0].split("[")[0]
        suffix = "_REPLACE" if top in found.replaces else ""
        kind = getattr(pb.PropertyDiff.Kind, what + suffix)
        details[path] = pb.PropertyDiff(kind=kind, inputDiff=True)
    some = pb.DiffResponse.DIFF_SOME if found.changed else pb.DiffResponse.DIFF_NONE
    return pb.DiffResponse(
        changes=some,
        diffs=sorted(found.changed),
        replaces=sorted(found.replaces),
        detailedDiff=details,
        hasDetailedDiff=True,
    )
