"""What an institution was before an upgrade: image and every file of every node, kept so that it can be put back.

It is taken from Pulumi's state, where the last `up` left it, and kept as a secret of the stack, encrypted like its
keys: so it outlives the command, and a machine that dies in the middle. An earlier release is not needed to go back.
"""

from __future__ import annotations

import base64
import json
import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pulumi

from consortium.documents import BEFORE_KEY, NAMESPACE
from consortium.errors import ConsortiumError
from consortium.node_file import NodeFile
from consortium.stackfile import StackFile
from consortium.upgrade.mode import BACK, MODE
from consortium.workspace import Workspace

_IMAGE = "docker:index/remoteImage:RemoteImage"
_CONVERGE = "pulumi-python:dynamic/consortium:Converge"


@dataclass(frozen=True)
class Before:
    """Host → its files, and the image of all."""

    image: str
    files: Mapping[str, tuple[NodeFile, ...]]


def is_kept(workspace: Workspace, party: str) -> bool:
    """Whether an upgrade was begun and not ended."""
    return StackFile(workspace.stack_file(party)).has_secret(BEFORE_KEY)


def keep(workspace: Workspace, party: str) -> None:
    """Remember what is there. Raises PulumiFailed, ConsortiumError where the state knows no institution."""
    state = json.loads(workspace.pulumi("stack", "export", "--show-secrets", party=party))
    text = json.dumps(of_state(state), sort_keys=True).encode()
    packed = base64.b64encode(zlib.compress(text, 9)).decode()
    workspace.pulumi("config", "set", f"{NAMESPACE}:{BEFORE_KEY}", "--secret", party=party, stdin=packed)


def forget(workspace: Workspace, party: str) -> None:
    """The upgrade has ended, in one way or the other."""
    workspace.pulumi("config", "rm", f"{NAMESPACE}:{BEFORE_KEY}", party=party)


def of_state(state: Mapping[str, Any]) -> dict[str, Any]:
    """Image, and host → files, of a deployment that Pulumi exported with its secrets. Pure."""
    found = {r["type"]: r["inputs"] for r in state["deployment"].get("resources", []) if "inputs" in r}
    try:
        image, payload = found[_IMAGE]["name"], found[_CONVERGE]["payload"]
    except KeyError as error:
        raise ConsortiumError(
            "the stack knows no institution that is up", value=f"no {error.args[0]}", fix="consortium up"
        ) from error
    hosts = json.loads(json.loads(payload["plaintext"]))
    return {"image": image, "files": {host: variables["base_files"] for host, variables in hosts.items()}}


def wanted(config: pulumi.Config) -> Before | None:
    """In the Pulumi program: what is to be put back; None in every other `up`."""
    if os.environ.get(MODE) != BACK:
        return None
    kept = json.loads(zlib.decompress(base64.b64decode(_in_clear(config))))
    files = {host: tuple(NodeFile(**file) for file in files) for host, files in kept["files"].items()}
    return Before(kept["image"], files)


def _in_clear(config: pulumi.Config) -> str:
    from pulumi.runtime.config import get_config

    value = get_config(f"{config.name}:{BEFORE_KEY}")
    if not value:
        raise ConsortiumError("nothing was kept that could be put back", where=f"{NAMESPACE}:{BEFORE_KEY}")
    return str(value)
