"""Policy checks on the folder as a repository: what is committed, the program, the pipelines, the code owners."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from consortium import files
from consortium.documents import PARTIES_FOLDER
from consortium.errors import ConsortiumError
from consortium.folders import INSTALLATION
from consortium.founding import COPIED
from consortium.gitops.finding import Finding
from consortium.gitops.settings import GitOps
from consortium.workspace import PRIVATE

CODE_OWNERS = {"github": ".github/CODEOWNERS", "gitlab": ".gitlab/CODEOWNERS"}

_PIPELINES = (".github/workflows/*.yml", ".github/workflows/*.yaml", ".gitlab-ci.yml", ".gitlab/*.yml")
_USES = re.compile(r"""^\s*(?:-\s*)?uses:\s*["']?([^\s"'#]+)""")
_IMAGE = re.compile(r"""^\s*(?:-\s*)?image:\s*["']?([^\s"'#]+)""")
_PINNED = re.compile(r"(\./.*|[^@]+@[0-9a-f]{40}|[^@]+@sha256:[0-9a-f]{64})")
_KEY = "PRIVATE KEY-----"


def repository(workspace: Path, settings: GitOps) -> Iterator[Finding]:
    """Every check on the folder. Raises ConsortiumError where git cannot be asked."""
    yield from _program(workspace)
    if _in_git(workspace):
        yield from _committed(workspace)
    for pattern in _PIPELINES:
        for path in sorted(workspace.glob(pattern)):
            yield from _pipeline(path, path.relative_to(workspace).as_posix())
    if settings.forge:
        yield from _owners(workspace, CODE_OWNERS[settings.forge], settings)


def _program(workspace: Path) -> Iterator[Finding]:
    """The program of a stack runs with the stack's secrets: a pull request must not bring another one."""
    root = workspace.resolve()
    if root == INSTALLATION:
        return  # the project's own checkout: what is installed is what lies here
    for name in COPIED:
        path = root / name
        if not path.is_file() or files.read(path) != files.read(INSTALLATION / name):
            yield Finding(
                "program",
                "the Pulumi program is not the installed one, and it would run with every secret of the stack",
                where=name,
                value="changed" if path.exists() else "missing",
                fix=f"consortium init /tmp/fresh, and copy {name} from there; so it is done after an upgrade too",
            )
    for path in sorted(p for p in root.iterdir() if p.name not in COPIED and _importable(p)):
        yield Finding(
            "program",
            "the Pulumi program finds this before the installed packages, and would run it with every secret",
            where=path.name,
            fix="move it into a folder of its own",
        )


def _importable(path: Path) -> bool:
    """Whether Python takes it for a module: the program's folder comes first when it imports."""
    if path.is_dir():
        return any(p.stem.partition(".")[0] == "__init__" for p in path.iterdir())
    return path.suffix in (".py", ".pyc", ".so")


def _in_git(workspace: Path) -> bool:
    """Nothing is committed where there is no repository. The folder may be below its top."""
    return any((folder / ".git").exists() for folder in (workspace.resolve(), *workspace.resolve().parents))


def _committed(workspace: Path) -> Iterator[Finding]:
    if tracked := _git(workspace, "ls-files", "--", PRIVATE):
        yield Finding(
            "private-in-git",
            "keys, tokens or the passphrase are committed",
            where=tracked[0],
            value=f"{len(tracked)} files of {PRIVATE}",
            fix=f"treat them as stolen; git rm -r --cached {PRIVATE}, and take them out of the history",
        )
    if not _git(workspace, "check-ignore", "--no-index", f"{PRIVATE}/passphrase"):
        yield Finding(
            "private-not-ignored",
            "one `git add .` commits keys, tokens and the passphrase",
            where=".gitignore",
            allowed=f"a line {PRIVATE}/",
            fix=f"add {PRIVATE}/ to .gitignore",
        )
    for name in _git(workspace, "grep", "-lI", "-e", _KEY, "--", "."):
        yield Finding(
            "key-in-git",
            "a private key is committed",
            where=name,
            value="(not shown)",
            fix="treat it as stolen: replace it, and take it out of the history",
        )


def _git(workspace: Path, *arguments: str) -> list[str]:
    """The lines git prints. These commands say «nothing found» with exit code 1. Raises ConsortiumError."""
    try:
        done = subprocess.run(["git", *arguments], cwd=workspace, capture_output=True, text=True, check=False)
    except OSError as error:
        raise ConsortiumError("git cannot be run", value=str(error), fix="install git") from error
    if done.returncode > 1:
        raise ConsortiumError(
            f"git {arguments[0]} ended with exit code {done.returncode}",
            where=str(workspace),
            value=done.stderr.strip(),
        )
    return done.stdout.splitlines()


def _pipeline(path: Path, name: str) -> Iterator[Finding]:
    for number, line in enumerate(files.read(path).splitlines(), 1):
        where = f"{name}:{number}"
        if (uses := _USES.match(line)) and not _PINNED.fullmatch(uses[1]):
            yield Finding(
                "action-digest",
                "a tag of an action can be moved to other code, which would see this repository's secrets",
                where=where,
                value=uses[1],
                allowed="OWNER/NAME@COMMIT, 40 hexadecimal digits",
                fix="git ls-remote https://github.com/OWNER/NAME refs/tags/TAG",
            )
        if (image := _IMAGE.match(line)) and not _PINNED.fullmatch(image[1]):
            yield Finding(
                "image-digest",
                "a tag can be moved to another image, `latest` above all",
                where=where,
                value=image[1],
                allowed="NAME@sha256:DIGEST",
            )
        if re.match(r"\s*(-\s*)?pull_request_target\b", line):
            yield Finding(
                "pull-request-target",
                "a pull request from a fork would run with this repository's secrets",
                where=where,
                value="pull_request_target",
                allowed="pull_request",
                fix="on: pull_request",
            )


def _owners(workspace: Path, name: str, settings: GitOps) -> Iterator[Finding]:
    """The last line that fits a file counts. A line that is not for one other party's file is taken to fit."""
    path = workspace / name
    lines = [line.split() for line in files.read(path).splitlines()] if path.is_file() else []
    rules = [words for words in lines if words and not words[0].startswith(("#", "["))]
    members = sorted(p.stem for p in (workspace / PARTIES_FOLDER).glob("*.yaml"))
    patterns = {member: f"/{PARTIES_FOLDER}/{member}.yaml" for member in members}
    for member, pattern in patterns.items():
        others = set(patterns.values()) - {pattern}
        last = next((words for words in reversed(rules) if words[0] not in others), [])
        owner = settings.owners.get(member)
        if not owner or last != [pattern, owner]:
            yield Finding(
                "code-owners",
                f"the party file of {member} may be changed without {member}'s consent",
                where=name,
                value=" ".join(last) or "no line for it",
                allowed=f"{pattern} {owner or '@OWNER'}, after every line for more than one file",
                fix=f"consortium gitops init{'' if owner else f' --owner {member}=@OWNER'}",
            )
