"""How what is asked for differs from what was brought, in words: what the diff of a dynamic resource rests on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def changes(olds: Mapping[str, Any], news: Mapping[str, Any]) -> Iterator[str]:
    """Name every difference that makes a converge of nodes necessary, in words an operator can act on.

    A value that preview cannot know yet (the id of a container still to be made) counts as a change.
    """
    for host, found in (olds.get("drift") or {}).items():
        yield f"{host} has drifted ({', '.join(found)})"
    yield from (f"role {name} {what}" for name, what in compare(olds.get("roles"), news.get("roles")))
    yield from (f"{host} {what}" for host, what in compare(olds.get("hosts"), news.get("hosts")))
    yield from (f"the way to {host} {what}" for host, what in compare(olds.get("targets"), news.get("targets", {})))
    if (olds.get("public_key") or "") != (news.get("public_key") or ""):
        yield "the SSH key changed"
    old_told, told = olds.get("variables") or {}, news.get("variables") or {}
    for host in told:
        if host in old_told:
            yield from (f"{host}: {name} {what}" for name, what in compare(old_told[host], told[host]))
    old_files, new_files = olds.get("files") or {}, news.get("files") or {}
    for host in new_files:
        if host in old_files:
            yield from (f"{host}:{p} {what}" for p, what in compare(old_files[host], new_files[host]))


def compare(old: Any, new: Any) -> Iterator[tuple[str, str]]:
    """(key, what happened to it) for every key that differs. What is no map is not known before the nodes exist."""
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
