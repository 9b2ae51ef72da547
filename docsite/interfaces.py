"""The reference of the coordinator's two HTTP interfaces, made from their OpenAPI documents."""

from __future__ import annotations

import json
from typing import Any

from docsite import schema
from docsite.links import ROOT


def page(which: str, introduction: str) -> str:
    """`operator` or `peer`: every route, and the objects it takes and gives."""
    document = json.loads((ROOT / "docs" / "openapi" / f"{which}.json").read_text("utf-8"))
    definitions = document["components"]["schemas"]
    parts = [f"# Interface: {which}", introduction, schema.cell(document["info"].get("description", ""))]
    for path, methods in document["paths"].items():
        for method, route in methods.items():
            parts += [f"## {method.upper()} {path}".replace("{", "&#123;"), schema.cell(route.get("description", ""))]
            parts += [_parameters(route), _body(route), _responses(route)]
    parts.append("## Objects")
    for name in schema.objects(definitions, document["paths"]):
        parts += [f"### {name}", schema.definition(definitions[name], definitions)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _parameters(route: dict[str, Any]) -> str:
    rows = [
        f"| `{p['name']}` | {p['in']} | {schema.kind(p['schema'])} | {'*needed*' if p.get('required') else ''} |"
        for p in route.get("parameters", ())
    ]
    return "\n".join(["| parameter | in | type | |", "|---|---|---|---|", *rows]) if rows else ""


def _body(route: dict[str, Any]) -> str:
    contents = route.get("requestBody", {}).get("content", {})
    return "; ".join(f"Takes {_content(media, content)}" for media, content in contents.items())


def _responses(route: dict[str, Any]) -> str:
    rows = [
        f"| {status} | {schema.cell(answer.get('description', ''))} | {_answer(answer)} |"
        for status, answer in route["responses"].items()
    ]
    return "\n".join(["| answer | meaning | body |", "|---|---|---|", *rows])


def _answer(answer: dict[str, Any]) -> str:
    return "; ".join(_content(media, content) for media, content in answer.get("content", {}).items())


def _content(media: str, content: dict[str, Any]) -> str:
    form = content.get("schema", {})
    return f"`{media}`: {schema.kind(form)}" if form else f"`{media}`"
