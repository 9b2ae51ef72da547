"""Who may go over to other versions, and when: one wrong row here, and a consortium stands still unasked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from consortium.documents import load_model
from consortium.errors import DocumentErrors
from consortium.head_view import coordinator_config
from consortium.node_file import NodeFile
from consortium.release import brings
from consortium.upgrade.before import of_state
from consortium.upgrade.decide import Peer, Runs, Seen, run_refused, said, up_refused
from consortium.upgrade.observe import running
from consortium.versions import Maintenance
from coordinator.config import Maintenance as CoordinatorsMaintenance
from tests.consortium import builders

OLD, NEW, OTHER = "1" * 64, "2" * 64, "3" * 64
FROM = datetime(2026, 12, 1, 22, tzinfo=UTC)
TO = FROM + timedelta(hours=1)
PACKAGES = builders.VERSIONS
WINDOW = Maintenance.model_validate({"from": FROM.isoformat(), "to": TO.isoformat(), "versions": {"coordinator": NEW}})
RUNS = Runs({**PACKAGES, "coordinator": OLD}, "old-files", (FROM, TO))


def seen(**changed: Any) -> Seen:
    """In the window, all have its file in force, and the release that it names is installed here."""
    usual = {
        "now": FROM + timedelta(minutes=1),
        "party": "alice",
        "agreed": {**PACKAGES, "coordinator": NEW},
        "files": "new-files",
        "brings": {**PACKAGES, "coordinator": NEW},
        "window": WINDOW,
        "runs": RUNS,
        "peers": {"bob": Peer("old-files", OLD), "carol": Peer("new-files", NEW)},
    }
    return Seen(**usual | changed)


NOT_GONE_OVER = {"agreed": PACKAGES, "brings": {**PACKAGES, "coordinator": OLD}, "files": "old-files"}
"""The release that runs is still the one installed here."""
NO_WINDOW = {"window": None, "agreed": PACKAGES}

UP: list[tuple[str, dict[str, Any], str]] = [
    ("the release that runs, before the window", NOT_GONE_OVER | {"now": FROM - timedelta(days=1)}, ""),
    ("the release that runs, in the window", NOT_GONE_OVER, ""),
    ("the release that runs, after the window", NOT_GONE_OVER | {"now": TO}, ""),
    ("it has gone over", {"runs": replace(RUNS, versions={**PACKAGES, "coordinator": NEW})}, ""),
    ("nothing runs", {"runs": None}, ""),
    ("nobody agreed on a release of the coordinator", NO_WINDOW, ""),
    ("before the window", {"now": FROM - timedelta(seconds=1)}, "has not begun"),
    ("after the window", {"now": TO}, "is over"),
    ("in the window", {}, "takes more than `up`"),
    ("a third release", {"brings": {**PACKAGES, "coordinator": OTHER}, "agreed": PACKAGES}, "no maintenance window"),
    ("late, when the others have tidied up", {"window": None}, "no maintenance window"),
    ("other packages than agreed", NO_WINDOW | {"brings": {**PACKAGES, "ray": "2.10.0"}}, "another version of ray"),
    ("other packages, nothing runs", {"runs": None, "brings": {**PACKAGES, "ray": "2.10.0"}}, "another version of ray"),
    (
        "an image of one's own with other packages",
        NO_WINDOW | {"brings": {**PACKAGES, "ray": "2"}, "own_image": True},
        "",
    ),
    ("own image, another coordinator", {"own_image": True}, "takes more than `up`"),
]


@pytest.mark.parametrize(("changed", "refused"), [row[1:] for row in UP], ids=[row[0] for row in UP])
def test_up(changed: Mapping[str, Any], refused: str) -> None:
    problem = up_refused(seen(**changed))
    assert (refused in str(problem)) if refused else problem is None, str(problem)


RUN: list[tuple[str, dict[str, Any], list[str], list[str]]] = [
    # name, what differs, refusals, refusals with --now
    ("in the window, all agree", {}, [], []),
    ("before the window", {"now": FROM - timedelta(seconds=1)}, ["has not begun"], []),
    ("after the window", {"now": TO}, ["is over"], []),
    ("no image", {"image_here": False}, ["is not on the engine"], ["is not on the engine"]),
    ("hosts", {"placement": "ssh"}, ["hosts keep no earlier packages"], ["hosts keep no earlier packages"]),
    ("nothing runs", {"runs": None}, ["does not answer"], ["does not answer"]),
    ("nothing runs, cut off", {"runs": None, "begun": True}, ["consortium upgrade back"], ["consortium upgrade back"]),
    ("own file is older", {"runs": replace(RUNS, window=None)}, ["does not know this window yet"], []),
    ("a peer's file is another", {"peers": {"bob": Peer("x")}}, ["bob has other consortium files"], []),
    ("a peer is silent", {"peers": {"bob": Peer(error="HTTP 503")}}, ["bob does not say"], []),
    ("no window", {"window": None}, ["no maintenance window"], []),
    ("a third release", {"brings": {**PACKAGES, "coordinator": OTHER}}, ["another version of coordinator"], []),
    (
        "everything at once",
        {"now": TO, "image_here": False, "peers": {"bob": Peer("x"), "carol": Peer(error="?")}},
        ["is not on the engine", "is over", "bob has other", "carol does not say"],
        ["is not on the engine"],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("changed", "refused", "anyhow"), [row[1:] for row in RUN], ids=[row[0] for row in RUN])
def test_upgrade_run(changed: Mapping[str, Any], refused: list[str], anyhow: list[str]) -> None:
    for now, wanted in ((False, refused), (True, anyhow)):
        problems = [str(problem) for problem in run_refused(seen(**changed), now=now)]
        missing = [text for text in wanted if not any(text in problem for problem in problems)]
        assert not missing, problems
        assert bool(problems) is bool(wanted), problems


def test_a_second_run_has_nothing_to_do_and_one_that_was_cut_off_goes_on() -> None:
    over = seen(runs=replace(RUNS, versions={**PACKAGES, "coordinator": NEW}))
    assert over.nothing_to_do
    assert run_refused(over) == []
    assert not replace(over, begun=True).nothing_to_do
    assert not seen(runs=None).nothing_to_do


def test_what_changes_is_said_with_both_values() -> None:
    assert said(seen().changes) == f"coordinator {'1' * 12} → {'2' * 12}"


def maintenance(**versions: str) -> dict[str, Any]:
    return {"from": "2026-12-01T22:00:00Z", "to": "2026-12-01T23:00:00Z", "versions": versions}


def test_for_the_release_that_comes_the_file_means_what_it_will_say_afterwards(tmp_path: Path) -> None:
    """So whoever tidies up the file changes no digest, and who has gone over differs from who has not."""
    ours = brings()["coordinator"]
    agreed = {"versions": {**PACKAGES, "coordinator": OLD}}

    def model(folder: str, **document: Any) -> Any:
        return load_model(builders.write(tmp_path / folder, consortium=builders.consortium(**document)), "alice")

    gone_over = model("a", **agreed, maintenance=maintenance(coordinator=ours))
    tidy = model("b", versions={**PACKAGES, "coordinator": ours})
    waiting = model("c", **agreed, maintenance=maintenance(coordinator=OTHER))
    assert gone_over.digest() == tidy.digest()
    assert len({gone_over.digest(), waiting.digest(), model("d", **agreed).digest()}) == 3
    told = {
        name: coordinator_config(m, {}) for name, m in {"over": gone_over, "waiting": waiting, "tidy": tidy}.items()
    }
    assert [told[name]["release"] for name in ("over", "waiting", "tidy")] == [ours, OLD, ours]
    assert [told[name]["versions"] for name in told] == [PACKAGES] * 3, (
        "what a job is approved for names no coordinator"
    )
    window = CoordinatorsMaintenance.model_validate_json(json.dumps(told["over"]["maintenance"]))
    assert window.open(FROM.timestamp()), "it waits for the others all the same"
    assert told["tidy"]["maintenance"] is None


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"from": "2026-12-01T22:00:00Z", "to": "2026-12-01T22:00:00Z"}, "`to` must be after `from`"),
        ({"from": "2026-12-01T22:00:00Z", "to": "2026-12-10T22:00:00Z"}, "at most 7 days"),
        ({"from": "2026-12-01T22:00:00+01:00"}, "must be in UTC"),
        ({"from": "2026-12-01T22:00:00"}, "maintenance.from"),
        ({"versions": {}}, "names nothing that changes"),
        ({"versions": {"ray": PACKAGES["ray"]}}, "stays as it is"),
        ({"versions": {"rya": "2.10.0"}}, "did you mean ray"),
        ({"versions": {"coordinator": "latest"}}, "maintenance.versions.coordinator"),
        ({"until": "2026-12-01T23:00:00Z"}, "unknown field until"),
    ],
)
def test_a_wrong_window_is_named(tmp_path: Path, document: dict[str, Any], said: str) -> None:
    wrong = builders.consortium(maintenance={**maintenance(coordinator=NEW), **document})
    with pytest.raises(DocumentErrors) as caught:
        load_model(builders.write(tmp_path, consortium=wrong), "alice")
    assert said in str(caught.value)


def test_what_was_there_is_found_in_pulumis_state() -> None:
    file = NodeFile("/etc/x", "content", service="coordinator", on_change="restart", secret=True)
    hosts = {"alice-head": {"group": "head", "base_files": [file.as_variables()]}}
    state = {
        "deployment": {
            "resources": [
                {"type": "pulumi:pulumi:Stack"},
                {"type": "docker:index/remoteImage:RemoteImage", "inputs": {"name": "consortium-node:1"}},
                {
                    "type": "pulumi-python:dynamic/consortium:Converge",
                    "inputs": {"payload": {"plaintext": json.dumps(json.dumps(hosts))}},
                },
            ]
        }
    }
    found = of_state(state)
    assert found["image"] == "consortium-node:1"
    assert [NodeFile(**entry) for entry in found["files"]["alice-head"]] == [file]


def test_a_coordinator_of_an_earlier_release_says_less() -> None:
    status = {
        "versions": PACKAGES,
        "consortium_digest": "f",
        "jobs": {"approved": 3, "running": 0},
        "slots": {"used": {}},
    }
    assert running(status) == Runs({**PACKAGES, "coordinator": ""}, "f")
    assert running({**status, "slots": {"used": {"0": "job"}}}).active == {"running": 0}
