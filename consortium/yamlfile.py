"""Reads YAML that strangers wrote: plain maps, lists and scalars, nothing else.

Tags, anchors, aliases, merge keys, duplicate keys, deep nesting, template markers and large files
are refused, so a party file can neither run code, nor fill the memory, nor reach a template engine
as anything but text.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from consortium.errors import Problem

MAX_BYTES = 1_000_000
MAX_DEPTH = 20
TEMPLATE_MARKERS = ("{{", "{%", "{#")

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Loc = tuple[str | int, ...]
_TAG = "tag:yaml.org,2002:"
_TEXT_TAGS = {_TAG + "str", _TAG + "timestamp", _TAG + "value"}
_PLAIN_TAGS = {_TAG + "null", _TAG + "bool", _TAG + "int", _TAG + "float"}


@dataclass
class YamlFile:
    """A parsed file: its data, where each field stands, and what is wrong with it as YAML."""

    name: str
    data: Any = None
    lines: dict[Loc, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def where(self, loc: Loc = ()) -> str:
        """`file:line: field`, with the nearest line known."""
        line = next((self.lines[loc[:n]] for n in range(len(loc), -1, -1) if loc[:n] in self.lines), 0)
        place = f"{self.name}:{line}" if line else self.name
        return f"{place}: {dotted(loc)}" if loc else place


def dotted(loc: Loc) -> str:
    """`('limits', 'ports', 0)` → `limits.ports[0]`."""
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f".{shorten(part, 60)}" if text else shorten(part, 60)
    return text


def shorten(value: object, limit: int = 80) -> str:
    """A value for a message: printable, one line, at most `limit` characters."""
    text = value if isinstance(value, str) else repr(value)
    text = "".join(char if char.isprintable() else " " for char in text[: limit * 2])
    return text if len(text) <= limit else text[: limit - 1] + "…"


def read_yaml(path: Path, name: str, *, allow_links: bool = True) -> YamlFile:
    """Read one file; never raises for what the file holds: problems are collected in the result.

    `name` stands in messages. With `allow_links=False` a symbolic link is refused.
    """
    result = YamlFile(name)
    content = _read(path, result, allow_links)
    if content is None:
        return result
    return parse_yaml(content, result)


def parse_yaml(content: bytes, result: YamlFile) -> YamlFile:
    """Parse `content` into `result`, and return it."""
    try:
        text = content.decode("utf-8")
        for mark, what, value in _forbidden(text):
            result.problems.append(
                Problem(
                    what,
                    where=f"{result.name}:{mark.line + 1}",
                    value=shorten(value),
                    fix="write plain YAML",
                )
            )
        if not result.problems:
            node = yaml.compose(text, Loader=_Loader)
            result.data = None if node is None else _construct(node, (), result)
    except UnicodeDecodeError as error:
        result.problems.append(
            Problem("not UTF-8", where=result.name, value=f"byte {error.start}", fix="save it as UTF-8")
        )
    except yaml.YAMLError as error:
        result.problems.append(_syntax(error, result.name))
    return result


def _read(path: Path, result: YamlFile, allow_links: bool) -> bytes | None:
    try:
        flags = os.O_RDONLY | os.O_NONBLOCK | (0 if allow_links else os.O_NOFOLLOW)
        with os.fdopen(os.open(path, flags), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                result.problems.append(Problem("not a regular file", where=result.name))
                return None
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        result.problems.append(Problem("the file is missing", where=result.name))
        return None
    except OSError as error:
        result.problems.append(Problem("cannot be read", where=result.name, value=error.strerror or str(error)))
        return None
    if len(content) > MAX_BYTES:
        result.problems.append(
            Problem("the file is too large", where=result.name, allowed=f"at most {MAX_BYTES} bytes")
        )
        return None
    return content


def _forbidden(text: str) -> Iterator[tuple[Any, str, str]]:
    depth = 0
    documents = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents == 2:
                yield event.start_mark, "more than one YAML document", "---"
        if isinstance(event, yaml.AliasEvent):
            yield event.start_mark, "an alias is not allowed", f"*{event.anchor}"
            continue
        if anchor := getattr(event, "anchor", None):
            yield event.start_mark, "an anchor is not allowed", f"&{anchor}"
        # The C parser gives an untagged node the tag None; a quoted scalar has none either.
        if tag := getattr(event, "tag", None):
            yield event.start_mark, "a tag is not allowed", tag
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                yield event.start_mark, f"nested more than {MAX_DEPTH} deep", ""
                return
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _construct(node: yaml.Node, loc: Loc, result: YamlFile) -> Any:
    result.lines[loc] = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, loc, result)
    if isinstance(node, yaml.SequenceNode):
        return [_construct(child, (*loc, index), result) for index, child in enumerate(node.value)]
    return _scalar(node, loc, result)


def _mapping(node: yaml.MappingNode, loc: Loc, result: YamlFile) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key_node, value_node in node.value:
        where = f"{result.name}:{key_node.start_mark.line + 1}"
        if not isinstance(key_node, yaml.ScalarNode) or key_node.tag == _TAG + "merge":
            result.problems.append(Problem("a key must be plain text", where=where, value=shorten(key_node.value)))
            continue
        key = str(key_node.value)
        if key in found:
            result.problems.append(
                Problem(f"{dotted((*loc, key))} stands twice", where=where, fix="keep one of the two")
            )
        found[key] = _construct(value_node, (*loc, key), result)
        result.lines[(*loc, key)] = key_node.start_mark.line + 1
        _refuse_markers(key, where, result)
    return found


def _scalar(node: yaml.Node, loc: Loc, result: YamlFile) -> Any:
    text = str(node.value)
    if node.tag in _PLAIN_TAGS:
        try:
            value = yaml.safe_load(text)
        except ValueError:  # for example an integer of 5000 digits
            return text
        # No field takes a number so large; Python refuses to print one of more than 4300 digits.
        return text if isinstance(value, int) and value.bit_length() > 64 else value
    if node.tag not in _TEXT_TAGS:
        result.problems.append(Problem("not plain YAML", where=result.where(loc), value=shorten(text)))
        return None
    _refuse_markers(text, result.where(loc), result)
    return text


def _refuse_markers(text: str, where: str, result: YamlFile) -> None:
    for marker in TEMPLATE_MARKERS:
        if marker in text:
            result.problems.append(
                Problem(
                    f"template markers ({marker}) are not allowed in any text",
                    where=where,
                    value=shorten(text),
                    fix="write the value itself",
                )
            )
            return


def _syntax(error: yaml.YAMLError, name: str) -> Problem:
    mark = getattr(error, "problem_mark", None)
    what = getattr(error, "problem", None) or getattr(error, "reason", None) or "cannot be parsed"
    where = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
    return Problem(f"not valid YAML: {shorten(what)}", where=where, fix="mend the syntax at this place")
