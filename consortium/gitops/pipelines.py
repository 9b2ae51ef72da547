"""The files that `consortium gitops init` writes: rendered from gitops.yaml, kept when a person has edited them."""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from consortium import files
from consortium.errors import DocumentErrors, Problem
from consortium.folders import PACKAGE
from consortium.gitops.repository_checks import CODE_OWNERS
from consortium.gitops.settings import GITOPS_FILE, GitOps
from consortium.render import render

TEMPLATES = PACKAGE / "gitops" / "pipelines"
MARKERS = ("<<", "<%")
"""Pipelines of GitHub use Jinja's own markers."""
CHECKOUT, CHECKOUT_VERSION = "actions/checkout@3d3c42e5aac5ba805825da76410c181273ba90b1", "v7.0.1"
"""The only action of anybody else."""

_FILES = {
    "github": (".github/workflows/consortium.yml", ".github/workflows/consortium-drift.yml"),
    "gitlab": (".gitlab-ci.yml", ".gitlab/consortium.yml"),
}
_HEAD = re.compile(r"# Made by `consortium gitops init` from gitops\.yaml\. As made: sha256 ([0-9a-f]{64})\n")

State = Literal["made", "unchanged", "updated", "kept", "replaced"]


@dataclass(frozen=True)
class Outcome:
    """What became of one file; `diff` is what --force would change in one that was kept, or what it changed."""

    state: State
    diff: str = ""


def wanted(settings: GitOps, members: Sequence[str], stacks: Sequence[str]) -> dict[str, str]:
    """Path → text of every file. Pure. Raises DocumentErrors where gitops.yaml does not say enough.

    Without stacks here (a repository that holds only what is agreed) there is nothing to bring up.
    """
    problems = list(_missing(settings, members))
    if problems or settings.forge is None:
        raise DocumentErrors(problems)
    variables = {
        **settings.model_dump(mode="json"),
        "parties": list(stacks),
        "checkout": CHECKOUT,
        "checkout_version": CHECKOUT_VERSION,
        "owners": [(member, settings.owners[member]) for member in members],
    }
    names = [name for name in _FILES[settings.forge] if stacks or "drift" not in name]
    templates = {**{name: name for name in names}, CODE_OWNERS[settings.forge]: "CODEOWNERS"}
    return {path: _headed(_render(template, variables)) for path, template in templates.items()}


def lay(workspace: Path, texts: Mapping[str, str], *, force: bool) -> dict[str, Outcome]:
    """Write the files. One that a person has edited is kept unless `force`."""
    return {name: _put(workspace / name, text, force) for name, text in texts.items()}


def write_settings(path: Path, text: str) -> Outcome:
    """gitops.yaml is the operator's own file: what was asked for is put into it, and nothing else changes it."""
    if not path.exists():
        files.write(path, text)
        return Outcome("made")
    return Outcome("updated" if files.write(path, text) else "unchanged")


def operator_manifest(variables: Mapping[str, object]) -> str:
    """A Stack of the Pulumi Kubernetes Operator."""
    return _render("operator/stack.yaml", variables)


def _missing(settings: GitOps, members: Sequence[str]) -> list[Problem]:
    found = []
    if settings.forge is None:
        found.append(Problem("where is the repository?", where=f"{GITOPS_FILE}: forge", fix="--github or --gitlab"))
    if settings.operators is None:
        what = "who must agree to changes of everything but party files?"
        found.append(Problem(what, where=f"{GITOPS_FILE}: operators", fix="--operators @ORGANISATION/TEAM"))
    for member in members:
        if member not in settings.owners:
            what = f"who must agree to changes of parties/{member}.yaml?"
            found.append(Problem(what, where=f"{GITOPS_FILE}: owners", fix=f"--owner {member}=@ORGANISATION/TEAM"))
    return found


def _put(path: Path, text: str, force: bool) -> Outcome:
    if not path.exists():
        files.write(path, text)
        return Outcome("made")
    old = files.read(path)
    if old == text:
        return Outcome("unchanged")
    if _as_made(old):
        files.write(path, text)
        return Outcome("updated")
    diff = "".join(difflib.unified_diff(old.splitlines(True), text.splitlines(True), f"{path.name} here", path.name))
    if not force:
        return Outcome("kept", diff)
    files.write(path, text)
    return Outcome("replaced", diff)


def _headed(text: str) -> str:
    digest = hashlib.sha256(text.encode()).hexdigest()
    return f"# Made by `consortium gitops init` from gitops.yaml. As made: sha256 {digest}\n{text}"


def _as_made(text: str) -> bool:
    """Whether nobody has edited it since an earlier `gitops init`."""
    head = _HEAD.match(text)
    return head is not None and hashlib.sha256(text[head.end() :].encode()).hexdigest() == head[1]


def _render(name: str, variables: Mapping[str, object]) -> str:
    return render(f"{name}.j2", variables, root=TEMPLATES, markers=MARKERS)
