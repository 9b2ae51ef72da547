"""Brings the nodes of one institution to what their documents say, by Ansible, as one Pulumi resource.

The inputs hold the digest of every role and of every file on every host, so that `preview` says which role or file
changed and runs nothing, a no-op `up` runs nothing, and an edited role always runs. `refresh` runs the same play
in check mode and keeps what it finds as drift, which the next `up` mends.

The class lives in an importable module: Pulumi pickles a provider by reference then, and a delete years later
runs today's code.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pulumi
from pulumi.dynamic import (
    CreateResult,
    DiffResult,
    ReadResult,
    Resource,
    ResourceProvider,
    UpdateResult,
)

from consortium.ansible import ROLES, AnsibleFailed, Event, Summary, run_playbook, untemplated

if TYPE_CHECKING:
    from consortium.nodefiles import NodeFile

SITE = ROLES / "site.yml"
GROUPS = {"head": "head", "worker": "workers", "gateway": "gateway"}
"""A host's role → its group in the inventory."""


def role_digests(roles: Path = ROLES) -> dict[str, str]:
    """SHA-256 over the relative paths and bytes of each role's files, by role name; `site` covers the play itself."""
    digests = {"site": hashlib.sha256(SITE.read_bytes()).hexdigest()} if roles == ROLES else {}
    for role in sorted(p for p in roles.iterdir() if p.is_dir()):
        digest = hashlib.sha256()
        for path in sorted(p for p in role.rglob("*") if p.is_file() and "__pycache__" not in p.parts):
            digest.update(str(path.relative_to(role)).encode() + b"\0" + path.read_bytes() + b"\0")
        digests[role.name] = digest.hexdigest()
    return digests


class ConvergeProvider(ResourceProvider):
    """Observes digests, decides by comparing them, acts by one Ansible run."""

    serialize_as_secret_always = False  # it captures no secret, and a readable state helps whoever debugs it

    def diff(self, _id: str, olds: dict[str, Any], news: dict[str, Any]) -> DiffResult:
        reasons = list(changes(olds, news))
        if reasons:
            _tell(news["urn_"], "will converge: " + "; ".join(reasons))
        return DiffResult(changes=bool(reasons), replaces=[], stables=[], delete_before_replace=False)

    def create(self, props: dict[str, Any]) -> CreateResult:
        return CreateResult(id_=props["party"], outs=_converge(props))

    def update(self, _id: str, _olds: dict[str, Any], news: dict[str, Any]) -> UpdateResult:
        return UpdateResult(outs=_converge(news))

    def read(self, id_: str, props: dict[str, Any]) -> ReadResult:
        drift = _observe_drift(props)
        for host, found in drift.items():
            _tell(props["urn_"], f"{host} has drifted: {', '.join(found)}", severity="WARNING")
        return ReadResult(id_, {**props, "drift": drift})

    def delete(self, _id: str, _props: dict[str, Any]) -> None:
        """Nothing to undo: what Ansible configured goes with the containers, or stays on hosts that are not ours."""


def changes(olds: Mapping[str, Any], news: Mapping[str, Any]) -> Iterator[str]:
    """Name every difference that makes a converge necessary, in words an operator can act on.

    A value that preview cannot know yet (the id of a container still to be made) counts as a change.
    """
    for host, found in (olds.get("drift") or {}).items():
        yield f"{host} has drifted ({', '.join(found)})"
    yield from (f"role {name} {what}" for name, what in _compare(olds.get("roles"), news.get("roles")))
    yield from (f"{host} {what}" for host, what in _compare(olds.get("hosts"), news.get("hosts")))
    old_files, new_files = olds.get("files") or {}, news.get("files") or {}
    for host in new_files:
        if host in old_files:
            yield from (f"{host}:{p} {what}" for p, what in _compare(old_files[host], new_files[host]))


def _compare(old: Any, new: Any) -> Iterator[tuple[str, str]]:
    if not isinstance(new, Mapping):
        yield "all", "not known before the nodes exist"
        return
    old = old if isinstance(old, Mapping) else {}
    for key in sorted({*old, *new}):
        if key not in old:
            yield key, "added"
        elif key not in new:
            yield key, "removed"
        elif old[key] != new[key]:
            yield key, "changed"


