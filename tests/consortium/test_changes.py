"""What a reviewer is shown must be all that would change, and nothing a stranger wrote may act in it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from consortium.ansible import Event, run_playbook
from consortium.ansible_diff import DIFF_OF, MAX_LINES, unified
from consortium.changes import AnsibleChange, Change, Changes, read
from consortium.errors import ConsortiumError
from consortium.gitops.report import MAX_CHARACTERS, changes_report, error_report
from tests.consortium import builders
from tests.consortium.conftest import Command

URN = "urn:pulumi:alice::consortium::consortium:index:Institution$"
NODE = f"{URN}docker:index/container:Container::alice-head"
CONVERGE = f"{URN}pulumi-python:dynamic/consortium:Converge::alice-converge"
DIFF = "--- /etc/a (0644 0:0)\n+++ /etc/a (0644 0:0)\n@@ -1 +1 @@\n-old\n+new"


def preview(*steps: tuple[str, str], messages: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "steps": [{"op": op, "urn": urn} for op, urn in steps],
        "diagnostics": [{"urn": CONVERGE, "severity": "info", "message": f"{text}\n"} for text in messages],
    }


UPDATE = preview(
    ("same", NODE),
    ("update", CONVERGE),
    messages=("will converge: role base changed", f"{DIFF_OF}alice-head: Lay the files: all\n{DIFF}"),
)


def found(**overrides: Any) -> Changes:
    whole = {
        "party": "alice",
        "resources": (Change("update", "Converge", "alice-converge"),),
        "unchanged": 3,
        "reasons": ("will converge",),
        "ansible": (AnsibleChange("alice-head", "Lay", DIFF),),
    }
    return Changes(**{**whole, **overrides})  # type: ignore[arg-type]


def test_a_preview_is_read_into_resources_reasons_and_diffs() -> None:
    assert read("alice", UPDATE) == Changes(
        party="alice",
        resources=(Change("update", "Converge", "alice-converge"),),
        unchanged=1,
        reasons=("will converge: role base changed",),
        ansible=(AnsibleChange("alice-head", "Lay the files: all", DIFF),),
    )


@pytest.mark.parametrize(
    ("steps", "ops"),
    [
        ([("same", NODE)], []),
        ([], []),
        # A refresh says what differs in the state; the step after it says whether anything must be done.
        ([("update", NODE), ("same", NODE)], []),
        ([("refresh", NODE), ("same", NODE)], []),
        ([("delete", NODE), ("create", NODE)], ["create"]),
        ([("refresh", CONVERGE), ("update", CONVERGE)], ["update"]),
    ],
)
def test_the_last_step_of_a_resource_counts(steps: list[tuple[str, str]], ops: list[str]) -> None:
    assert [change.op for change in read("alice", preview(*steps)).resources] == ops


def fences(text: str) -> list[str]:
    """What a Markdown reader takes for the insides of fenced blocks."""
    return re.findall(r"^(`{3,})\w*\n(.*?)\n\1$", text, re.MULTILINE | re.DOTALL)


def test_nothing_of_a_strangers_text_stands_outside_of_a_fence() -> None:
    hostile = "+```\n+````\n+@everyone [x](http://evil) <img src=x>"
    report = changes_report("t", found(ansible=(AnsibleChange("h", "<b>@you", hostile),)), clean="")
    outside = re.sub(r"^(`{3,})\w*\n(.*?)\n\1$", "", report, flags=re.MULTILINE | re.DOTALL)
    assert hostile in [inside for _, inside in fences(report)]
    assert "everyone" not in outside
    assert "@you" not in outside
    assert "<b>" not in outside


def test_a_report_fits_a_comment_and_says_what_it_leaves_out() -> None:
    many = tuple(AnsibleChange("alice-head", f"task {n}", "+x\n" * 2000) for n in range(30))
    report = changes_report("t", found(ansible=many), clean="")
    assert len(report) < MAX_CHARACTERS + 200
    left = re.search(r"(\d+) more: `consortium preview --party alice --diff`", report)
    assert left is not None
    assert report.count("<details>") + int(left[1]) == 30
    assert len(error_report("t", ConsortiumError("x" * 200_000))) < MAX_CHARACTERS


def test_a_report_of_nothing_says_so() -> None:
    assert "Nothing." in changes_report("t", found(resources=(), ansible=(), reasons=()), clean="Nothing.")


@pytest.mark.parametrize(
    ("diff", "said"),
    [
        ({"before": "a\nb\n", "after": "a\nc\n", "before_header": "/x", "after_header": "/x"}, "-b\n+c"),
        ({"before": "", "after": "", "before_header": "/x (0644)", "after_header": "/x (absent)"}, "+++ /x (absent)"),
        ({"before": {"mode": "0644"}, "after": {"mode": "0600"}}, '+ "mode": "0600"'),
        ({"before": "", "after": "\u202e\x1b[2K"}, "+<U+202E><U+001B>[2K"),
        ({"after": "x"}, "+x"),
    ],
)
def test_a_diff_of_a_task_is_shown_whole(diff: dict[str, Any], said: str) -> None:
    assert said in unified({"diff": diff})[0]
    assert unified({"diff": [diff, diff]}) == unified({"diff": [diff]}) * 2


def test_a_long_diff_says_what_it_leaves_out() -> None:
    (text,) = unified({"diff": {"before": "", "after": "x\n" * (MAX_LINES + 7)}})
    assert text.endswith("… 10 more lines")  # with the three lines of its head


def test_a_secret_is_in_no_diff_of_the_module_that_lays_files(tmp_path: Path) -> None:
    """The real module, in check mode, on this machine."""
    root = Path(__file__).resolve().parents[2]
    secret, plain = tmp_path / "secret", tmp_path / "plain"
    for path in (secret, plain):
        path.write_text("old\n")
    entry = {"mode": "0600", "owner": "root", "group": "root"}
    task = {
        "name": "lay",
        "node_files": {
            "files": [{"path": str(plain), "content": "shown\n", **entry}],
            "secret_files": [{"path": str(secret), "content": "hidden\n", **entry}],
            "manifest": str(tmp_path / "manifest"),
        },
    }
    playbook = tmp_path / "site.yml"
    playbook.write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": [task]}]))
    library = {"ANSIBLE_LIBRARY": str(root / "roles/base/library")}
    seen: list[Event] = []
    local = {"one": {"ansible_connection": "local"}}
    run_playbook(playbook, {"head": local}, env=library, check=True, on_event=seen.append)
    (event,) = [event for event in seen if event.kind == "changed"]
    text = "\n".join(event.diff)
    assert "-old\n+shown" in text
    assert "hidden" not in text
    assert "(secret of" in text


def preview_of(pulumi: Callable[..., Path], document: dict[str, Any], **more: Any) -> Path:
    return pulumi(out=json.dumps(document), **more)


def test_drift_ends_with_seven_and_writes_no_state(
    command: Command, pulumi: Callable[..., Path], tmp_path: Path
) -> None:
    workspace = builders.write(tmp_path / "w")
    calls = preview_of(pulumi, UPDATE)
    said = command("drift", "-w", workspace)
    assert said.code == 7
    assert "-old\n+new" in said.out
    assert json.loads(calls.read_text())[0][:4] == ["preview", "--json", "--show-sames", "--refresh"]
    assert "### alice is not as its documents say" in command("drift", "--markdown", "-w", workspace).out
    assert command("drift", "--json", "-w", workspace).json()["ansible"][0]["host"] == "alice-head"
    assert command("drift", "--json", "--markdown", "-w", workspace).code == 2


def test_no_drift_ends_with_nothing(command: Command, pulumi: Callable[..., Path], tmp_path: Path) -> None:
    workspace = builders.write(tmp_path / "w")
    preview_of(pulumi, preview(("same", NODE), ("same", CONVERGE)))
    said = command("drift", "-w", workspace)
    assert (said.code, said.out) == (0, "alice is as its documents say.\n")
    assert command("drift", "--json", "-w", workspace).json()["changes"] is False


def test_what_cannot_be_seen_is_no_drift(command: Command, pulumi: Callable[..., Path], tmp_path: Path) -> None:
    workspace = builders.write(tmp_path / "w")
    failed = {"diagnostics": [{"severity": "error", "message": "the engine does not answer"}]}
    preview_of(pulumi, failed, code=255)
    said = command("drift", "--markdown", "-w", workspace)
    assert said.code == 1
    assert "This failed:" in said.out
    assert "the engine does not answer" in said.out
    assert "{" not in said.out + said.err


def test_a_preview_as_a_comment(command: Command, pulumi: Callable[..., Path], tmp_path: Path) -> None:
    workspace = builders.write(tmp_path / "w")
    calls = preview_of(pulumi, UPDATE)
    said = command("preview", "--diff", "--markdown", "-w", workspace)
    assert said.code == 0
    assert "1 to change, 1 unchanged" in said.out
    assert "+new" in said.out
    assert "--refresh" not in json.loads(calls.read_text())[0]
    assert command("preview", "--markdown", "-w", workspace, "--", "--target", "x").code == 2
