"""gitops.yaml: how this repository's pipelines are made, and which policy checks do not count here, with the reason."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from consortium.errors import DocumentErrors
from consortium.settings import Name
from consortium.stackfile import dump
from consortium.validation import validate
from consortium.yamlfile import YamlFile, read_yaml

GITOPS_FILE = "gitops.yaml"

Forge = Literal["github", "gitlab"]
Branch = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,99}$")]
Label = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Owner = Annotated[str, StringConstraints(pattern=r"^@[A-Za-z0-9][A-Za-z0-9._/-]{0,200}$")]
"""A user or a team of the forge, as CODEOWNERS has it: `@bank/consortium`."""
Cron = Annotated[str, StringConstraints(pattern=r"^[0-9*/,-]+( [0-9*/,-]+){4}$")]
Reason = Annotated[str, StringConstraints(min_length=10, max_length=500, pattern=r"^[^\x00-\x1f\x7f]+$")]


class GitOps(BaseModel):
    """gitops.yaml. Every field may be left out."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    forge: Forge | None = None
    """Where the repository is; `consortium gitops init` needs it."""
    branch: Branch = "main"
    """What is merged here is brought up."""
    runner: Annotated[tuple[Label, ...], Field(min_length=1, max_length=10)] = ("self-hosted", "consortium")
    """Labels (GitHub) or tags (GitLab) of the institution's own runner, on the machine of its operator."""
    drift: Cron = "17 5 * * *"
    """When drift is looked for, in UTC, as cron has it. GitLab keeps schedules outside of files."""
    operators: Owner | None = None
    """Who must agree to changes of everything but party files."""
    owners: dict[Name, Owner] = {}
    """Party → who must agree to changes of its party file: that party's own people."""
    exceptions: dict[str, Reason] = {}
    """Check of `consortium lint --strict` → why it does not count here."""


HEADER = """\
# How this repository's pipelines are made: consortium gitops init (docs/gitops.md). What is left out has its default.
"""


def updated(workspace: Path, wishes: Mapping[str, Any]) -> tuple[GitOps, str]:
    """gitops.yaml with `wishes` put in, as a model and as text; owners are added to those that are there.

    A file that says so already keeps its text, comments included. Nothing is written. Raises DocumentErrors.
    """
    settings, file = load_gitops(workspace)
    old: dict[str, Any] = settings.model_dump(mode="json", exclude_unset=True)
    new = {**old, **wishes}
    if "owners" in wishes:
        new["owners"] = {**old.get("owners", {}), **wishes["owners"]}
    if new == old and file.data is not None:
        return settings, (workspace / GITOPS_FILE).read_text("utf-8")
    made = validate(GitOps, new, file)
    if made is None:
        raise DocumentErrors(file.problems)
    return made, HEADER + dump(new)


def load_gitops(workspace: Path) -> tuple[GitOps, YamlFile]:
    """The settings, all default where there is no file, and the file. Raises DocumentErrors."""
    path = workspace / GITOPS_FILE
    if not path.exists():
        return GitOps(), YamlFile(GITOPS_FILE)
    file = read_yaml(path, GITOPS_FILE)
    settings = None if file.problems else validate(GitOps, file.data, file)
    if settings is None:
        raise DocumentErrors(file.problems)
    return settings, file
