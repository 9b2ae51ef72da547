"""Turns what pydantic says about a document into problems a person can act on."""

from __future__ import annotations

import difflib
import json
import re
import types
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from consortium.errors import Problem
from consortium.yamlfile import Loc, YamlFile, dotted, shorten

M = TypeVar("M", bound=BaseModel)

_SECRET = re.compile(r"(?i)(key|token|secret|passw)")
_PUBLIC = ("signing_key", "host_keys")
_BOUNDS = {
    "greater_than": ("> {gt}"),
    "greater_than_equal": "≥ {ge}",
    "less_than": "< {lt}",
    "less_than_equal": "≤ {le}",
    "too_short": "at least {min_length} entries",
    "too_long": "at most {max_length} entries",
    "string_too_short": "at least {min_length} characters",
    "string_too_long": "at most {max_length} characters",
    "literal_error": "{expected}",
    "string_pattern_mismatch": "text of the form {pattern}",
}
_DNS_LABEL = "lower-case letters, digits and -, beginning with a letter, at most 32 characters"
_FORMS = {r"^[a-z]([a-z0-9-]{0,30}[a-z0-9])?$": _DNS_LABEL}


def validate(model: type[M], data: Any, file: YamlFile, loc: Loc = ()) -> M | None:
    """`data`, found at `loc` of `file`, as a model; None after adding every problem to the file's list.

    Strict: `yes` is no number, `3.11` is no text. Nothing is guessed.
    """
    if not isinstance(data, dict):
        file.problems.append(Problem(_not_a_map(data), where=file.where(loc), allowed=_names(_fields(model))))
        return None
    try:
        # JSON is the mode in which pydantic is strict about scalars and takes a list for a tuple.
        return model.model_validate_json(json.dumps(data), strict=True)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            file.problems.append(_problem(detail, model, file, loc))
        return None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A fix for a misspelt word; empty if nothing is near."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"did you mean {near[0]}?" if near else ""


def shown(loc: Loc, value: object) -> str:
    """A value for a message; a secret, or what may hold one, is not shown."""
    if isinstance(value, dict):
        return "a map"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    name = next((str(part) for part in reversed(loc) if isinstance(part, str)), "")
    if "PRIVATE KEY" in str(value) or (_SECRET.search(name) and name not in _PUBLIC):
        return "(not shown)"
    return shorten(value)


def _problem(detail: ErrorDetails, model: type[BaseModel], file: YamlFile, prefix: Loc) -> Problem:
    kind, context = detail["type"], detail.get("ctx", {})
    loc = detail["loc"]
    of_key = bool(loc) and loc[-1] == "[key]"
    loc = loc[:-1] if of_key else loc
    where = file.where((*prefix, *loc))
    if kind == "extra_forbidden":
        known = _fields(_model_at(model, loc[:-1]))
        return Problem(
            f"unknown field {shorten(loc[-1])}",
            where=where,
            allowed=_names(known),
            fix=did_you_mean(str(loc[-1]), known),
        )
    if kind == "missing":
        return Problem(f"{dotted(loc)} is missing", where=where, fix="add it")
    return Problem(
        "this name is not allowed" if of_key else _sentence(detail),
        where=where,
        value="" if kind == "value_error" and not loc else shown(loc, loc[-1] if of_key else detail["input"]),
        allowed=_allowed(kind, context),
        fix=_fix(detail),
    )


def _sentence(detail: ErrorDetails) -> str:
    message = detail["msg"].removeprefix("Value error, ")
    if detail["type"] in _BOUNDS:
        return "not an allowed value"
    return message[:1].lower() + message[1:]


def _allowed(kind: str, context: dict[str, Any]) -> str:
    pattern = str(context.get("pattern", ""))
    if pattern in _FORMS:
        return _FORMS[pattern]
    return _BOUNDS[kind].format(**context) if kind in _BOUNDS else ""


def _fix(detail: ErrorDetails) -> str:
    value = detail["input"]
    if detail["type"] == "string_type" and isinstance(value, int | float):
        return f'put it in quotes: "{shorten(value, 40)}"'
    if detail["type"] == "literal_error" and isinstance(value, str):
        return did_you_mean(value, re.findall(r"'([^']*)'", str(detail.get("ctx", {}).get("expected"))))
    return ""


def _not_a_map(data: Any) -> str:
    return "empty" if data is None else "must be a map of fields"


def _names(known: Iterable[str]) -> str:
    return ", ".join(known)


def _fields(model: type[BaseModel] | None) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()] if model else []


def _model_at(model: type[BaseModel], loc: Loc) -> type[BaseModel] | None:
    """The model whose fields stand at `loc`."""
    current: Any = model
    for part in loc:
        candidates = list(_models_in(current))
        holder = next((m for m in candidates if part in m.model_fields), None)
        current = holder.model_fields[str(part)].annotation if holder else current
    return next(_models_in(current), None)


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models inside an annotation such as `dict[Name, Dataset]` or `X | None`."""
    if isinstance(annotation, type) and not get_args(annotation):
        if issubclass(annotation, BaseModel):
            yield annotation
    elif get_origin(annotation) is Annotated:
        yield from _models_in(get_args(annotation)[0])
    elif get_origin(annotation) in (dict, tuple, list, Union, types.UnionType):
        for argument in get_args(annotation):
            yield from _models_in(argument)
