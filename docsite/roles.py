"""The reference of the Ansible roles, made from their argument_specs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

from docsite.links import ROOT
from docsite.schema import cell


def page() -> str:
    """Every role with its entry points and their options."""
    parts = ["# Roles", "What stands on a node, and how it gets there. [How to edit them](../../roles/README.md)."]
    for file in sorted((ROOT / "roles").glob("*/meta/argument_specs.yml")):
        parts.append(f"## {file.parents[1].name}")
        for entry, spec in yaml.safe_load(file.read_text("utf-8"))["argument_specs"].items():
            parts += [f"### {file.parents[1].name}: {entry}", spec.get("short_description", "")]
            parts += _paragraphs(spec.get("description", ""))
            if spec.get("options"):
                rows = [_row(name, option) for name, option in _flat(spec["options"])]
                parts.append("\n".join(["| option | type | default | meaning |", "|---|---|---|---|", *rows]))
    return "\n\n".join(part for part in parts if part) + "\n"


def _paragraphs(text: str | list[str]) -> list[str]:
    return [cell(part) for part in ([text] if isinstance(text, str) else text)]


def _flat(options: dict[str, Any], before: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    for name, option in options.items():
        yield before + name, option
        yield from _flat(option.get("options", {}), f"{before}{name}.")


def _row(name: str, option: dict[str, Any]) -> str:
    form = option.get("type", "str") + (f" of {option['elements']}" if "elements" in option else "")
    if "choices" in option:
        form += ": " + " \\| ".join(f"`{choice}`" for choice in option["choices"])
    default = "*needed*" if option.get("required") else f"`{option['default']}`" if "default" in option else ""
    return f"| `{name}` | {form} | {cell(default)} | {' '.join(_paragraphs(option.get('description', '')))} |"
