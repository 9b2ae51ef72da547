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
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
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
from pulumi.runtime.rpc import UNKNOWN

from consortium.ansible import ROLES, AnsibleFailed, Event, Summary, run_playbook, untemplated
from consortium.ansible_diff import DIFF_OF, SHOW_DIFF
from consortium.draining import drain
from consortium.engine_log import child_urn, tell
from consortium.leaving import Leaving, decide, meanwhile, merged, only
from consortium.reach import SITE, Reach, play
from consortium.reasons import changes

if TYPE_CHECKING:
    from consortium.nodefiles import NodeFile

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
            tell(news["urn_"], "will converge: " + "; ".join(reasons))
            if os.environ.get(SHOW_DIFF):
                _show_diff(news)
        return DiffResult(changes=bool(reasons), replaces=[], stables=[], delete_before_replace=False)

    def create(self, props: dict[str, Any]) -> CreateResult:
        return CreateResult(id_=props["party"], outs=_converge(props))

    def update(self, _id: str, olds: dict[str, Any], news: dict[str, Any]) -> UpdateResult:
        leaving = decide(olds, news)
        if not leaving.machines:
            outs = _converge(news)
            if leaving.workers:
                # After the converge: a wait must not hold up other changes.
                _drain(olds, news, leaving)
            return UpdateResult(outs=outs)
        if leaving.workers:
            _converge(meanwhile(olds, news, leaving))
            _drain(olds, news, leaving)
        # Before the machines that are asked for: one of them may be the same under another name.
        _leave(olds, news, leaving.machines)
        return UpdateResult(outs=_converge(news))

    def read(self, id_: str, props: dict[str, Any]) -> ReadResult:
        drift = _observe_drift(props)
        for host, found in drift.items():
            tell(props["urn_"], f"{host} has drifted: {', '.join(found)}", severity="WARNING")
        return ReadResult(id_, {**props, "drift": drift})

    def delete(self, _id: str, props: dict[str, Any]) -> None:
        """What was configured goes with the containers; hosts remain, and are left without services, settings, keys."""
        if not Reach.from_props(props).engine:
            _run(props, leave=True)


def _converge(props: dict[str, Any]) -> dict[str, Any]:
    started = time.monotonic()
    urn = props["urn_"]
    summary = _run(props)
    tell(urn, f"{summary.ok} ok, {summary.changed} changed in {time.monotonic() - started:.1f} s")
    return {**props, "drift": {}}


def _drain(olds: Mapping[str, Any], news: Mapping[str, Any], leaving: Leaving) -> None:
    """Let workers that leave finish."""
    urn, settings = news["urn_"], news["drain"]
    tell(urn, f"draining {', '.join(leaving.workers)}, at most {settings['wait_s']:g} s")
    there = merged(olds, news, leaving.workers)
    with play(Reach.from_props(there), there["hosts"], there.get("ssh_key") or "") as run:
        drain(
            (leaving.head, run.variables[leaving.head]),
            {name: run.variables[name] for name in leaving.workers},
            wait_s=settings["wait_s"],
            force=settings["force"],
            env=run.environment,
            private_files=run.private_files,
            tell=lambda line, severity: tell(urn, line, severity=severity),
        )


def _leave(olds: Mapping[str, Any], news: Mapping[str, Any], machines: Sequence[str]) -> None:
    """Take services, settings and keys off machines. One that cannot be reached, perhaps for ever, holds nothing up."""
    missed: dict[str, str] = {}
    failed: list[str] = []

    def told(urn: str, event: Event) -> None:
        _show(urn, event, "WARNING" if event.kind == "unreachable" else "ERROR")
        if event.kind == "unreachable":
            missed[event.host] = event.message
        elif event.kind == "failed":
            failed.append(event.host)

    props = {**only(olds, machines), "urn_": news["urn_"], "ssh_key": news.get("ssh_key") or olds["ssh_key"]}
    try:
        _run(props, leave=True, on_event=told)
    except AnsibleFailed:
        if failed or not missed:
            raise
    for node in missed:
        text = (
            f"{node} at {olds['targets'][node]['address']} could not be reached: its services, settings and keys are "
            "still there. Should it come back: disable its units consortium-* and delete /etc/consortium"
        )
        tell(news["urn_"], text, severity="WARNING")


