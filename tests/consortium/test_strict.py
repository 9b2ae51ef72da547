"""What a bank would not let pass is found, by name and place; what is right has no finding."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from consortium.errors import DocumentErrors
from consortium.gitops.strict import CHECKS, strict
from consortium.stackfile import dump
from tests.consortium import builders
from tests.consortium.conftest import Command

ROOT = Path(__file__).resolve().parents[2]
OWNERS = "* @bank/all\n/parties/alice.yaml @bank/a\n/parties/bob.yaml @hospital/b\n"
GITOPS = {"forge": "github", "operators": "@bank/all", "owners": {"alice": "@bank/a", "bob": "@hospital/b"}}
DIGEST = "0" * 64


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@t", *arguments], cwd=folder, check=True)


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """Alice's repository, as `init`, `join` and `gitops init` leave it."""
    folder = tmp_path / "alice"
    write(folder)
    for name in ("Pulumi.yaml", "__main__.py"):
        shutil.copy(ROOT / name, folder / name)
    write_text(folder, ".gitignore", ".private/\n")
    write_text(folder, ".private/passphrase", "secret\n")
    write_text(folder, ".github/CODEOWNERS", OWNERS)
    write_text(folder, "gitops.yaml", dump(GITOPS))
    git(folder, "init", "-q")
    git(folder, "add", ".")
    return folder


def write_text(folder: Path, name: str, text: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)


def write(folder: Path, **documents: Any) -> None:
    whole = {"alice": builders.party("alice", datasets={"d": {}}), **documents}
    builders.write(folder, **({"stack": with_settings()} | whole))


def with_settings(**overrides: Any) -> dict[str, Any]:
    return builders.stack(settings=builders.settings(**{"datasets": {"d": {"path": "/srv/d.csv"}}, **overrides}))


def approving(**rule: Any) -> Callable[[Path], None]:
    whole = {"name": "r", "verdict": "approve", "programs": [DIGEST], "datasets": ["d"], "until": "2030-01-01", **rule}
    rules = [{k: v for k, v in whole.items() if v is not None}]
    return lambda folder: write(folder, stack=with_settings(policy={"rules": rules}))


def settings(**overrides: Any) -> Callable[[Path], None]:
    return lambda folder: write(folder, stack=with_settings(**overrides))


def agreed(**overrides: Any) -> Callable[[Path], None]:
    return lambda folder: write(folder, consortium=builders.consortium(**overrides))


def text(name: str, content: str) -> Callable[[Path], None]:
    return lambda folder: write_text(folder, name, content)


def no_salt(folder: Path) -> None:
    write(folder, stack={k: v for k, v in with_settings().items() if k != "encryptionsalt"})


def committed(name: str, content: str) -> Callable[[Path], None]:
    def commit(folder: Path) -> None:
        write_text(folder, name, content)
        git(folder, "add", "-f", name)

    return commit


WORKFLOW = ".github/workflows/x.yml"

