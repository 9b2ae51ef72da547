"""The words in which each resource describes its properties, and the checks that follow from them.

A resource's table has one `Prop` for every property of the SDK's class, nested ones too: how a
change is made, where the value goes in Docker's API, or why it is refused. Nothing is ignored.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from airgap.pulumi_resource_docker.wire import UNKNOWN, Props


class Shape(enum.Enum):
    """What a value has to be."""

    TEXT = "a string"
    WHOLE = "a whole number"
    FLAG = "true or false"
    TEXTS = "a list of strings"
    MAP = "a map of strings"
    OBJECT = "an object"
    OBJECTS = "a list of objects"


class On(enum.Enum):
    """What a changed value leads to."""

    REPLACE = "replace"
    UPDATE = "update in place"
    LIMIT = "update in place, replace when removed"  # docker cannot take such a limit away
    REFUSE = "refused"


def same(value: Any) -> Any:
    """For values that docker wants as they are."""
    return value


@dataclass(frozen=True)
class Prop:
    """One property. ``puts`` maps paths in Docker's create request to functions of the value."""

    shape: Shape
    on: On = On.REPLACE
    puts: tuple[tuple[str, Callable[[Any], Any]], ...] = ()
    note: str = ""  # how it is applied when ``puts`` does not say; for a refused one, what to do
    required: bool = False
    allowed: tuple[Any, ...] = ()  # for a refused one: values that ask for nothing
    unordered: bool = False  # a list whose order has no meaning
    settled: bool = False  # docker settles it when it is not given: leaving it out changes nothing
    private: bool = False  # may hold a secret: messages do not show it
    fields: Mapping[str, Prop] = field(default_factory=dict)
    test: Callable[[Any], str | None] | None = None  # a reason to refuse a value of the right shape
    seen: Callable[[Props], Any] | None = None  # the value, from what docker shows of the resource


Table = Mapping[str, Prop]


def to(path: str, convert: Callable[[Any], Any] = same) -> tuple[tuple[str, Callable[[Any], Any]]]:
    """The usual single ``puts``."""
    return ((path, convert),)


def refuse(shape: Shape, note: str, allowed: tuple[Any, ...] = (), private: bool = False) -> Prop:
    """A property that this provider does not serve; ``note`` says what to do instead."""
    return Prop(shape, On.REFUSE, note=note, allowed=allowed, private=private)


LABELS = Prop(
    Shape.OBJECTS,
    puts=to("Labels", lambda labels: {item["label"]: item["value"] for item in labels}),
    unordered=True,
    fields={"label": Prop(Shape.TEXT, required=True), "value": Prop(Shape.TEXT, required=True)},
)


def right_shape(shape: Shape, value: Any) -> bool:
    """Whether a known value has the shape; strings inside may be unknown."""
    if shape is Shape.TEXT:
        return isinstance(value, str)
    if shape is Shape.WHOLE:
        return isinstance(value, int) and not isinstance(value, bool)
    if shape is Shape.FLAG:
        return isinstance(value, bool)
    if shape is Shape.TEXTS:
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    if shape is Shape.MAP:
        return isinstance(value, dict) and all(isinstance(item, str) for item in value.values())
    if shape is Shape.OBJECT:
        return isinstance(value, dict)
    return isinstance(value, list) and all(isinstance(i, dict) or i == UNKNOWN for i in value)


Failure = tuple[str, str]  # property path, reason


def check(table: Table, values: Mapping[str, Any], what: str, path: str = "") -> list[Failure]:
    """Everything that is wrong with the values, each with its property's path."""
    failures = [
        (path + name, "is required") for name, prop in table.items() if prop.required and values.get(name) is None
    ]
    for name, value in values.items():
        if name.startswith("__") or value is None:
            continue
        if name not in table:
            failures.append((path + name, f"is not a property of {what}: remove it"))
            continue
        failures += _check_one(table[name], value, what, path + name)
    return failures


def _check_one(prop: Prop, value: Any, what: str, path: str) -> list[Failure]:
    if value == UNKNOWN and prop.on is not On.REFUSE:
        return []
    if prop.on is On.REFUSE:
        if value in prop.allowed:
            return []
        return [(path, f"{_brief(prop, value)} is not served by the stand-in provider: {prop.note}")]
    if not right_shape(prop.shape, value):
        return [(path, f"{_brief(prop, value)} must be {prop.shape.value}")]
    if prop.allowed and value not in prop.allowed:
        choices = ", ".join(str(choice) for choice in prop.allowed)
        return [(path, f"{_brief(prop, value)} must be one of {choices}")]
    reason = prop.test(value) if prop.test else None
    failures = [(path, reason)] if reason else []
    if prop.shape is Shape.OBJECT:
        failures += check(prop.fields, value, f"{what}.{path}", f"{path}.")
    elif prop.shape is Shape.OBJECTS:
        for at, item in enumerate(value):
            if item != UNKNOWN:
                failures += check(prop.fields, item, f"{what}.{path}", f"{path}[{at}].")
    return failures


def _brief(prop: Prop, value: Any) -> str:
    if prop.private or isinstance(value, (list, dict)):  # parts of it may be secrets
        return "(value not shown)"
    text = repr(value)
    return f"= {text if len(text) <= 60 else text[:57] + '...'}"


def request(table: Table, values: Props) -> Props:
    """Docker's create request: every given value at its path."""
    made: Props = {}
    for name, prop in table.items():
        if values.get(name) is None:
            continue
        for path, convert in prop.puts:
            *parents, last = path.split(".")
            at = made
            for parent in parents:
                at = at.setdefault(parent, {})
            value = convert(values[name])
            if isinstance(value, dict) and isinstance(at.get(last), dict):
                at[last].update(value)
            elif value is not None:
                at[last] = value
    return made
