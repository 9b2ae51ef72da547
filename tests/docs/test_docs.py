"""The documents speak of files, commands, messages and fields that are really there."""

from __future__ import annotations

import functools
import re
import shlex
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

import click
import pytest
import typer
import yaml
from pydantic import BaseModel

from consortium.cli import build
from consortium.settings import StackSettings
from consortium.spec import Consortium, Party
from coordinator.bundle import JobFile
from docsite import reference

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")]
)
EXAMPLES = [ROOT / "consortium.yaml", *sorted((ROOT / "parties").glob("*.yaml")), *sorted(ROOT.glob("stacks/*.yaml"))]
TEXTS = {path.relative_to(ROOT).as_posix(): path.read_text("utf-8") for path in DOCUMENTS}

_FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
_INLINE = re.compile(r"`([^`\n]+)`")


def links() -> Iterator[tuple[str, str]]:
    """(document, target) of every link that leads into the repository."""
    for name, text in TEXTS.items():
        for target in _LINK.findall(_FENCE.sub("", text)):
            path = target.partition("#")[0]
            if path and not re.match(r"[a-z]+:", path):
                yield name, path


def commands() -> Iterator[tuple[str, str]]:
    """(document, command) for `consortium …` in blocks of sh, and in running text where it has a sub-command."""
    for name, text in TEXTS.items():
        for language, block in _FENCE.findall(text):
            if language == "sh":
                for line in block.replace("\\\n", " ").splitlines():
                    yield from ((name, part) for part in _calls(line))
        for span in _INLINE.findall(_FENCE.sub("", text)):
            for part in _calls(span):
                yield name, part


def _calls(line: str) -> Iterator[str]:
    """Every call of consortium in a line of shell: comments off, at each end of a simple command."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    lexer.commenters = "#"
    words: list[str] = []
    for word in [*_words(lexer), ";"]:
        if set(word) <= set("&|;()<>"):
            if words[:1] == ["consortium"] and len(words) > 1:
                yield shlex.join(words)
            words = []
        else:
            words.append(word)


def _words(lexer: shlex.shlex) -> list[str]:
    try:
        return list(lexer)
    except ValueError:  # an apostrophe in running text is no shell
        return []


@functools.cache
def command_line() -> Any:
    """The whole command, made once: it takes a second on a busy machine."""
    return typer.main.get_command(build())


def refusal(command: str) -> str:
    """Why the command line does not take this command; empty when it does. Nothing is run."""
    here: Any = command_line()
    words = shlex.split(command)[1:]
    context = click.Context(here, info_name="consortium")
    while True:
        try:
            _, words, _ = here.make_parser(context).parse_args([w for w in words if w != "…"])
        except Exception as error:  # typer may bring a click of its own: its errors are not click.ClickException
            return f"{context.command_path}: {getattr(error, 'message', error)}"
        if not hasattr(here, "commands"):
            return f"{context.command_path}: too many arguments: {words}" if words else ""
        if not words:
            return ""
        if words[0] not in here.commands:
            return f"{context.command_path}: no command {words[0]!r}; there are {sorted(here.commands)}"
        here, context = here.commands[words[0]], click.Context(here.commands[words[0]], context, info_name=words[0])
        words = words[1:]


def models(kind: Any) -> Iterator[type[BaseModel]]:
    """The models in a type annotation, with those of their fields."""
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield kind
        for field in kind.model_fields.values():
            yield from models(field.annotation)
    elif get_origin(kind) in (Union, types.UnionType, tuple, list, dict) or get_args(kind):
        for part in get_args(kind):
            if not isinstance(part, str):
                yield from models(part)


def fields() -> list[tuple[str, str]]:
    """(model, field) of everything an operator can write into a document."""
    found = {
        (model.__name__, field.alias or name)
        for document in (Consortium, Party, StackSettings)
        for model in models(document)
        for name, field in model.model_fields.items()
    }
    return sorted(found)


def keys(value: Any) -> Iterator[str]:
    """Every key of a document, however deep."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield str(key)
            yield from keys(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from keys(inner)


@functools.cache
def shown_fields() -> set[str]:
    """Keys of the example documents and of yaml blocks, and words that stand alone in code marks."""
    found = {key for path in EXAMPLES for key in keys(yaml.safe_load(path.read_text("utf-8")))}
    for text in TEXTS.values():
        found |= {key for language, block in _FENCE.findall(text) if language == "yaml" for key in _block_keys(block)}
        found |= set(re.findall(r"`(?:[a-z_]+\.)*([a-z_]+)`", text))
    return found


def _block_keys(block: str) -> Iterator[str]:
    for document in yaml.safe_load_all(block):
        yield from keys(document)


def runbook_messages() -> list[str]:
    """First column of the runbook's tables of messages."""
    found: list[str] = []
    for table in re.split(r"^\| message \|.*\n\|[-| ]+\|\n", TEXTS["docs/runbook.md"], flags=re.MULTILINE)[1:]:
        for line in table.splitlines():
            if not line.startswith("|"):
                break
            found.append(line.split("`")[1])
    return found


@pytest.mark.parametrize(("document", "target"), sorted(set(links())))
def test_a_link_leads_to_a_file(document: str, target: str) -> None:
    path = ((ROOT / document).parent / target).resolve()
    assert path.is_relative_to(ROOT), f"{document}: {target} leads out of the repository"
    generated = path.is_relative_to(ROOT / "docs") and path.relative_to(ROOT / "docs").as_posix() in reference.PAGES
    assert path.exists() or generated, f"{document}: {target} is not there"


@pytest.mark.parametrize(("document", "command"), sorted(set(commands())))
def test_a_command_and_its_options_exist(document: str, command: str) -> None:
    assert refusal(command) == "", f"{document}: {command}"


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("consortium nurse", "no command 'nurse'"),
        ("consortium job approv JOB", "no command 'approv'"),
        ("consortium up --fresh", "--fresh"),
        ("consortium lint alice", "too many arguments"),
    ],
)
def test_a_command_that_does_not_exist_is_found_out(command: str, why: str) -> None:
    assert why in refusal(command)


