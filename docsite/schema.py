"""JSON schemas as tables: what pydantic makes of a model, and what an OpenAPI document holds."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

Schema = Mapping[str, Any]

_UNITS = {"_per_s": "1 ÷ s", "_ms": "ms", "_s": "s", "_mb": "MB", "_bytes": "bytes", "_days": "days"}


def definition(schema: Schema, definitions: Schema) -> str:
    """What stands under the name of an object or an enumeration: its sentence, and its fields or values."""
    text = cell(schema.get("description", ""))
    below = table(schema, definitions) if "properties" in schema else f"One of {kind(schema)}."
    return f"{text}\n\n{below}".strip()


def table(schema: Schema, definitions: Schema) -> str:
    """The fields of an object: type with what is allowed and its unit, default, meaning."""
    needed = schema.get("required", ())
    rows = ["| field | type | default | meaning |", "|---|---|---|---|"]
    for name, field in schema["properties"].items():
        target = definitions.get(next(references(field), ""), {})  # pydantic leaves out what both would say
        meaning = " ".join(str(field.get("description") or target.get("description", "")).split())
        rows.append(
            f"| `{name}` | {_with_unit(name, kind(field))} | {_default(field, name in needed)} | {cell(meaning)} |"
        )
    return "\n".join(rows)


def kind(schema: Schema) -> str:
    """The type in words, with its bounds."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})" if name != "JsonValue" else "anything"
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return " \\| ".join(f"`{value}`" for value in schema["enum"])
    if choices := schema.get("anyOf") or schema.get("oneOf"):
        return " \\| ".join(kind(choice) for choice in choices)
    return _plain(schema)


def objects(definitions: Schema, start: Schema) -> Iterator[str]:
    """Names of the objects and enumerations that a schema leads to, the nearest first."""
    seen: list[str] = []
    waiting = list(references(start))
    while waiting:
        name = waiting.pop(0)
        if name not in seen and name in definitions:
            seen.append(name)
            waiting += references(definitions[name])
    yield from (name for name in seen if {"properties", "enum"} & set(definitions[name]))


def references(schema: Any) -> Iterator[str]:
    """Every name a schema refers to."""
    if isinstance(schema, dict):
        for key, value in schema.items():
            if key == "$ref":
                yield str(value).rpartition("/")[2]
            else:
                yield from references(value)
    elif isinstance(schema, list):
        for part in schema:
            yield from references(part)


def cell(text: str) -> str:
    """Text that stays within one cell, and shows every character."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def _plain(schema: Schema) -> str:
    match schema.get("type"):
        case "array":
            return f"list of {kind(schema.get('items', {}))}{_bounds(schema, 'minItems', 'maxItems')}"
        case "object":
            values = [*schema.get("patternProperties", {}).values(), schema.get("additionalProperties")]
            inner = next((value for value in values if isinstance(value, dict)), {})
            return f"name → {kind(inner)}"
        case "string":
            form = f", {schema['format']}" if "format" in schema else ""
            return f"text{form}{_bounds(schema, 'minLength', 'maxLength', ' characters')}"
        case "integer" | "number" as name:
            above = f", above {schema['exclusiveMinimum']:g}" if "exclusiveMinimum" in schema else ""
            return f"{'integer' if name == 'integer' else 'number'}{above}{_bounds(schema, 'minimum', 'maximum')}"
        case "boolean":
            return "true \\| false"
        case "null":
            return "null"
    return "anything"


def _bounds(schema: Schema, lowest: str, highest: str, unit: str = "") -> str:
    low, high = schema.get(lowest), schema.get(highest)
    if low is None and high is None:
        return ""
    if low is None:
        return f", at most {_number(high)}{unit}"
    return f", {_number(low)} or more{unit}" if high is None else f", {_number(low)} to {_number(high)}{unit}"


def _number(value: Any) -> str:
    return str(int(value)) if float(value).is_integer() else str(value)


def _with_unit(name: str, text: str) -> str:
    unit = next((unit for ending, unit in _UNITS.items() if name.endswith(ending)), None)
    return f"{text}; in {unit}" if unit else text


def _default(field: Schema, needed: bool) -> str:
    if needed:
        return "*needed*"
    if "default" not in field:
        return ""
    value = json.dumps(field["default"], ensure_ascii=False)
    return f"`{value}`" if len(value) <= 60 else "see there"
