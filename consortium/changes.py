"""What an `up` would change, as data: from `pulumi preview --json`, whose messages hold what Ansible would change."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from consortium.ansible_diff import DIFF_OF, SHOW_DIFF
from consortium.errors import ConsortiumError
from consortium.workspace import PulumiFailed, Workspace

QUIET = ("same", "refresh", "read")
"""Steps that change nothing."""


@dataclass(frozen=True)
class Change:
    """One resource that is not as the documents say."""

    op: str
    """create, update, replace, delete, …: Pulumi's word."""
    kind: str
    """Its type without the package: `Container`."""
    name: str


@dataclass(frozen=True)
class AnsibleChange:
    """What one task would change on one host."""

    host: str
    task: str
    diff: str


@dataclass(frozen=True)
class Changes:
    """All of it."""

    party: str
    resources: tuple[Change, ...]
    unchanged: int
    reasons: tuple[str, ...]
    """Which roles and files a converge would be for, drift, and warnings."""
    ansible: tuple[AnsibleChange, ...]

    def __bool__(self) -> bool:
        return bool(self.resources)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def changes(workspace: Workspace, party: str, *, refresh: bool = False, diff: bool = True) -> Changes:
    """Ask Pulumi and, with `diff`, Ansible in check mode. Nothing is changed, no state is written.

    With `refresh` what is really there is compared with the documents, else what the state remembers.
    Raises PulumiFailed, ConsortiumError.
    """
    flags = ["--json", "--show-sames", *(["--refresh"] if refresh else [])]
    try:
        text = workspace.pulumi("preview", *flags, party=party, env={SHOW_DIFF: "1"} if diff else {})
    except PulumiFailed as failure:
        raise _explained(failure) from failure
    return read(party, json.loads(text))


def read(party: str, preview: Mapping[str, Any]) -> Changes:
    """`preview` is the document that `pulumi preview --json` prints. Pure."""
    last = {str(step["urn"]): str(step["op"]) for step in preview.get("steps", [])}  # a refresh comes before its step
    found = tuple(_change(urn, op) for urn, op in last.items() if op not in QUIET)
    messages = [str(entry["message"]).strip() for entry in preview.get("diagnostics", []) if entry.get("message")]
    return Changes(
        party=party,
        resources=found,
        unchanged=len(last) - len(found),
        reasons=tuple(dict.fromkeys(m for m in messages if not m.startswith(DIFF_OF))),
        ansible=tuple(dict.fromkeys(_ansible(m) for m in messages if m.startswith(DIFF_OF))),
    )


def _change(urn: str, op: str) -> Change:
    *_, kinds, name = urn.split("::")
    return Change(op, kinds.rpartition("$")[2].rpartition(":")[2], name)


def _ansible(message: str) -> AnsibleChange:
    first, _, text = message.removeprefix(DIFF_OF).partition("\n")
    host, _, task = first.partition(": ")
    return AnsibleChange(host, task, text)


def _explained(failure: PulumiFailed) -> ConsortiumError:
    """With --json a failed preview says why inside of its document."""
    try:
        document = json.loads(failure.value)
        said = [str(d["message"]).strip() for d in document["diagnostics"] if d.get("severity") == "error"]
    except (ValueError, KeyError, TypeError):
        return failure
    return PulumiFailed(failure.what, where=failure.where, value="\n".join(said) or failure.value, fix=failure.fix)
