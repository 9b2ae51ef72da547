"""What `consortium init` makes: an empty workspace for one institution."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from consortium import files
from consortium.documents import CONSORTIUM_FILE, PARTIES_FOLDER, STACKS_FOLDER
from consortium.errors import ConsortiumError, DocumentErrors
from consortium.folders import INSTALLATION
from consortium.release import PACKAGES
from consortium.spec import Consortium, Mode
from consortium.timeouts import TimeoutBudget
from consortium.validation import validate
from consortium.workspace import PRIVATE
from consortium.yamlfile import YamlFile, parse_yaml

COPIED = ("Pulumi.yaml", "__main__.py")

IGNORED = f"""\
# Keys, tokens, passphrase and state of this institution. Never commit it.
{PRIVATE}/
__pycache__/
"""


def found(
    folder: Path, name: str, members: Sequence[str], *, force: bool = False, mode: Mode = "ray"
) -> dict[str, str]:
    """Make `folder` a workspace. File → "made", "unchanged", "replaced" or "kept" (it was edited).

    Raises DocumentErrors for a name or members that are not allowed; nothing is written then.
    """
    agreement = agreement_text(name, members, mode)
    _check(agreement)
    wanted = {CONSORTIUM_FILE: agreement, **{copied: _copied(copied) for copied in COPIED}, ".gitignore": IGNORED}
    outcome = {file: _put(folder / file, text, force) for file, text in wanted.items()}
    for sub in (PARTIES_FOLDER, STACKS_FOLDER):
        (folder / sub).mkdir(parents=True, exist_ok=True)
    files.private_folder(folder / PRIVATE)
    return outcome


def agreement_text(name: str, members: Sequence[str], mode: Mode = "ray") -> str:
    """A consortium.yaml with every default spelt out."""
    budget = TimeoutBudget()
    return f"""\
# The agreement of all members: each holds the same copy. Coordinators compare its digest before every job.
name: {name}
mode: {mode}
members: [{", ".join(members)}]   # append-only: a member's place decides port numbers
left: []                          # members that have left; each keeps its place
slots: 2                          # jobs that one party runs at the same time
versions:                         # exact versions; SecretFlow's parts speak only to their equals
{"".join(f'  {part}: "{version}"{chr(10)}' for part, version in PACKAGES.items())}\
timeouts:                         # everything else follows from these: consortium timeouts
  start_window_s: {budget.start_window_s:g}
  heartbeat_s: {budget.heartbeat_s:g}
  peer_lost_after_s: {budget.peer_lost_after_s:g}
  message_s: {budget.message_s:g}
  job_s: {budget.job_s:g}
limits: {{max_attempts: 3, clock_skew_ms: 250}}
"""


def _check(agreement: str) -> None:
    file = parse_yaml(agreement.encode(), YamlFile(CONSORTIUM_FILE))
    if not file.problems:
        validate(Consortium, file.data, file)
    if file.problems:
        raise DocumentErrors(file.problems)


def _copied(name: str) -> str:
    source = INSTALLATION / name
    if not source.is_file():
        raise ConsortiumError("the installation is incomplete", where=str(source), fix="install from a checkout")
    return files.read(source)


def _put(path: Path, text: str, force: bool) -> str:
    if not path.exists():
        files.write(path, text)
        return "made"
    if files.read(path) == text:
        return "unchanged"
    if not force:
        return "kept"
    files.write(path, text)
    return "replaced"
