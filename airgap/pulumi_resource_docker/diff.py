"""What differs between two sets of inputs, and what it takes to get from one to the other. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

from airgap.pulumi_resource_docker.table import On, Prop, Shape, Table
from airgap.pulumi_resource_docker.wire import Props

NAME = re.compile(r"[A-Za-z_]\w*\Z")
EMPTY: tuple[Any, ...] = (None, [], {})


@dataclass
class Difference:
    """The answer to one Diff."""

    details: dict[str, str] = field(default_factory=dict)  # property path -> ADD, DELETE, UPDATE
    changed: set[str] = field(default_factory=set)  # top-level names
    replaces: set[str] = field(default_factory=set)  # those that a new resource is needed for


def join(path: str, key: str) -> str:
    """The path of a key inside ``path``, in the engine's notation."""
    if not NAME.match(key):
        return f"{path}[{json.dumps(key)}]"
    return f"{path}.{key}" if path else key


def leaves(old: Any, new: Any, path: str) -> Iterator[tuple[str, str]]:
    """The smallest parts that differ, as (path, ADD | DELETE | UPDATE)."""
    if type(old) is type(new) and old == new:
        return
    if isinstance(old, dict) and isinstance(new, dict):
        pairs = [(join(path, key), key in old, key in new, key) for key in sorted({*old, *new})]
    elif isinstance(old, list) and isinstance(new, list):
        longest = range(max(len(old), len(new)))
        pairs = [(f"{path}[{at}]", at < len(old), at < len(new), at) for at in longest]
    else:
        yield path, "UPDATE"
        return
    for inner, was, now, key in pairs:
        if was and now:
            yield from leaves(old[key], new[key], inner)
        else:
            yield inner, "DELETE" if was else "ADD"


def equal(prop: Prop | None, old: Any, new: Any) -> bool:
    """Whether two values of a property ask for the same; order matters only where docker keeps it."""
    if old in EMPTY and new in EMPTY:
        return True
    if prop and prop.unordered and isinstance(old, list) and isinstance(new, list):
        return sorted(map(_key, old)) == sorted(map(_key, new))
    return bool(old == new) and isinstance(old, bool) == isinstance(new, bool)


def _key(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def changed(table: Table, old: Props, new: Props, ignored: Collection[str] = ()) -> list[str]:
    """The names of properties that differ; those with two underscores are the provider's own."""
    return [
        name
        for name in sorted({*old, *new})
        if not name.startswith("__")
        and name not in ignored
        and not equal(table.get(name), old.get(name), new.get(name))
        and not (name in table and table[name].settled and new.get(name) is None)
    ]


def difference(table: Table, old: Props, new: Props, ignored: Collection[str] = ()) -> Difference:
    """Compares the inputs of the last update with those of this one."""
    found = Difference()
    for name in changed(table, old, new, ignored):
        found.changed.add(name)
        prop = table.get(name, Prop(Shape.TEXT))
        gone = new.get(name) is None
        if prop.on is On.REPLACE or (prop.on is On.LIMIT and gone):
            found.replaces.add(name)
        was, now = old.get(name), new.get(name)
        if was is None or now is None:
            found.details[join("", name)] = "ADD" if was is None else "DELETE"
        else:
            found.details.update(leaves(was, now, join("", name)))
    return found
