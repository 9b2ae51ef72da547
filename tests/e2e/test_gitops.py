"""A change of a real institution, from pull request to nodes and back, by the steps of the pipelines' own YAML."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from consortium.demo import Demo
from consortium.workspace import Workspace
from testing import Party
from tests.gitops.forge_rig import TOKEN, Rig, served
from tests.gitops.repository import Repository
from tests.gitops.runner import Result, Runner, machine
from tests.gitops.test_pipelines import ARGUMENTS, DRIFT, ENVIRONMENTS, LAB, MAIN, event, lab

SETTINGS = "stacks/Pulumi.alice.yaml"


@pytest.fixture
def clone(institutions: Demo, tmp_path: Path) -> Path:
    """What alice's operator commits: everything but keys and data, with datasets by absolute path."""
    origin, folder = institutions.workspace("alice"), tmp_path / "clone"
    shutil.copytree(origin, folder, ignore=shutil.ignore_patterns(".private", "data", ".git", "__pycache__"))
    text = (folder / SETTINGS).read_text()
    (folder / SETTINGS).write_text(text.replace("path: data/", f"path: {origin}/data/"))
    return folder


@pytest.fixture
def passphrase(institutions: Demo) -> str:
    return Workspace.find(institutions.workspace("alice")).passphrase_file.read_text().strip()


@pytest.fixture
def runner(institutions: Demo, passphrase: str, tmp_path: Path) -> Iterator[Runner]:
    state = (institutions.workspace("alice") / ".private" / "state").as_uri()
    yield Runner(
        tmp_path / "bare",
        tmp_path / "work",
        machine(Path(sys.executable).parent),
        {name: {"PULUMI_CONFIG_PASSPHRASE": passphrase} for name in ENVIRONMENTS},
        {name: {"PULUMI_BACKEND_URL": state} for name in ENVIRONMENTS},
        token=TOKEN,
    )
    institutions.consortium("alice", "up", "--yes", "--refresh", "--", "--skip-preview", capture=True)


def only(results: dict[str, Result], name: str) -> Result:
    """The job of this name, which ran with lint and without any other."""
    ran = {job for job, result in results.items() if result.outcome != "skipped"} - {"lint"}
    assert ran == {name}, {job: (result.outcome, result.said) for job, result in results.items()}
    found = results[name]
    assert found.outcome == "success", found.said
    return found


def written(rig: Rig) -> str:
    return "".join(str(entry) for entry in (*rig.comments, *rig.issues))


def test_a_pull_request_is_previewed_a_merge_comes_up_and_drift_becomes_an_issue(
    institutions: Demo, alice: Party, clone: Path, runner: Runner, passphrase: str, tmp_path: Path
) -> None:
    institutions.consortium("alice", "gitops", "init", "--github", *ARGUMENTS, "-w", str(clone))
    repository = Repository.make(clone, tmp_path / "bare")
    before = alice.node("head").read("/etc/consortium/coordinator.json")
    settings = (clone / SETTINGS).read_text()
    with served("github") as rig:
        runner.forge = rig.environment

        (clone / SETTINGS).write_text(settings.replace("log_bytes: 1000000", "log_bytes: 2000000"))
        commit = repository.push("more-log", "show more of a program's output")
        runner.work = tmp_path / "preview"
        only(runner.github(MAIN, event("pull_request"), commit), "preview-alice")
        (comment,) = rig.comments
        assert "1 to change" in comment["body"]
        assert '"log_bytes": 2000000' in comment["body"]
        assert alice.node("head").read("/etc/consortium/coordinator.json") == before, "a preview changes nothing"

        commit = repository.merge("more-log")
        runner.work = tmp_path / "up"
        only(runner.github(MAIN, event("push"), commit), "up-alice")
        assert '"log_bytes": 2000000' in alice.node("head").read("/etc/consortium/coordinator.json")

        alice.node("worker-1").run("sh", "-c", "echo strange >> /etc/consortium/health.json")
        runner.work = tmp_path / "drift"
        only(runner.github(DRIFT, event("schedule"), commit), "drift-alice")
        (issue,) = rig.issues
        assert issue["open"]
        assert "-strange" in issue["body"]
        assert "alice-worker-1" in issue["body"]

        (clone / SETTINGS).write_text(settings)
        commit = repository.push("main", "as it was")
        runner.work = tmp_path / "mend"
        only(runner.github(MAIN, event("workflow_dispatch"), commit), "up-alice")
        assert alice.node("head").read("/etc/consortium/coordinator.json") == before
        assert "strange" not in alice.node("worker-1").read("/etc/consortium/health.json")
        runner.work = tmp_path / "drift again"
        said = only(runner.github(DRIFT, event("schedule"), commit), "drift-alice").said
        assert "alice is as its documents say." in said
        assert [found["open"] for found in rig.issues] == [False]
        assert passphrase not in written(rig)


def test_the_same_on_gitlab(
    institutions: Demo, alice: Party, clone: Path, runner: Runner, passphrase: str, tmp_path: Path
) -> None:
    institutions.consortium("alice", "gitops", "init", "--gitlab", *ARGUMENTS, "-w", str(clone))
    repository = Repository.make(clone, tmp_path / "bare")
    settings = (clone / SETTINGS).read_text()
    (clone / SETTINGS).write_text(settings.replace("log_bytes: 1000000", "log_bytes: 2000000"))
    commit = repository.push("more-log", "show more of a program's output")
    for name in ("alice-preview", "alice-drift"):
        runner.secrets[name]["GITLAB_TOKEN"] = TOKEN  # type: ignore[index]
    with served("gitlab") as rig:
        runner.forge = rig.environment
        runner.work = tmp_path / "preview"
        only(runner.gitlab(LAB, lab("merge_request_event"), commit), "preview-alice")
        (comment,) = rig.comments
        assert '"log_bytes": 2000000' in comment["body"]
        # Merged and never brought up: that is drift too.
        runner.work = tmp_path / "drift"
        only(runner.gitlab(LAB, lab("schedule"), commit), "drift-alice")
        assert [issue["open"] for issue in rig.issues] == [True]
        assert passphrase not in written(rig)
