"""The only Jinja environment. Templates are ours, from templates/; what they are filled with may be strangers' text.

A value that is not plainly harmless (a name, a number, an address, a path) must pass through `to_json` or `yaml`,
else rendering fails: no party can break out of a quoted string in a configuration file. Text from outside is never
itself a template. A variable that is missing is an error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from consortium.errors import ConsortiumError
from consortium.folders import INSTALLATION

TEMPLATES = INSTALLATION / "templates"

_TO_ESCAPE = re.compile(r"[\u007f-\uffff]")
_MIRRORED = str.maketrans("{<[", "}>]")
_HARMLESS = re.compile(r"[A-Za-z0-9._:/@,=+\[\]-]*")


class TemplateFailed(ConsortiumError):
    """A template cannot be rendered with these variables."""


Markers = tuple[str, str]
"""What stands around a value, and what around a statement: the first halves."""


def render(
    template: str, variables: Mapping[str, Any], *, root: Path = TEMPLATES, markers: Markers = ("{{", "{%")
) -> str:
    """The text of `template` (a path below `root`, suffix .j2) with `variables`. Raises TemplateFailed."""
    try:
        return environment(root, markers).get_template(template).render(dict(variables))
    except jinja2.TemplateSyntaxError as error:
        where = f"{error.name or template}:{error.lineno}"
        raise TemplateFailed(error.message or "syntax error", where=where) from error
    except jinja2.TemplateNotFound as error:
        raise TemplateFailed("no such template", where=str(root), value=str(error)) from error
    except (jinja2.TemplateError, TypeError, ValueError) as error:
        raise TemplateFailed(str(error), where=template, fix="mend the template, or pass the variable") from error


@lru_cache
def environment(root: Path, markers: Markers = ("{{", "{%")) -> jinja2.Environment:
    """The environment for the templates below `root`."""
    value, statement = markers
    made = jinja2.Environment(
        variable_start_string=value,
        variable_end_string=value.translate(_MIRRORED)[::-1],
        block_start_string=statement,
        block_end_string=statement.translate(_MIRRORED)[::-1],
        loader=jinja2.FileSystemLoader(root),
        undefined=jinja2.StrictUndefined,
        # No HTML is made here: it marks what filters and macros return, so that `finalize` can tell it from values.
        autoescape=True,
        finalize=_refuse_unquoted,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters = {**made.filters, "to_json": to_json, "yaml": to_yaml, "as_is": Markup}
    return made


def to_json(value: Any, indent: int | None = None) -> Markup:
    """`value` as JSON that is YAML too: every text is in double quotes, so none is read as anything else."""
    text = json.dumps(value, indent=indent, sort_keys=True, allow_nan=False, ensure_ascii=False)
    # JSON escapes a character above U+FFFF as two, which YAML reads as two broken ones: those stay as they are.
    return Markup(_TO_ESCAPE.sub(lambda found: f"\\u{ord(found[0]):04x}", text))  # noqa: S704 JSON is quoted


def to_yaml(value: Any) -> Markup:
    """`value` as one line of YAML (flow style), every text in double quotes."""
    return to_json(value)


def _refuse_unquoted(value: Any) -> Any:
    if isinstance(value, Markup | jinja2.Undefined):
        return value  # an undefined one raises by itself
    if isinstance(value, bool) or value is None:
        raise TypeError(f"{value} has no one spelling: use `| to_json`, or an if")
    if isinstance(value, int | float) or (isinstance(value, str) and _HARMLESS.fullmatch(value)):
        return value
    raise TypeError(f"{json.dumps(value, default=repr)[:80]} is not plain: use `| to_json` or `| yaml`")
