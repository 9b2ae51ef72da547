"""The reference says all that the code knows: every field, command, role option and route, each with its meaning."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import typer
import yaml
from pydantic import BaseModel
from test_docs import models

from consortium.cli import build
from docsite import commands, documents, reference, schema

ROOT = Path(__file__).parents[2]
MODELS = list(
    dict.fromkeys(model for _, (_, document, _) in sorted(documents.DOCUMENTS.items()) for model in models(document))
)
COMMANDS = list(commands.commands(typer.main.get_command(build()), ("consortium",)))


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return {page.removeprefix("reference/").removesuffix(".md"): make() for page, make in reference.PAGES.items()}


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_every_field_of_a_document_says_what_it_means(model: type[BaseModel]) -> None:
    assert [name for name, field in model.model_fields.items() if not field.description] == []
    assert model.__doc__


@pytest.mark.parametrize("name", documents.DOCUMENTS)
def test_every_field_of_a_document_is_in_its_page(pages: dict[str, str], name: str) -> None:
    rows = [line for line in pages[name].splitlines() if line.startswith("| `")]
    fields = [
        field.alias or key
        for model in models(documents.DOCUMENTS[name][1])
        for key, field in model.model_fields.items()
    ]
    assert set(fields) == {row.split("`")[1] for row in rows}
    assert [row for row in rows if not row.rstrip("| ").rpartition("|")[2].strip()] == []


@pytest.mark.parametrize(("words", "command"), COMMANDS, ids=lambda part: " ".join(part) if type(part) is tuple else "")
def test_every_command_is_there_with_its_options(
    pages: dict[str, str], words: tuple[str, ...], command: object
) -> None:
    text = re.split(rf"^###? {' '.join(words)}$", pages["command"], flags=re.MULTILINE)[1].split("\n##")[0]
    for parameter in getattr(command, "params", ()):
        if parameter.param_type_name == "option" and parameter.name != "help":
            assert f"`{parameter.opts[0]}`" in text


def test_every_command_and_option_says_what_it_does() -> None:
    silent = [
        f"{' '.join(words)} {parameter.name}"
        for words, command in COMMANDS
        for parameter in command.params
        if not parameter.help
    ]
    assert silent == []
    assert [words for words, command in COMMANDS if not command.help] == []


def test_every_option_of_a_role_is_there(pages: dict[str, str]) -> None:
    for file in sorted(ROOT.glob("roles/*/meta/argument_specs.yml")):
        for entry, spec in yaml.safe_load(file.read_text("utf-8"))["argument_specs"].items():
            assert f"### {file.parents[1].name}: {entry}\n" in pages["roles"]
            assert all(f"| `{name}` |" in pages["roles"] for name in spec.get("options", {}))


@pytest.mark.parametrize("which", ["operator", "peer"])
def test_every_route_is_there(pages: dict[str, str], which: str) -> None:
    document = json.loads((ROOT / "docs" / "openapi" / f"{which}.json").read_text("utf-8"))
    text = pages[f"{which}-api"].replace("&#123;", "{")
    for path, methods in document["paths"].items():
        assert all(f"## {method.upper()} {path}\n" in text for method in methods)
    for name, found in document["components"]["schemas"].items():
        if "properties" in found and name in set(schema.references(document["paths"])):
            assert f"### {name}\n" in text


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({"type": "integer", "minimum": 1, "maximum": 9}, "integer, 1 to 9"),
        ({"type": "number", "exclusiveMinimum": 0}, "number, above 0"),
        ({"anyOf": [{"type": "string", "maxLength": 5}, {"type": "null"}]}, r"text, at most 5 characters \| null"),
        ({"type": "array", "items": {"$ref": "#/$defs/Peer"}}, "list of [Peer](#peer)"),
        ({"type": "object", "patternProperties": {"^a": {"type": "boolean"}}}, r"name → true \| false"),
        ({"enum": ["a", "b"]}, r"`a` \| `b`"),
        ({}, "anything"),
    ],
)
def test_a_type_in_words(found: dict[str, object], expected: str) -> None:
    assert schema.kind(found) == expected
