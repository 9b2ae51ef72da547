"""Reads a workspace's documents and reports every error of every one of them at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from consortium.document import Document, Stack
from consortium.document_rules import rules
from consortium.errors import DocumentErrors, Problem
from consortium.kuscia import names as kuscia
from consortium.release import in_force
from consortium.settings import StackSettings
from consortium.spec import Consortium, Model, Party
from consortium.ssh_settings import SSH_KEY
from consortium.validation import did_you_mean, shown, validate
from consortium.yamlfile import YamlFile, dotted, read_yaml

CONSORTIUM_FILE = "consortium.yaml"
PARTIES_FOLDER = "parties"
STACKS_FOLDER = "stacks"

PUBLIC_KEYS = ("party", "settings", "gatewayCertificate")
SECRET_KEYS = ("gatewayKey", "signingKey", "caKey", "operatorToken", "gatewayToken")
BEFORE_KEY = "before"
OPTIONAL_SECRET_KEYS = ("nextCaKey", SSH_KEY, *kuscia.SECRETS, BEFORE_KEY)
"""While the CA is being replaced (`consortium rotate ca`), with `placement: ssh`, with `mode: kuscia`, and while an
upgrade goes on."""
OPTIONAL_PUBLIC_KEYS = (kuscia.CLIENT_CERTIFICATE,)
NAMESPACE = "consortium"


@dataclass
class Documents:
    """What was read; a document that is None has problems of its own."""

    consortium: Document[Consortium]
    parties: dict[str, Document[Party]] = field(default_factory=dict)
    stacks: dict[str, Stack] = field(default_factory=dict)

    def problems(self) -> list[Problem]:
        """Every problem: of each file by itself, then of the files against one another."""
        files = [
            self.consortium.file,
            *(p.file for p in self.parties.values()),
            *(s.file for s in self.stacks.values()),
        ]
        own = [problem for file in files for problem in file.problems]
        return [*own, *rules(self.consortium, self.parties, self.stacks)]


def load_model(workspace: Path, party: str, settings: Mapping[str, Any] | None = None) -> Model:
    """Everything public that `party`'s program needs. Raises DocumentErrors with all problems at once.

    `settings` is the stack's `consortium:settings`; without it the stack file is read.
    """
    documents = Documents(_consortium(workspace), _parties(workspace))
    stack = _stack(workspace, party) if settings is None else _given(party, settings)
    documents.stacks[party] = stack
    problems = documents.problems()
    agreement = documents.consortium.model
    members = agreement.members if agreement else ()
    if agreement and party not in members:
        problems.append(_not_a_member(party, members, stack))
    if agreement and party in agreement.left:
        problems.append(_has_left(party, documents.consortium.file, agreement))
    if problems or not agreement or not stack.settings:
        raise DocumentErrors(problems)
    parties = {name: document.model for name, document in documents.parties.items() if document.model}
    return Model(
        consortium=in_force(agreement),
        window=agreement.maintenance,
        parties=parties,
        party=party,
        settings=stack.settings,
        workspace=workspace.resolve(),
    )


def lint(workspace: Path) -> list[Problem]:
    """Every problem of every document in the workspace, all stack files included."""
    return read_workspace(workspace).problems()


def read_workspace(workspace: Path) -> Documents:
    """Everything there is, with whatever is wrong in it."""
    documents = Documents(_consortium(workspace), _parties(workspace))
    for path in sorted((workspace / STACKS_FOLDER).glob("Pulumi.*.yaml")):
        name = path.name.removeprefix("Pulumi.").removesuffix(".yaml")
        documents.stacks[name] = _stack(workspace, name)
    return documents


def load_consortium(workspace: Path) -> Consortium:
    """consortium.yaml alone; for commands that run before the party files are there. Raises DocumentErrors."""
    document = _consortium(workspace)
    problems = [*document.file.problems, *rules(document, None, {})]
    if problems or not document.model:
        raise DocumentErrors(problems)
    return document.model


def load_party(workspace: Path, name: str) -> Party:
    """One party file alone. Raises DocumentErrors."""
    document = _party(workspace / PARTIES_FOLDER / f"{name}.yaml")
    if document.file.problems or not document.model:
        raise DocumentErrors(document.file.problems)
    return document.model


def stack_file(workspace: Path, party: str) -> Path:
    """Where Pulumi keeps a stack's configuration."""
    return workspace / STACKS_FOLDER / f"Pulumi.{party}.yaml"


