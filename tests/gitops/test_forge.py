"""One comment and one open issue for each name, at a forge that is as strict as its documentation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from consortium.gitops.forge import Decision, decide, mark
from consortium.gitops.forge_table import Entry
from tests.consortium.conftest import Command, command
from tests.gitops.forge_rig import TOKEN, Rig, served

__all__ = ["command"]


@pytest.fixture(params=["github", "gitlab"])
def rig(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, command: Command) -> Iterator[Rig]:
    for name in ("GITHUB_ACTIONS", "GITLAB_CI", "GITHUB_TOKEN", "GITLAB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    with served(request.param) as found:
        for name, value in found.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("GITHUB_TOKEN" if found.kind == "github" else "GITLAB_TOKEN", TOKEN)
        monkeypatch.setenv("GITHUB_REF", "refs/pull/12/merge")
        monkeypatch.setenv("CI_MERGE_REQUEST_IID", "12")
        yield found


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.md"
    path.write_text("first\n")
    return path


def test_a_comment_is_made_once_and_then_updated(rig: Rig, command: Command, text: Path) -> None:
    assert command("gitops", "comment", "preview-alice", text).out == "comment preview-alice: made\n"
    text.write_text("second\n")
    assert command("gitops", "comment", "preview-alice", text, "--json").json()["done"] == "updated"
    assert command("gitops", "comment", "preview-bob", text).code == 0
    first, other = (comment["body"] for comment in rig.comments)
    assert first.startswith(mark("preview-alice"))
    assert "second" in first
    assert "first" not in first
    assert "/99" in first
    assert other.startswith(mark("preview-bob"))


def test_a_comment_behind_many_others_is_found(rig: Rig, command: Command, text: Path) -> None:
    rig.comments += [rig.somebodys(body=f"talk {n}", id=n) for n in range(1, 201)]
    rig.comments.append(rig.mine(body=f"{mark('p')}\nold", id=500))
    assert "updated" in command("gitops", "comment", "p", text).out
    assert "first" in rig.comments[-1]["body"]
    assert len(rig.comments) == 201


def test_somebody_elses_comment_with_our_mark_is_left_alone(rig: Rig, command: Command, text: Path) -> None:
    theirs = rig.somebodys(body=f"{mark('p')}\nforged")
    rig.comments.append(theirs)
    assert "made" in command("gitops", "comment", "p", text).out
    assert theirs["body"].endswith("forged")
    assert len(rig.comments) == 2


def test_an_issue_is_opened_updated_and_closed(rig: Rig, command: Command, text: Path) -> None:
    assert "made" in command("gitops", "issue", "drift-alice", text, "--title", "Drift at alice").out
    assert "updated" in command("gitops", "issue", "drift-alice", text, "--title", "Drift at alice").out
    assert [(issue["title"], issue["open"]) for issue in rig.issues] == [("Drift at alice", True)]
    text.write_text("alice is as its documents say.\n")
    assert "closed" in command("gitops", "issue", "drift-alice", text, "--close").out
    assert [issue["open"] for issue in rig.issues] == [False]
    assert "nothing" in command("gitops", "issue", "drift-alice", text, "--close").out
    # A closed one stays closed: new drift is a new issue, with its own history.
    assert "made" in command("gitops", "issue", "drift-alice", text, "--title", "Drift at alice").out
    assert [issue["open"] for issue in rig.issues] == [False, True]


def test_a_pull_request_among_the_issues_is_none(rig: Rig, command: Command, text: Path) -> None:
    fields = {"labels": ["consortium"], "open": True, "title": "t", "number": 1, "iid": 1}
    body = {"body": mark("drift-alice"), "description": mark("drift-alice")}
    if rig.kind == "github":
        rig.issues.append(rig.mine(pull_request={"url": "…"}, **fields, **body))
    assert "made" in command("gitops", "issue", "drift-alice", text, "--title", "Drift").out


def test_a_refused_token_is_named_with_the_permission_and_not_shown(rig: Rig, command: Command, text: Path) -> None:
    rig.refuse = (403, "Resource not accessible")
    said = command("gitops", "comment", "p", text)
    assert said.code == 5
    assert "permissions: pull-requests: write" in said.err or "scope api" in said.err
    assert TOKEN not in said.out + said.err
    rig.refuse = (502, "bad gateway")
    assert command("gitops", "issue", "p", text, "--title", "t").code == 1
    assert [method for method, _, _ in rig.asked] == ["GET", "GET"], "nothing is written where it could not look"


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("API", "http://forge.example", "the token would travel in clear"),
        ("API", "http://127.0.0.1.evil.example", "the token would travel in clear"),
        ("TOKEN", "", "a variable of the pipeline is missing"),
    ],
)
def test_a_pipeline_that_is_set_up_wrongly_is_refused(
    rig: Rig, command: Command, text: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str
) -> None:
    names = {"github": {"API": "GITHUB_API_URL", "TOKEN": "GITHUB_TOKEN"}}
    names["gitlab"] = {"API": "CI_API_V4_URL", "TOKEN": "GITLAB_TOKEN"}
    monkeypatch.setenv(names[rig.kind][variable], value)
    found = command("gitops", "comment", "p", text)
    assert found.code == 2
    assert said in found.err
    assert rig.asked == []


def test_wrong_use_is_said(rig: Rig, command: Command, text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert command("gitops", "issue", "p", text).code == 2
    assert command("gitops", "issue", "p", text, "--title", "t", "--close").code == 2
    text.write_text(" \n")
    assert "there is nothing to say" in command("gitops", "comment", "p", text).err
    text.write_text("x" * 70_000)
    assert "too long for a comment" in command("gitops", "comment", "p", text).err
    text.write_text("x")
    monkeypatch.setenv("GITHUB_REF", "refs/heads/main")
    monkeypatch.delenv("CI_MERGE_REQUEST_IID")
    assert command("gitops", "comment", "p", text).code == 2
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    monkeypatch.delenv("GITLAB_CI", raising=False)
    assert "no pipeline of GitHub or GitLab" in command("gitops", "comment", "p", text).err


def test_nobody_there_is_exit_code_4(rig: Rig, command: Command, text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_API_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("CI_API_V4_URL", "http://127.0.0.1:1")
    assert command("gitops", "comment", "p", text).code == 4


OURS, THEIRS = Entry(3, "bot", f"{mark('a')}\nx"), Entry(1, "mallory", f"{mark('a')}\nx")
QUOTED = Entry(2, "bot", f"as we said: {mark('a')}")


@pytest.mark.parametrize(
    ("existing", "close", "decision"),
    [
        ([], False, Decision("made")),
        ([], True, Decision("nothing")),
        ([OURS], False, Decision("updated", 3)),
        ([OURS], True, Decision("closed", 3)),
        ([THEIRS, QUOTED], False, Decision("made")),
        ([THEIRS, QUOTED], True, Decision("nothing")),
        ([Entry(9, "bot", mark("a")), OURS], False, Decision("updated", 3)),
        ([Entry(9, "bot", mark("ab"))], False, Decision("made")),
    ],
)
def test_what_is_done_follows_from_what_is_there(existing: list[Entry], close: bool, decision: Decision) -> None:
    assert decide(existing, "bot", "a", close=close) == decision