def test_commands_are_found_in_documents() -> None:
    found = {name for name, _ in commands()}
    assert {"README.md", "docs/runbook.md", "docs/writing-a-job.md"} <= found
    assert ("docs/first-consortium.md", "consortium -w bob up --yes") in set(commands())
    assert any(name == "docs/first-consortium.md" and "job submit" in command for name, command in commands())


@pytest.mark.parametrize(("model", "field"), fields())
def test_a_field_is_shown_somewhere(model: str, field: str) -> None:
    assert field in shown_fields(), f"{model}.{field} is in no document and no example"


@pytest.mark.parametrize("field", sorted(JobFile.model_fields))
def test_a_field_of_a_job_is_described(field: str) -> None:
    assert re.search(rf"^\| `{field}` \|", TEXTS["docs/writing-a-job.md"], re.MULTILINE)


def test_no_field_of_a_job_is_invented() -> None:
    section = TEXTS["docs/writing-a-job.md"].split("## job.yaml")[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == set(JobFile.model_fields)


@pytest.mark.parametrize("message", runbook_messages())
def test_a_message_of_the_runbook_is_in_the_source(message: str) -> None:
    """`…` stands for what varies; the parts between must stand in one file, in this order."""
    parts = [re.escape(part.strip()) for part in message.split("…") if part.strip()]
    wanted = re.compile(".{0,300}?".join(parts), re.DOTALL)
    sources = [*(ROOT / "consortium").rglob("*.py"), *(ROOT / "coordinator").rglob("*.py")]
    assert any(wanted.search(path.read_text("utf-8")) for path in sources)


def test_the_runbook_has_messages() -> None:
    assert len(runbook_messages()) > 30


@pytest.mark.parametrize(
    "target",
    sorted({t for text in TEXTS.values() for t in re.findall(r"(?m)^make (\w[\w-]*)|`make (\w[\w-]*)`", text)}),
)
def test_a_make_target_exists(target: tuple[str, str]) -> None:
    assert re.search(rf"^{''.join(target)}:", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
