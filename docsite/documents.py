"""The reference of the documents an operator or an author of jobs writes, made from their models."""

from __future__ import annotations

from pydantic import BaseModel

from consortium.gitops.settings import GitOps
from consortium.settings import StackSettings
from consortium.spec import Consortium, Party
from coordinator.bundle import JobFile
from docsite import schema

DOCUMENTS: dict[str, tuple[str, type[BaseModel], str]] = {
    "consortium-yaml": ("consortium.yaml", Consortium, "The same at every party: what all agreed on."),
    "party-file": ("parties/&lt;party&gt;.yaml", Party, "Public, and written by its party alone: `consortium join`."),
    "stack-settings": (
        "Stack settings",
        StackSettings,
        "`consortium:settings` of `stacks/Pulumi.<party>.yaml`: what one institution decides alone. Secrets stand"
        " beside it, encrypted.",
    ),
    "job-yaml": ("job.yaml", JobFile, "In the folder of a job; [writing a job](../writing-a-job.md) says how."),
    "gitops-yaml": (
        "gitops.yaml",
        GitOps,
        "For an institution that is run from a git repository: [GitOps](../gitops.md).",
    ),
}
"""Page → title, model, and a sentence."""


def page(name: str) -> str:
    """One document: its fields, and the objects within it. Every document refuses unknown fields."""
    title, model, sentence = DOCUMENTS[name]
    top = model.model_json_schema(by_alias=True)
    definitions = top.get("$defs", {})
    parts = [f"# {title}", sentence, "A field that is not listed here is an error.", schema.table(top, definitions)]
    for found in schema.objects(definitions, top["properties"]):
        parts += [f"## {found}", schema.definition(definitions[found], definitions)]
    return "\n\n".join(parts) + "\n"
