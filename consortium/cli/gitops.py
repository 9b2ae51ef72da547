"""`consortium gitops init|comment|issue|operator`: an institution run from a git repository."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from consortium.cli._common import JsonOption, PartyOption, WorkspaceOption, emit, open_workspace, out, say
from consortium.errors import UsageError

if TYPE_CHECKING:
    from consortium.gitops.pipelines import Outcome

NameArgument = Annotated[str, typer.Argument(help="By which it is found again: one comment or open issue for a name.")]
FileArgument = Annotated[Path, typer.Argument(help="The text, in Markdown; - is standard input.", allow_dash=True)]


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(help="An institution run from a git repository.", no_args_is_help=True)
    for command in (init, comment, issue, operator):
        group.command()(command)
    app.add_typer(group, name="gitops")


def init(
    github: Annotated[bool, typer.Option("--github", help="Pipelines for GitHub Actions.")] = False,
    gitlab: Annotated[bool, typer.Option("--gitlab", help="Pipelines for GitLab CI.")] = False,
    owner: Annotated[
        list[str] | None,
        typer.Option(metavar="PARTY=@OWNER", help="Who must agree to changes of a party file; once for each member."),
    ] = None,
    operators: Annotated[
        str | None, typer.Option(metavar="@OWNER", help="Who must agree to changes of everything else.")
    ] = None,
    branch: Annotated[str | None, typer.Option(help="What is merged here is brought up. Default: main.")] = None,
    runner: Annotated[
        list[str] | None, typer.Option(help="Label or tag of the own runner; repeat. Default: self-hosted, consortium.")
    ] = None,
    drift: Annotated[str | None, typer.Option(help="When drift is looked for, as cron has it, in UTC.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that were edited.")] = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the pipelines and CODEOWNERS of this repository.

    What is given is remembered in gitops.yaml. May be run again: nothing changes then; an edited file is kept, and
    the difference is shown, unless --force is given.

    Example: `consortium gitops init --github --operators @bank/ops --owner bank=@bank/ops --owner registry=@reg/it`
    """
    from consortium.documents import load_consortium
    from consortium.gitops import pipelines
    from consortium.gitops.settings import GITOPS_FILE, updated

    if github and gitlab:
        raise UsageError("one excludes the other", where="--github, --gitlab")
    place = open_workspace(workspace)
    wishes = {
        "forge": "github" if github else "gitlab" if gitlab else None,
        "operators": operators,
        "branch": branch,
        "runner": runner or None,
        "drift": drift,
        "owners": dict(_owner(text) for text in owner or []) or None,
    }
    settings, text = updated(place.root, {name: value for name, value in wishes.items() if value is not None})
    texts = pipelines.wanted(settings, load_consortium(place.root).members, place.stacks())
    outcome = {
        GITOPS_FILE: pipelines.write_settings(place.root / GITOPS_FILE, text),
        **pipelines.lay(place.root, texts, force=force),
    }
    emit(
        {"files": {name: asdict(found) for name, found in outcome.items()}}, as_json, lambda: _say(outcome, bool(force))
    )


def _say(outcome: dict[str, Outcome], forced: bool) -> None:
    for name, found in outcome.items():
        say(f"{found.state:10} {name}{' (it was edited; --force replaces it)' if found.state == 'kept' else ''}")
    for name, found in outcome.items():
        if found.diff:
            say(f"\n{name}: what --force {'changed' if forced else 'would change'}\n{found.diff.rstrip()}")


def comment(name: NameArgument, file: FileArgument, as_json: JsonOption = False) -> None:
    """In a pipeline of a pull request: make or update the one comment of this name.

    The token comes from GITHUB_TOKEN or GITLAB_TOKEN; where, the pipeline's own variables say.

    Example: `consortium gitops comment preview-alice preview.md`
    """
    from consortium.gitops.forge import Client
    from consortium.gitops.forge_table import from_environment

    forge = from_environment(os.environ)
    verb = Client(forge).comment(name, _text(file, forge.footer()))
    emit({"comment": name, "done": verb}, as_json, lambda: say(f"comment {name}: {verb}"))


def issue(
    name: NameArgument,
    file: FileArgument,
    title: Annotated[str | None, typer.Option(help="Of the issue. Needed unless --close is given.")] = None,
    close: Annotated[bool, typer.Option("--close", help="Close it if it is open; the text says why.")] = False,
    as_json: JsonOption = False,
) -> None:
    """In a pipeline: open, update or close the one issue of this name.

    Example: `consortium gitops issue drift-alice drift.md --title "Drift at alice"`
    """
    from consortium.gitops.forge import Client
    from consortium.gitops.forge_table import from_environment

    if close == bool(title):
        raise UsageError("give one of the two", where="--title, --close")
    forge = from_environment(os.environ)
    text, client = _text(file, forge.footer()), Client(forge)
    verb = client.issue(name, title, text) if title else client.close_issue(name, text)
    emit({"issue": name, "done": verb}, as_json, lambda: say(f"issue {name}: {verb}"))


def operator(
    repo: Annotated[str, typer.Option(metavar="URL", help="The repository, with https.")],
    backend: Annotated[str, typer.Option(metavar="URL", help="Where Pulumi's state is: s3://, azblob://, https://.")],
    image: Annotated[str, typer.Option(metavar="NAME@sha256:DIGEST", help="Image of the workspace (docs/gitops.md).")],
    namespace: Annotated[str, typer.Option(help="Of Kubernetes.")] = "consortium",
    stack: Annotated[str | None, typer.Option(help="Pulumi's full name of the stack. Default: the party.")] = None,
    resync_s: Annotated[int, typer.Option(min=60, help="How often it is made as the branch says.")] = 3600,
    party: PartyOption = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print a Stack manifest for the Pulumi Kubernetes Operator.

    Example: `consortium gitops operator --repo https://git.bank.example/consortium.git
    --backend s3://bank-state --image registry.example/consortium@sha256:DIGEST`
    """
    import yaml

    from consortium.gitops.operator import StackWishes, manifest
    from consortium.gitops.settings import load_gitops

    place = open_workspace(workspace)
    name = place.party(party)
    wishes = StackWishes(repo, backend, image, namespace, stack or name, resync_s, load_gitops(place.root)[0].branch)
    text = manifest(place.root, name, wishes)
    emit(yaml.safe_load(text), as_json, lambda: _write(text))


def _write(text: str) -> None:
    out.file.write(text)


def _owner(text: str) -> tuple[str, str]:
    party, separator, owner = text.partition("=")
    if not separator or not party or not owner:
        raise UsageError("not an owner", where="--owner", value=text, allowed="PARTY=@OWNER")
    return party, owner


def _text(path: Path, footer: str) -> str:
    from consortium import files

    text = sys.stdin.read() if str(path) == "-" else files.read(path)
    if not text.strip():
        raise UsageError(
            "there is nothing to say", where=str(path), fix="look at the step before, which should write it"
        )
    return f"{text.rstrip()}\n\n{footer}\n"