WRONG: list[tuple[str, str, Callable[[Path], None]]] = [
    ("engine-plaintext", "settings.engine", settings(engine="tcp://10.0.0.1:2375")),
    ("engine-plaintext", "settings.engine", settings(engine="http://10.0.0.1:2375")),
    ("operator-plaintext", "operator.bind", settings(operator={"bind": "0.0.0.0", "port": 18080})),
    ("mirror-plaintext", "package_mirror.apt", settings(package_mirror={"apt": "http://mirror/debian"})),
    ("image-digest", "settings.image", settings(image="registry.example/node:latest")),
    ("image-digest", "settings.image", settings(image="node@sha256:short")),
    ("image-digest", ".gitlab-ci.yml:2", text(".gitlab-ci.yml", "a:\n  image: python:latest\n")),
    ("approve-by-default", "policy.default", settings(policy={"default": "approve"})),
    ("approval-programs", "policy.rules[0]", approving(programs=None)),
    ("approval-datasets", "policy.rules[0]", approving(datasets="any")),
    ("approval-until", "policy.rules[0]", approving(until=None)),
    ("dataset-in-checkout", "datasets.d.path", settings(datasets={"d": {"path": "data/d.csv"}})),
    ("min-free-bytes", "limits.min_free_bytes", settings(limits={"min_free_bytes": 0})),
    ("peer-lost-after", "timeouts.peer_lost_after_s", agreed(timeouts={"peer_lost_after_s": 61, "message_s": 130})),
    ("clock-skew", "limits.clock_skew_ms", agreed(limits={"clock_skew_ms": 1001})),
    ("secrets-provider", "stacks/Pulumi.alice.yaml", no_salt),
    ("program", "__main__.py", text("__main__.py", "import os\nprint(os.environ)\n")),
    ("program", "Pulumi.yaml", lambda folder: (folder / "Pulumi.yaml").unlink()),
    ("program", "json.py", text("json.py", "")),
    ("program", "consortium", text("consortium/__init__.py", "")),
    ("private-in-git", ".private/passphrase", committed(".private/passphrase", "secret\n")),
    ("private-not-ignored", ".gitignore", text(".gitignore", "__pycache__/\n")),
    ("key-in-git", "notes/old.pem", committed("notes/old.pem", "-----BEGIN EC " + "PRIVATE KEY-----\n")),
    ("action-digest", f"{WORKFLOW}:3", text(WORKFLOW, "steps:\n  - run: x\n  - uses: actions/checkout@v4\n")),
    ("action-digest", f"{WORKFLOW}:1", text(WORKFLOW, "- uses: 'docker://alpine:3'\n")),
    ("pull-request-target", f"{WORKFLOW}:2", text(WORKFLOW, "on:\n  pull_request_target:\n")),
    ("code-owners", ".github/CODEOWNERS", text(".github/CODEOWNERS", OWNERS.replace("@hospital/b", "@bank/a"))),
    ("code-owners", ".github/CODEOWNERS", text(".github/CODEOWNERS", OWNERS + "* @bank/a\n")),
    ("code-owners", ".github/CODEOWNERS", lambda folder: (folder / ".github/CODEOWNERS").unlink()),
    ("code-owners", ".github/CODEOWNERS", text("gitops.yaml", dump({**GITOPS, "owners": {"alice": "@bank/a"}}))),
]


def test_what_is_right_has_no_finding(workspace: Path) -> None:
    assert [str(finding) for finding in strict(workspace).findings] == []


@pytest.mark.parametrize(("check", "where", "spoil"), WRONG, ids=[f"{i}-{row[0]}" for i, row in enumerate(WRONG)])
def test_each_thing_wrong_is_found_by_name_and_place(
    workspace: Path, check: str, where: str, spoil: Callable[[Path], None]
) -> None:
    spoil(workspace)
    findings = strict(workspace).findings
    assert {finding.check for finding in findings} == {check}
    assert where in findings[0].where
    assert findings[0].fix or findings[0].allowed


@pytest.mark.parametrize(
    "spoil",
    [
        settings(engine="ssh://ops@10.0.0.1"),
        settings(operator={"bind": "::1", "port": 18080}),
        settings(image=f"registry.example/node:1@sha256:{DIGEST}"),
        settings(package_mirror={"pip": "https://mirror/simple"}),
        approving(),
        settings(policy={"rules": [{"name": "r", "verdict": "deny"}]}),
        text(WORKFLOW, f"steps:\n  - uses: actions/checkout@{'a' * 40} # v4\n  - uses: ./local\n"),
        text("jobs/psi/main.py", "print(1)\n"),
    ],
)
def test_what_is_allowed_is_not_found(workspace: Path, spoil: Callable[[Path], None]) -> None:
    spoil(workspace)
    assert [str(finding) for finding in strict(workspace).findings] == []


