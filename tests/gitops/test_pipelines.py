"""The pipelines are right as YAML, give nothing to strangers, and stop before a secret when a rule is broken."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from consortium.gitops.pipelines import CHECKOUT, wanted
from consortium.gitops.settings import GitOps
from consortium.stackfile import dump
from tests.consortium import builders
from tests.consortium.conftest import Command, command
from tests.gitops.repository import Repository, git
from tests.gitops.runner import Runner, evaluate, machine

__all__ = ["command"]

OWNERS = {"alice": "@bank/ops", "bob": "@hospital/it"}
MAIN = ".github/workflows/consortium.yml"
DRIFT = ".github/workflows/consortium-drift.yml"
LAB = ".gitlab/consortium.yml"
SECRET = {"PULUMI_CONFIG_PASSPHRASE": "never to be seen"}
ENVIRONMENTS = ("alice-preview", "alice-up", "alice-drift")
ARGUMENTS = ["--operators", "@bank/ops", "--owner", "alice=@bank/ops", "--owner", "bob=@hospital/it"]


def texts(forge: str, *, stacks: tuple[str, ...] = ("alice",), **settings: Any) -> dict[str, str]:
    whole = {"forge": forge, "operators": "@bank/ops", "owners": OWNERS, **settings}
    return wanted(GitOps.model_validate(whole), ["alice", "bob"], stacks)


def jobs(forge: str) -> dict[str, Any]:
    found = texts(forge, stacks=("alice", "bob"))
    if forge == "github":
        return {name: job for path in (MAIN, DRIFT) for name, job in yaml.safe_load(found[path])["jobs"].items()}
    return {n: j for n, j in yaml.safe_load(found[LAB]).items() if isinstance(j, dict) and not n.startswith(".")}


def event(name: str, **more: Any) -> dict[str, Any]:
    """The context `github` of an event in bank/consortium."""
    whole = {"event_name": name, "repository": "bank/consortium", "ref": "refs/heads/main", "base_ref": "main", **more}
    if name == "pull_request":
        head = {"head": {"repo": {"full_name": more.get("source", "bank/consortium")}}}
        whole |= {"ref": "refs/pull/12/merge", "event": {"pull_request": head}}
    return whole


def lab(source: str, **more: str) -> dict[str, str]:
    whole = {"CI_PIPELINE_SOURCE": source, "CI_PROJECT_ID": "4711"}
    if source == "merge_request_event":
        whole |= {"CI_MERGE_REQUEST_SOURCE_PROJECT_ID": "4711", "CI_MERGE_REQUEST_IID": "12"}
    else:
        whole["CI_COMMIT_BRANCH"] = "main"
    return {**whole, **more}


@pytest.mark.parametrize("forge", ["github", "gitlab"])
def test_every_party_here_has_its_jobs(forge: str) -> None:
    per_party = {f"{what}-{party}" for what in ("preview", "up", "drift") for party in ("alice", "bob")}
    assert set(jobs(forge)) == {"lint"} | per_party


@pytest.mark.parametrize("forge", ["github", "gitlab"])
def test_a_repository_without_stacks_has_only_rules_and_owners(forge: str) -> None:
    found = texts(forge, stacks=())
    assert DRIFT not in found
    document = yaml.safe_load(found[MAIN])["jobs"] if forge == "github" else yaml.safe_load(found[LAB])
    assert [name for name in document if "alice" in name or "up" in name] == []
    assert "lint" in document


def test_jobs_of_github_have_the_rights_they_need_and_no_other() -> None:
    rights = {name.split("-")[0]: job["permissions"] for name, job in jobs("github").items()}
    assert rights == {
        "lint": {"contents": "read"},
        "preview": {"contents": "read", "pull-requests": "write"},
        "up": {"contents": "read"},
        "drift": {"contents": "read", "issues": "write"},
    }


def test_actions_are_named_by_commit_and_leave_no_token_behind() -> None:
    steps = [step for job in jobs("github").values() for step in job["steps"] if "uses" in step]
    assert {step["uses"] for step in steps} == {CHECKOUT}
    assert all(step["with"] == {"persist-credentials": False} for step in steps)


def test_secrets_are_in_single_steps_and_in_no_script() -> None:
    for name, job in jobs("github").items():
        assert "secrets." not in str(job.get("env", {}))
        with_secret = [step["name"] for step in job["steps"] if "secrets." in str(step.get("env", {}))]
        assert len(with_secret) == (0 if name == "lint" else 1), name
        assert not any("${{" in step.get("run", "") for step in job["steps"]), "a stranger's text could be a command"


@pytest.mark.parametrize("forge", ["github", "gitlab"])
def test_only_jobs_with_an_environment_see_its_secrets(forge: str) -> None:
    found = {name: bool(job.get("environment")) for name, job in jobs(forge).items()}
    assert [name for name, has in found.items() if not has] == ["lint"]


@pytest.mark.parametrize("forge", ["github", "gitlab"])
def test_code_owners_give_each_party_file_to_its_party_alone(forge: str) -> None:
    lines = texts(forge)[f".{forge}/CODEOWNERS"].splitlines()
    assert [line for line in lines if not line.startswith("#")] == [
        "* @bank/ops",
        "/parties/alice.yaml @bank/ops",
        "/parties/bob.yaml @hospital/it",
    ]


@pytest.fixture
def workspace(tmp_path: Path, command: Command) -> Callable[[str], Path]:
    """A workspace that breaks no rule, with pipelines for a forge."""

    def make(forge: str) -> Path:
        folder = tmp_path / "alice"
        assert command("init", folder, "--name", "demo", "--member", "alice", "--member", "bob").code == 0
        builders.write(folder, consortium=None)
        assert command("gitops", "init", f"--{forge}", *ARGUMENTS, "-w", folder).code == 0
        return folder

    return make


@pytest.fixture
def repository(workspace: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Repository]:
    return lambda forge: Repository.make(workspace(forge), tmp_path / "bare")


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    """No Pulumi is here: what gets as far as a secret would fail."""
    each = dict.fromkeys(ENVIRONMENTS, SECRET)
    state = {name: {"PULUMI_BACKEND_URL": "file:///nowhere"} for name in ENVIRONMENTS}
    return Runner(tmp_path / "bare", tmp_path / "work", machine(Path(sys.executable).parent), each, state)


def outcomes(results: Any) -> dict[str, str]:
    return {name: result.outcome for name, result in results.items()}


FROM_A_FORK = {
    "github": lambda runner, commit: runner.github(MAIN, event("pull_request", source="mallory/consortium"), commit),
    "gitlab": lambda runner, commit: runner.gitlab(
        LAB, lab("merge_request_event", CI_MERGE_REQUEST_SOURCE_PROJECT_ID="6666"), commit
    ),
}
FROM_HERE = {
    "github": lambda runner, commit: runner.github(MAIN, event("pull_request"), commit),
    "gitlab": lambda runner, commit: runner.gitlab(LAB, lab("merge_request_event"), commit),
}
MERGED = {
    "github": lambda runner, commit: runner.github(MAIN, event("push"), commit),
    "gitlab": lambda runner, commit: runner.gitlab(LAB, lab("push"), commit),
}


@pytest.mark.parametrize("forge", ["github", "gitlab"])
def test_a_pull_request_of_a_fork_runs_nothing(
    forge: str, repository: Callable[[str], Repository], runner: Runner
) -> None:
    results = FROM_A_FORK[forge](runner, _head(repository(forge)))
    assert set(outcomes(results).values()) == {"skipped"}


def _head(repository: Repository) -> str:
    return git(repository.folder, "rev-parse", "HEAD")


def program(folder: Path) -> None:
    (folder / "__main__.py").write_text("import os\nprint(os.environ)\n")


def shadow(folder: Path) -> None:
    (folder / "yaml.py").write_text("import os\nprint(os.environ)\n")


def plaintext(folder: Path) -> None:
    settings = builders.settings(engine="tcp://10.0.0.1:2375")
    (folder / "stacks/Pulumi.alice.yaml").write_text(dump(builders.stack(settings=settings)))


@pytest.mark.parametrize(
    ("forge", "when", "spoil"),
    [
        ("github", FROM_HERE, program),
        ("github", FROM_HERE, shadow),
        ("github", MERGED, plaintext),
        ("gitlab", FROM_HERE, program),
        ("gitlab", MERGED, program),
    ],
)
def test_a_broken_rule_stops_before_any_secret(
    forge: str,
    when: Any,
    spoil: Callable[[Path], None],
    repository: Callable[[str], Repository],
    runner: Runner,
) -> None:
    its = repository(forge)
    spoil(its.folder)
    results = when[forge](runner, its.push("change", "a change"))
    found = outcomes(results)
    assert found.pop("lint") == "failure"
    assert "[program]" in results["lint"].said or "[engine-plaintext]" in results["lint"].said
    assert set(found.values()) == {"skipped"}
    assert [result.secrets for result in results.values() if result.secrets] == []


@pytest.mark.parametrize("forge", ["github", "gitlab"])
def test_without_a_place_for_the_state_nothing_is_brought_up(
    forge: str, repository: Callable[[str], Repository], runner: Runner
) -> None:
    """Pulumi would make a new state in the checkout, and with it a second institution."""
    runner.variables = {}
    results = MERGED[forge](runner, _head(repository(forge)))
    assert outcomes(results)["lint"] == "success", results["lint"].said
    assert outcomes(results)["up-alice"] == "failure"
    assert "PULUMI_BACKEND_URL: set this variable" in results["up-alice"].said
    assert results["up-alice"].secrets == () or forge == "gitlab"  # GitLab gives a job all its variables at once


def test_another_branch_brings_nothing_up(repository: Callable[[str], Repository], runner: Runner) -> None:
    commit = _head(repository("github"))
    assert runner.github(MAIN, event("push", ref="refs/heads/other"), commit) == {}
    runner.work = runner.work / "2"
    results = runner.github(MAIN, event("workflow_dispatch", ref="refs/heads/other"), commit)
    assert outcomes(results)["up-alice"] == "skipped"
    runner.work = runner.work / "3"
    assert outcomes(runner.github(DRIFT, event("workflow_dispatch", ref="refs/heads/other"), commit)) == {
        "drift-alice": "skipped"
    }


def test_init_changes_nothing_the_second_time_and_keeps_what_was_edited(
    workspace: Callable[[str], Path], command: Command
) -> None:
    folder = workspace("github")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    said = command("gitops", "init", "-w", folder, "--json")
    assert {found["state"] for found in said.json()["files"].values()} == {"unchanged"}
    assert command("gitops", "init", "--github", *ARGUMENTS, "-w", folder).code == 0
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    edited = folder / MAIN
    edited.write_text(edited.read_text().replace("timeout-minutes: 120", "timeout-minutes: 240"))
    said = command("gitops", "init", "-w", folder, "--branch", "prod")
    assert f"kept       {MAIN}" in said.out
    assert "-    timeout-minutes: 240\n+    timeout-minutes: 120" in said.out
    assert f"updated    {DRIFT}" in said.out, "what nobody edited follows the settings"
    assert "timeout-minutes: 240" in edited.read_text()
    said = command("gitops", "init", "-w", folder, "--force")
    assert f"replaced   {MAIN}" in said.out
    assert "timeout-minutes: 240" not in edited.read_text()


def test_a_new_member_adds_its_owner_and_the_others_stay(workspace: Callable[[str], Path], command: Command) -> None:
    folder = workspace("gitlab")
    (folder / "consortium.yaml").write_text(
        (folder / "consortium.yaml").read_text().replace("[alice, bob]", "[alice, bob, carol]")
    )
    said = command("gitops", "init", "-w", folder)
    assert said.code == 3
    assert "--owner carol=@" in said.err
    assert command("gitops", "init", "-w", folder, "--owner", "carol=@lab/it").code == 0
    owners = (folder / ".gitlab/CODEOWNERS").read_text()
    assert all(f"/parties/{name}.yaml @" in owners for name in ("alice", "bob", "carol"))


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 3, "--github or --gitlab"),
        (["--github"], 3, "--owner bob=@"),
        (["--github", "--gitlab"], 2, "one excludes the other"),
        (["--github", "--owner", "alice"], 2, "PARTY=@OWNER"),
        (["--github", "--owner", "alice=bank"], 3, "owners.alice"),
        (["--github", "--drift", "daily"], 3, "drift"),
        (["--github", "--branch", "x && rm"], 3, "branch"),
        (["--github", "--runner", "a b"], 3, "runner"),
    ],
)
def test_wrong_wishes_are_named_and_nothing_is_written(
    command: Command, tmp_path: Path, arguments: list[str], code: int, said: str
) -> None:
    builders.write(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    found = command("gitops", "init", "-w", tmp_path, *arguments)
    assert found.code == code
    assert said in found.err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a.x == 'y' && !b.no", True),
        ("${{ a.x != 'y' || b.yes }}", "1"),
        ("a.x == 'y' && '--refresh' || ''", "--refresh"),
        ("(a.x == 'n' || b.yes == '1') && !cancelled()", True),
        ("a.there.not == ''", True),
    ],
)
def test_the_runner_of_these_tests_knows_expressions(text: str, value: Any) -> None:
    context = {"a": {"x": "y"}, "b": {"yes": "1", "no": ""}, "cancelled": False}
    assert evaluate(text, context) == value
    for unknown in ("fromJSON('x')", "a.x > 1", "always()"):
        with pytest.raises((ValueError, KeyError, SyntaxError, NameError, TypeError)):
            evaluate(unknown, context)
