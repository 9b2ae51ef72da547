"""A lost or half-failed Ansible run must never look like a success."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import pytest

from consortium.ansible import AnsibleFailed, Event, Summary, run_playbook

LOCAL = {"ansible_connection": "local"}


def play(folder: Path, *tasks: dict[str, object], hosts: str = "all") -> Path:
    path = folder / "site.yml"
    path.write_text(json.dumps([{"hosts": hosts, "gather_facts": False, "tasks": list(tasks)}]))
    return path


def touch(path: Path) -> dict[str, object]:
    return {"name": "lay a file", "ansible.builtin.copy": {"dest": str(path), "content": "x", "mode": "0600"}}


def test_a_run_reports_what_it_changed_and_a_second_one_changes_nothing(tmp_path: Path) -> None:
    playbook = play(tmp_path, touch(tmp_path / "made"))
    first = run_playbook(playbook, {"head": {"one": LOCAL}})
    assert (first.changed, first.changes) == (1, {"one": ("lay a file",)})
    assert run_playbook(playbook, {"head": {"one": LOCAL}}) == Summary(ok=1, changed=0, changes={})


def test_check_mode_changes_nothing_and_says_what_would_change(tmp_path: Path) -> None:
    seen: list[Event] = []
    found = run_playbook(
        play(tmp_path, touch(tmp_path / "made")), {"head": {"one": LOCAL}}, check=True, on_event=seen.append
    )
    assert found.changes == {"one": ("lay a file",)}
    assert not (tmp_path / "made").exists()
    assert "changed" in [event.kind for event in seen]


def test_a_failed_task_names_host_task_and_message(tmp_path: Path) -> None:
    playbook = play(tmp_path, {"name": "open the vault", "ansible.builtin.fail": {"msg": "no key"}})
    with pytest.raises(AnsibleFailed) as failure:
        run_playbook(playbook, {"head": {"one": LOCAL}})
    assert "one: open the vault: no key" in str(failure.value)


def test_an_unreachable_host_fails_the_run(tmp_path: Path) -> None:
    nowhere = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}
    with pytest.raises(AnsibleFailed) as failure:
        run_playbook(play(tmp_path, touch(tmp_path / "made")), {"head": {"one": LOCAL}, "workers": {"two": nowhere}})
    assert failure.value.where == "two"


def test_a_host_that_no_play_touched_is_not_a_success(tmp_path: Path) -> None:
    playbook = play(tmp_path, touch(tmp_path / "made"), hosts="head")
    with pytest.raises(AnsibleFailed) as failure:
        run_playbook(playbook, {"head": {"one": LOCAL}, "workers": {"two": LOCAL}})
    assert "no result from two" in str(failure.value)


def test_a_broken_playbook_says_what_is_broken(tmp_path: Path) -> None:
    playbook = tmp_path / "site.yml"
    playbook.write_text("- hosts: all\n  tasks:\n    - no_such_module: {}\n")
    with pytest.raises(AnsibleFailed) as failure:
        run_playbook(playbook, {"head": {"one": LOCAL}})
    assert "no_such_module" in str(failure.value)


def test_secrets_stand_in_no_argument_and_no_file_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    leaks: list[str] = []
    looked = 0

    def look(event: Event) -> None:
        nonlocal looked
        for process in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                looked += 1
                if b"hunter2" in process.read_bytes():
                    leaks.append(str(process))

    (tmp_path / "project").mkdir()
    playbook = play(tmp_path / "project", touch(tmp_path / "made"))
    run_playbook(playbook, {"head": {"one": {**LOCAL, "a_secret": "hunter2"}}}, on_event=look)
    assert looked
    assert leaks == []
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith("consortium-ansible")] == []