@pytest.mark.parametrize(
    ("days", "found"), [(31, set()), (29, {"certificate-days"})], ids=["31 days left", "29 days left"]
)
def test_the_gateways_certificate_must_have_thirty_days(workspace: Path, days: int, found: set[str]) -> None:
    moment = datetime.now(UTC) + timedelta(days=397 - days)
    assert {finding.check for finding in strict(workspace, moment).findings} == found


def test_a_ca_must_have_thirty_days_and_the_one_that_replaces_it_counts(workspace: Path) -> None:
    moment = datetime.now(UTC) + timedelta(days=3650 - 29)
    found = [finding for finding in strict(workspace, moment).findings if finding.check == "ca-days"]
    assert [finding.where.split(":")[0] for finding in found] == ["parties/alice.yaml", "parties/bob.yaml"]
    assert found[0].value == "28 days"
    old, new = builders.authority("bob"), builders.authority.__wrapped__("bob", "demo")
    later = builders.trust.make_ca("bob", "demo", now=datetime.now(UTC) + timedelta(days=100))
    assert new.certificate != old.certificate
    write(workspace, bob=builders.party("bob", ca_certificates=[old.certificate, later.certificate]))
    found = [finding for finding in strict(workspace, moment).findings if finding.check == "ca-days"]
    assert [finding.where.split(":")[0] for finding in found] == ["parties/alice.yaml"]


def test_every_check_is_played_here_and_described(workspace: Path) -> None:
    assert {row[0] for row in WRONG} | {"ca-days", "certificate-days"} == set(CHECKS)
    sources = "".join(path.read_text() for path in (ROOT / "consortium" / "gitops").glob("*_checks.py"))
    made = set(re.findall(r'Finding\(\s*f?"([a-z{}-]+)"', sources)) - {"approval-{field}"}
    assert made | {f"approval-{field}" for field in ("programs", "datasets", "until")} == set(CHECKS)


def test_an_exception_has_a_name_and_a_reason_and_is_shown(command: Command, workspace: Path) -> None:
    settings(operator={"bind": "10.0.0.1", "port": 18080})(workspace)
    assert command("lint", "-w", workspace).code == 0
    assert "[operator-plaintext]" in command("lint", "--strict", "-w", workspace).err
    assert command("lint", "--strict", "--json", "-w", workspace).json()["error"]["problems"][0]["check"]
    exceptions = {"operator-plaintext": "a proxy with TLS stands on this address"}
    write_text(workspace, "gitops.yaml", dump({**GITOPS, "exceptions": exceptions}))
    said = command("lint", "--strict", "-w", workspace)
    assert said.code == 0
    assert "excepted: operator-plaintext" in said.out
    assert "a proxy with TLS" in said.out


@pytest.mark.parametrize(
    ("exceptions", "said"),
    [
        ({"operator-plain": "because of a reason"}, "did you mean operator-plaintext"),
        ({"program": "no"}, "at least 10 characters"),
    ],
)
def test_an_exception_that_says_nothing_is_refused(workspace: Path, exceptions: dict[str, str], said: str) -> None:
    write_text(workspace, "gitops.yaml", dump({**GITOPS, "exceptions": exceptions}))
    with pytest.raises(DocumentErrors, match=said):
        strict(workspace)


def test_errors_of_documents_come_with_the_findings(command: Command, workspace: Path) -> None:
    write(workspace, consortium=builders.consortium(slots=0), stack=with_settings(engine="tcp://10.0.0.1:2375"))
    said = command("lint", "--strict", "-w", workspace)
    assert said.code == 3
    assert "slots" in said.err
    assert "[engine-plaintext]" in said.err


def test_the_document_lists_every_check_as_it_is() -> None:
    table = dict(re.findall(r"^\| `([a-z-]+)` \| (.+) \|$", (ROOT / "docs" / "gitops.md").read_text(), re.MULTILINE))
    assert {check: table.get(check) for check in CHECKS} == dict(CHECKS)
