"""Property values: the engine's protobuf structs on one side, plain Python on the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf import struct_pb2

# What the engine sends in a preview for a value that is not known before the update.
UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
SIGNATURE = "4dabf18193072939515e22adb298388d"
SECRET = "1b47061264138c4ac30d75fd1eb44270"  # noqa: S105 - a type tag of the protocol

Props = dict[str, Any]


def plain(value: Any) -> Any:
    """One value as Python. Secrets are unwrapped: this provider says that it does not take them,
    and the engine marks the outputs again."""
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        fields = value.struct_value.fields
        if SIGNATURE in fields and fields[SIGNATURE].string_value == SECRET:
            return plain(fields["value"])
        return {name: plain(item) for name, item in fields.items()}
    if kind == "list_value":
        return [plain(item) for item in value.list_value.values]
    if kind == "number_value":
        number = value.number_value
        return int(number) if number.is_integer() else number
    return None if kind in (None, "null_value") else getattr(value, kind)


def props(struct: Any) -> Props:
    """A resource's properties; an explicit null is the same as nothing."""
    plained = {name: plain(value) for name, value in struct.fields.items()}
    return {name: value for name, value in plained.items() if value is not None}


def struct(properties: Mapping[str, Any]) -> struct_pb2.Struct:
    """Properties as the engine wants them."""
    made = struct_pb2.Struct()
    made.update({name: value for name, value in properties.items() if value is not None})
    return made


def unknown(value: Any) -> bool:
    """Whether any part of a value is not known yet."""
    if isinstance(value, Mapping):
        return any(unknown(item) for item in value.values())
    if isinstance(value, list):
        return any(unknown(item) for item in value)
    return bool(value == UNKNOWN)


def objects(properties: Mapping[str, Any], name: str) -> list[Props]:
    """A list's objects, as far as they are known: in a preview the list or an item may not be."""
    value = properties.get(name)
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
