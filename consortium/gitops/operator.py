"""A Stack manifest for the Pulumi Kubernetes Operator, after all that would keep it from working was looked for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from consortium.documents import load_model
from consortium.errors import DocumentErrors, Problem
from consortium.gitops.pipelines import operator_manifest

_IMAGE = re.compile(r"[a-z0-9][^\s@]*@sha256:[0-9a-f]{64}")
_NAMESPACE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


@dataclass(frozen=True)
class StackWishes:
    """What the manifest must be told."""

    repo: str
    backend: str
    image: str
    namespace: str
    stack: str
    resync_s: int
    branch: str


def manifest(workspace: Path, party: str, wishes: StackWishes) -> str:
    """The YAML. Raises DocumentErrors naming everything that a pod could not do."""
    model = load_model(workspace, party)
    problems = list(_problems(party, model.settings.engine, wishes))
    if problems:
        raise DocumentErrors(problems)
    name = f"{model.consortium.name}-{party}"
    return operator_manifest({**asdict(wishes), "party": party, "name": name})


def _problems(party: str, engine: str, wishes: StackWishes) -> Iterator[Problem]:
    if engine.startswith("unix:"):
        yield Problem(
            "a pod does not reach this machine's engine",
            where=f"stacks/Pulumi.{party}.yaml: consortium:settings.engine",
            value=engine,
            allowed="ssh://, https://",
            fix="engine: ssh://USER@HOST",
        )
    if wishes.backend.startswith("file:"):
        yield Problem(
            "a pod does not have this machine's state, and loses its own",
            where="--backend",
            value=wishes.backend,
            allowed="s3://, azblob://, gs://, https://",
            fix="pulumi stack export and import move a stack (docs/gitops.md)",
        )
    if not wishes.repo.startswith("https://"):
        yield Problem("the token would travel in clear", where="--repo", value=wishes.repo, allowed="https://")
    if not _IMAGE.fullmatch(wishes.image):
        yield Problem("a tag can be moved", where="--image", value=wishes.image, allowed="NAME@sha256:DIGEST")
    if not _NAMESPACE.fullmatch(wishes.namespace):
        yield Problem("not a name of a namespace", where="--namespace", value=wishes.namespace)