def _observe_drift(props: dict[str, Any]) -> dict[str, list[str]]:
    try:
        found = _run(props, check=True)
    except AnsibleFailed as failure:
        # A host that cannot be reached *is* drift; a refresh that stops here could never be followed by a repair.
        return {"nodes": [str(failure)]}
    return {host: list(tasks) for host, tasks in found.changes.items()}


def _run(
    props: Mapping[str, Any],
    *,
    check: bool = False,
    leave: bool = False,
    on_event: Callable[[str, Event], None] | None = None,
) -> Summary:
    """Run the play that fits the nodes' placement, with progress on the resource's row. Raises AnsibleFailed."""
    urn, told = props["urn_"], on_event or (_show_found if check else _show)
    with play(Reach.from_props(props), props["hosts"], props.get("ssh_key") or "", leave=leave) as run:
        return run_playbook(
            run.playbook,
            _inventory(props["payload"], run.variables),
            env=run.environment,
            check=check,
            private_files=run.private_files,
            on_event=lambda event: told(urn, event),
        )


def _show_diff(news: Mapping[str, Any]) -> None:
    """What Ansible would change on the nodes that are there, by a run in check mode: it changes nothing."""
    hosts = news["hosts"] if isinstance(news["hosts"], Mapping) else {}
    # A node that is still to be made has no id yet, and everything on it would be new.
    there = {host: id_ for host, id_ in hosts.items() if isinstance(id_, str) and id_ != UNKNOWN}
    if not there:
        return
    payload = {host: variables for host, variables in json.loads(news["payload"]).items() if host in there}
    try:
        _run({**news, "hosts": there, "payload": json.dumps(payload)}, check=True, on_event=_tell_diff)
    except AnsibleFailed as failure:
        tell(news["urn_"], f"the nodes cannot be compared with their documents: {failure}", severity="WARNING")


def _tell_diff(urn: str, event: Event) -> None:
    for text in event.diff if event.kind == "changed" else ():
        tell(urn, f"{DIFF_OF}{event.host}: {event.task}\n{text}")


def _inventory(payload: str, more: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, dict[str, Any]]]:
    inventory: dict[str, dict[str, dict[str, Any]]] = {}
    for host, variables in json.loads(payload).items():
        variables["base_files"] = [file | {"content": untemplated(file["content"])} for file in variables["base_files"]]
        inventory.setdefault(variables.pop("group"), {})[host] = {**variables, **more[host]}
    return inventory


def _show(urn: str, event: Event, severity: str = "ERROR") -> None:
    if event.kind == "task":
        tell(urn, event.task, ephemeral=True)
    elif event.kind in ("failed", "unreachable"):
        tell(urn, f"{event.host}: {event.task}: {event.message}", severity=severity)


def _show_found(urn: str, event: Event) -> None:
    """In check mode a node that cannot be reached is what was found: an error would end the command that looks."""
    _show(urn, event, "WARNING")


class Converge(Resource, module="consortium", name="Converge"):
    """One Ansible run over all nodes of an institution.

    `hosts` maps host name → id of its container or machine, `groups` host name → inventory group, and `files` host
    name → what must stand on it. `drain`: how long a worker that goes is waited for (settings.Drain). File contents
    travel as one secret; only their digests are readable in state.
    """

    drift: pulumi.Output[dict[str, list[str]]]

    def __init__(
        self,
        name: str,
        *,
        party: str,
        reach: Reach,
        ssh_key: str,
        hosts: Mapping[str, pulumi.Input[str]],
        groups: Mapping[str, str],
        files: Mapping[str, Sequence[NodeFile]],
        drain: Mapping[str, Any],
        parent_urn: str,
        opts: pulumi.ResourceOptions,
    ) -> None:
        payload = {
            host: {
                "group": groups[host],
                "base_files": [file.as_variables() for file in files[host]],
            }
            for host in hosts
        }
        super().__init__(
            ConvergeProvider(),
            name,
            {
                "party": party,
                **asdict(reach),
                "ssh_key": pulumi.Output.secret(ssh_key),
                "hosts": dict(hosts),
                "roles": role_digests(),
                "files": {host: {f.path: f.digest for f in files[host]} for host in hosts},
                "payload": pulumi.Output.secret(json.dumps(payload, sort_keys=True)),
                "drift": {},
                "drain": dict(drain),
                "urn_": child_urn(parent_urn, Converge._resource_type_name, name),
            },
            opts,
        )
