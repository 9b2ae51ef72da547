"""What `consortium revoke` writes: the list of peers whom this party trusts no more, in its own stack settings."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

from consortium.documents import load_consortium
from consortium.errors import UsageError
from consortium.stackfile import StackFile
from consortium.validation import did_you_mean
from consortium.workspace import Workspace


@dataclass(frozen=True)
class Revoked:
    """Who is revoked now, and whether this run changed it."""

    party: str
    revoked: tuple[str, ...]
    changed: bool


def revoke(workspace: Workspace, party: str, peer: str, *, undo: bool = False) -> Revoked:
    """Put `peer` on the list, or take it off. Nothing is in force before `consortium up`.

    Raises UsageError for somebody who is no peer, DocumentErrors for wrong documents.
    """
    only_peers(workspace, party, peer)
    stack = StackFile(workspace.stack_file(party))
    settings: dict[str, Any] = copy.deepcopy(stack.config().get("settings") or {})
    listed = [name for name in settings.pop("revoked", None) or [] if name != peer]
    if not undo:
        listed.append(peer)
    if listed:
        settings["revoked"] = listed
    return Revoked(party, tuple(listed), stack.update(settings=settings))


def only_peers(workspace: Workspace, party: str, peer: str) -> None:
    """Raises UsageError for somebody who is no other member of the consortium, DocumentErrors."""
    others = [name for name in load_consortium(workspace.root).members if name != party]
    if peer not in others:
        raise UsageError(
            "only a peer can be revoked",
            where=str(workspace.root / "consortium.yaml"),
            value=peer,
            allowed=", ".join(others),
            fix=did_you_mean(peer, others),
        )
