"""Pulumi runs with the workspace's own state and passphrase, and its failures say what to do."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from consortium import files
from consortium.errors import ConsortiumError, UsageError
from consortium.toolchain import ToolchainMissing
from consortium.workspace import PulumiFailed, Workspace
from tests.consortium import builders

Pulumi = Callable[..., Path]


def calls(record: Path) -> list[list[Any]]:
    return [json.loads(line) for line in record.read_text().splitlines()]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_nearest_workspace_upwards_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    builders.write(tmp_path)
    monkeypatch.chdir(tmp_path / "parties")
    assert Workspace.find().root == tmp_path.resolve()
    with pytest.raises(UsageError, match=r"no consortium\.yaml here\n"):
        Workspace.find(tmp_path / "parties")


def test_the_only_party_is_meant_when_none_is_named(tmp_path: Path) -> None:
    place = Workspace(builders.write(tmp_path, stack=None))
    with pytest.raises(UsageError, match="no party has joined"):
        place.party()
    builders.write(tmp_path)
    assert place.party() == place.party("alice") == "alice"
    with pytest.raises(UsageError) as caught:
        place.party("alise")
    assert "did you mean alice" in str(caught.value)
    (tmp_path / "stacks/Pulumi.bob.yaml").write_text("{}")
    with pytest.raises(UsageError, match="which party"):
        place.party()


def test_private_is_closed_again_whenever_it_is_used(tmp_path: Path) -> None:
    place = Workspace(builders.write(tmp_path))
    assert mode(place.private) == 0o700
    (tmp_path / ".private").chmod(0o755)
    assert mode(place.private) == 0o700
    assert place.make_passphrase()
    assert mode(place.passphrase_file) == 0o600
    assert not place.make_passphrase()
    place.passphrase_file.chmod(0o644)
    files.write(place.passphrase_file, place.passphrase_file.read_text(), private=True)
    assert mode(place.passphrase_file) == 0o600


def test_a_folder_that_cannot_be_made_private_is_an_error(tmp_path: Path) -> None:
    (tmp_path / ".private").write_text("")
    with pytest.raises(ConsortiumError, match="cannot make private"):
        Workspace(tmp_path).private  # noqa: B018 the access is the check


def test_files_are_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a/b"
    assert files.write(path, "one")
    assert not files.write(path, "one")
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(ConsortiumError) as caught:
        files.write(path, "two")
    assert "No space left" in str(caught.value)
    assert path.read_text() == "one"
    assert [p.name for p in path.parent.iterdir()] == ["b"]
    with pytest.raises(ConsortiumError, match="cannot read"):
        files.read(tmp_path / "nowhere")


def test_pulumi_gets_the_workspace_s_state_and_passphrase(tmp_path: Path, pulumi: Pulumi) -> None:
    record = pulumi(out="fine")
    place = Workspace(builders.write(tmp_path))
    assert place.pulumi("config", "set", "k", "--secret", party="alice", stdin="hunter2") == "fine"
    arguments, given, environment = calls(record)[0]
    assert given == "hunter2"
    assert "hunter2" not in " ".join(arguments)
    assert arguments[-5:] == ["--stack", "alice", "--non-interactive", "--color", "never"]
    assert environment["PULUMI_BACKEND_URL"] == (tmp_path / ".private/state").as_uri()
    assert environment["PULUMI_CONFIG_PASSPHRASE_FILE"] == str(tmp_path / ".private/passphrase")


def test_an_operator_s_own_backend_and_passphrase_are_left_alone(
    tmp_path: Path, pulumi: Pulumi, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = pulumi()
    monkeypatch.setenv("PULUMI_BACKEND_URL", "s3://bucket")
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", "mine")
    place = Workspace(builders.write(tmp_path))
    assert not place.make_passphrase()
    place.pulumi("about")
    environment = calls(record)[0][2]
    assert environment["PULUMI_BACKEND_URL"] == "s3://bucket"
    assert "PULUMI_CONFIG_PASSPHRASE_FILE" not in environment
    assert not (tmp_path / ".private/state").exists()


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("error: incorrect passphrase", ["does not fit this stack", ".private/passphrase", "put back"]),
        ("error: passphrase must be set with PULUMI_CONFIG_PASSPHRASE", ["finds no passphrase"]),
        ("error: the stack is currently locked by 1 lock(s)", ["another update", "consortium unlock"]),
        ("error: no stack named 'alice' found", ["not in the state backend", "consortium join"]),
        ("error: something else", ["pulumi up ended with exit code 255", "something else"]),
    ],
)
def test_failures_are_explained(tmp_path: Path, pulumi: Pulumi, said: str, words: list[str]) -> None:
    pulumi(code=255, err=said)
    with pytest.raises(PulumiFailed) as caught:
        Workspace(builders.write(tmp_path)).pulumi("up", party="alice")
    for word in words:
        assert word in str(caught.value)


def test_the_variable_that_holds_a_wrong_passphrase_is_named_and_not_shown(
    tmp_path: Path, pulumi: Pulumi, monkeypatch: pytest.MonkeyPatch
) -> None:
    pulumi(code=1, err="incorrect passphrase")
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", "hunter2")
    with pytest.raises(PulumiFailed) as caught:
        Workspace(builders.write(tmp_path)).pulumi("up")
    assert "the variable PULUMI_CONFIG_PASSPHRASE" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_progress_streams_and_failures_are_explained_too(
    tmp_path: Path, pulumi: Pulumi, capfd: pytest.CaptureFixture[str]
) -> None:
    place = Workspace(builders.write(tmp_path))
    pulumi(out="Updating", err="a warning\n")
    place.pulumi_live("up", "--yes", party="alice")
    assert capfd.readouterr().out == "Updating"
    pulumi(code=1, err="error: incorrect passphrase\n")
    with pytest.raises(PulumiFailed, match="does not fit"):
        place.pulumi_live("up")
    assert "incorrect passphrase" in capfd.readouterr().err
    pulumi(code=1, err="error: boom\n")
    with pytest.raises(PulumiFailed) as caught:
        place.pulumi_live("up")
    assert "stands above" in str(caught.value)


def test_no_pulumi_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("consortium.toolchain.AIRGAP", tmp_path / "none")
    with pytest.raises(ToolchainMissing, match="not on PATH"):
        Workspace(builders.write(tmp_path)).pulumi("about")
