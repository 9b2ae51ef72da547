"""Which nodes leave the place where they stand: decided by comparing what was converged with what is asked for.

A container goes with its node. A machine stays, and has to be told: also one whose node stands on another machine now.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from consortium.host_files import names_own_hosts
from consortium.reach import Reach

_BY_NODE = ("hosts", "targets", "variables")


@dataclass(frozen=True)
class Leaving:
    """Names of nodes, as they were called where they leave. `head` is the one that knows the workers."""

    workers: tuple[str, ...] = ()
    """To be drained first."""
    machines: tuple[str, ...] = ()
    """To be left without services, settings and keys, of whatever role."""
    head: str = ""


def decide(olds: Mapping[str, Any], news: Mapping[str, Any]) -> Leaving:
    """Compare the inputs of two converges. Where the head itself goes there is no Ray left to drain a worker of."""
    groups = {node: variables["group"] for node, variables in json.loads(olds["payload"]).items()}
    before, after = Reach.from_props(olds), Reach.from_props(news)
    if before.engine and after.engine:
        gone = {node for node in groups if node not in news["hosts"]}
        machines: set[str] = set()
    elif before.engine:
        gone = machines = set()
    else:
        gone = machines = {node for node in groups if after.engine or not _stays(node, olds, news)}
    head = next((node for node, group in groups.items() if group == "head"), "")
    workers = {node for node in gone if groups[node] == "workers"} if head not in gone else set()
    return Leaving(tuple(sorted(workers)), tuple(sorted(machines)), head)


def _stays(node: str, olds: Mapping[str, Any], news: Mapping[str, Any]) -> bool:
    """Whether the machine is the same. A new machine at the old address took the old one's place: nobody is left."""
    if node not in news["hosts"]:
        return False
    place, now = (props["targets"][node] for props in (olds, news))
    same_place = all(place.get(key) == now.get(key) for key in ("address", "port"))
    return same_place or bool(olds["hosts"].get(node) == news["hosts"][node])


def merged(olds: Mapping[str, Any], news: Mapping[str, Any], leaving: Sequence[str]) -> dict[str, Any]:
    """What is asked for, with those that leave where they still are."""
    old = {key: {node: olds[key][node] for node in leaving if node in (olds.get(key) or {})} for key in _BY_NODE}
    return {**news, **{key: {**(news.get(key) or {}), **old[key]} for key in _BY_NODE}}


def only(props: Mapping[str, Any], nodes: Iterable[str]) -> dict[str, Any]:
    """The same institution as if it had only these nodes."""
    wanted = set(nodes)
    kept = {key: {node: found for node, found in props[key].items() if node in wanted} for key in _BY_NODE}
    payload = {node: content for node, content in json.loads(props["payload"]).items() if node in wanted}
    return {**props, **kept, "payload": json.dumps(payload)}


def meanwhile(olds: Mapping[str, Any], news: Mapping[str, Any], leaving: Leaving) -> dict[str, Any]:
    """The nodes that stay, as they are asked for, but still open to those that leave: these have work to finish."""
    old = json.loads(olds["payload"])
    props = only(news, [node for node in news["hosts"] if node in old and node not in leaving.machines])
    payload = json.loads(props["payload"])
    for node, content in payload.items():
        kept = {file["path"]: file for file in old[node]["base_files"] if names_own_hosts(file["path"])}
        content["base_files"] = [kept.get(file["path"], file) for file in content["base_files"]]
    return {**props, "payload": json.dumps(payload)}