def _converge(props: dict[str, Any]) -> dict[str, Any]:
    started = time.monotonic()
    urn = props["urn_"]
    summary = run_playbook(SITE, _inventory(props), env=_environment(props), on_event=lambda e: _show(urn, e))
    _tell(urn, f"{summary.ok} ok, {summary.changed} changed in {time.monotonic() - started:.1f} s")
    return {**props, "drift": {}}


def _observe_drift(props: dict[str, Any]) -> dict[str, list[str]]:
    try:
        found: Summary = run_playbook(
            SITE,
            _inventory(props),
            env=_environment(props),
            check=True,
            on_event=lambda e: _show(props["urn_"], e),
        )
    except AnsibleFailed as failure:
        # A host that cannot be reached *is* drift; a refresh that stops here could never be followed by a repair.
        return {"nodes": [str(failure)]}
    return {host: list(tasks) for host, tasks in found.changes.items()}


def _inventory(props: Mapping[str, Any]) -> dict[str, dict[str, dict[str, Any]]]:
    inventory: dict[str, dict[str, dict[str, Any]]] = {}
    for host, variables in json.loads(props["payload"]).items():
        variables["base_files"] = [file | {"content": untemplated(file["content"])} for file in variables["base_files"]]
        reach = {
            "ansible_connection": "community.docker.docker_api",
            "ansible_host": props["hosts"][host],
        }
        inventory.setdefault(variables.pop("group"), {})[host] = {**variables, **reach}
    return inventory


def _environment(props: Mapping[str, Any]) -> dict[str, str]:
    return {"DOCKER_HOST": props["engine"]}


def _show(urn: str, event: Event) -> None:
    if event.kind == "task":
        _tell(urn, event.task, ephemeral=True)
    elif event.kind in ("failed", "unreachable"):
        _tell(urn, f"{event.host}: {event.task}: {event.message}", severity="ERROR")


def _tell(urn: str, message: str, *, severity: str = "INFO", ephemeral: bool = False) -> None:
    """Show a line on the resource's own row. The engine's address is this provider process's last argument."""
    import grpc
    from pulumi.runtime.proto import engine_pb2, engine_pb2_grpc

    with grpc.insecure_channel(sys.argv[-1]) as channel:
        engine_pb2_grpc.EngineStub(channel).Log(
            engine_pb2.LogRequest(
                severity=engine_pb2.LogSeverity.Value(severity),
                message=message,
                urn=urn,
                ephemeral=ephemeral,
            )
        )


class Converge(Resource, module="consortium", name="Converge"):
    """One Ansible run over all nodes of an institution.

    `hosts` maps host name → container id, `groups` host name → inventory group, and `files` host name → what must
    stand on it. File contents travel as one secret; only their digests are readable in state.
    """

    drift: pulumi.Output[dict[str, list[str]]]

    def __init__(
        self,
        name: str,
        *,
        party: str,
        engine: str,
        hosts: Mapping[str, pulumi.Input[str]],
        groups: Mapping[str, str],
        files: Mapping[str, Sequence[NodeFile]],
        parent_urn: str,
        opts: pulumi.ResourceOptions,
    ) -> None:
        payload = {
            host: {
                "group": groups[host],
                "base_service_manager": "runit",
                "base_files": [file.as_variables() for file in files[host]],
            }
            for host in hosts
        }
        super().__init__(
            ConvergeProvider(),
            name,
            {
                "party": party,
                "engine": engine,
                "hosts": dict(hosts),
                "roles": role_digests(),
                "files": {host: {f.path: f.digest for f in files[host]} for host in hosts},
                "payload": pulumi.Output.secret(json.dumps(payload, sort_keys=True)),
                "drift": {},
                "urn_": _child_urn(parent_urn, name),
            },
            opts,
        )


def _child_urn(parent_urn: str, name: str) -> str:
    """A provider is not told its resource's URN, which it needs to show progress on the right row."""
    head, chain, _ = parent_urn.rsplit("::", 2)
    return f"{head}::{chain}$pulumi-python:dynamic/{Converge._resource_type_name.split('/', 1)[1]}::{name}"