def _consortium(workspace: Path) -> Document[Consortium]:
    file = read_yaml(workspace / CONSORTIUM_FILE, CONSORTIUM_FILE)
    model = None if file.problems else validate(Consortium, file.data, file)
    return Document(file, model)


def _parties(workspace: Path) -> dict[str, Document[Party]]:
    found = sorted((workspace / PARTIES_FOLDER).glob("*.y*ml"))
    return {path.stem: _party(path) for path in found}


def _party(path: Path) -> Document[Party]:
    name = f"{PARTIES_FOLDER}/{path.name}"
    # A link could make this program read, and quote in a message, a file its sender may not read.
    file = read_yaml(path, name, allow_links=False)
    if path.suffix != ".yaml":
        file.problems.append(Problem("party files end in .yaml", where=name, fix=f"rename it to {path.stem}.yaml"))
    return Document(file, None if file.problems else validate(Party, file.data, file))


def _stack(workspace: Path, party: str) -> Stack:
    path = stack_file(workspace, party)
    file = read_yaml(path, f"{STACKS_FOLDER}/{path.name}")
    if not path.exists():
        file.problems[:] = [
            Problem("the stack file is missing", where=file.name, fix=f"consortium join {party} --endpoint HOST:PORT")
        ]
    if file.problems:
        return Stack(file, None, "")
    config = file.data.get("config") if isinstance(file.data, dict) else None
    if not isinstance(config, dict):
        file.problems.append(Problem("`config` is missing", where=file.name, fix=f"consortium join {party}"))
        return Stack(file, None, "")
    _check_keys(config, party, file)
    loc = ("config", f"{NAMESPACE}:settings")
    settings = validate(StackSettings, config[loc[1]], file, loc) if loc[1] in config else None
    certificate = config.get(f"{NAMESPACE}:gatewayCertificate")
    absent = frozenset(key for key in OPTIONAL_SECRET_KEYS if f"{NAMESPACE}:{key}" not in config)
    return Stack(file, settings, certificate if isinstance(certificate, str) else "", loc, absent)


def _check_keys(config: dict[str, Any], party: str, file: YamlFile) -> None:
    needed = [f"{NAMESPACE}:{key}" for key in (*PUBLIC_KEYS, *SECRET_KEYS)]
    known = [*needed, *(f"{NAMESPACE}:{key}" for key in (*OPTIONAL_SECRET_KEYS, *OPTIONAL_PUBLIC_KEYS))]
    for key, value in config.items():
        loc = ("config", key)
        if key.startswith(f"{NAMESPACE}:") and key not in known:
            file.problems.append(
                Problem(
                    f"unknown key {key}",
                    where=file.where(loc),
                    allowed=", ".join(known),
                    fix=did_you_mean(key, known),
                )
            )
        if key.removeprefix(f"{NAMESPACE}:") in (*SECRET_KEYS, *OPTIONAL_SECRET_KEYS) and not (
            isinstance(value, dict) and set(value) == {"secure"}
        ):
            file.problems.append(
                Problem(
                    f"{key} stands in clear text",
                    where=file.where(loc),
                    value="(not shown)",
                    fix=f"treat it as stolen: remove the line, then consortium join {party}",
                )
            )
    for key in needed:
        if key not in config:
            file.problems.append(Problem(f"{key} is missing", where=file.name, fix=f"consortium join {party}"))
    named = config.get(f"{NAMESPACE}:party", party)
    if named != party:
        loc = ("config", f"{NAMESPACE}:party")
        file.problems.append(
            Problem("the stack is of another party", where=file.where(loc), value=shown(loc, named), allowed=party)
        )


def _given(party: str, settings: Mapping[str, Any]) -> Stack:
    file = YamlFile(f"{STACKS_FOLDER}/Pulumi.{party}.yaml")
    loc = (f"{NAMESPACE}:settings",)
    return Stack(file, validate(StackSettings, dict(settings), file, loc), "", loc)


def _has_left(party: str, file: YamlFile, agreement: Consortium) -> Problem:
    return Problem(
        "this institution has left the consortium",
        where=file.where(("left", agreement.left.index(party))),
        value=party,
        fix=f"consortium audit export FILE, then consortium down; to come back, all members take {party} off `left`",
    )


def _not_a_member(party: str, members: tuple[str, ...], stack: Stack) -> Problem:
    return Problem(
        "not a member of the consortium",
        where=stack.file.name,
        value=dotted((party,)),
        allowed=", ".join(members),
        fix=did_you_mean(party, members)
        or f"add it at the end of members in {CONSORTIUM_FILE}, with the others' consent",
    )
