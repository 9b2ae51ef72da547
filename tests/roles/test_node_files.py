"""One module lays every file of a node: what it promises."""

from __future__ import annotations

import json
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

Run = Callable[..., dict[str, Any]]
RAY, GATEWAY = ({"service": name, "on_change": "restart"} for name in ("ray", "gateway"))


def test_files_stand_with_content_and_mode_and_the_second_run_changes_nothing(run: Run, tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder" / "a.yaml"
    first = run((target, "one\n", GATEWAY))
    assert (first["changed"], first["restart"], first["paths"]) == (True, ["gateway"], [str(target)])
    assert target.read_text() == "one\n"
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert stat.S_IMODE(target.parent.stat().st_mode) == 0o755
    second = run((target, "one\n", GATEWAY))
    assert (second["changed"], second["restart"], second["diff"]) == (False, [], [])


def test_only_services_of_changed_files_restart(run: Run, tmp_path: Path) -> None:
    a, b, c = (tmp_path / name for name in "abc")
    run(
        (a, "1", RAY),
        (b, "1", GATEWAY),
        (c, "1", {}),
    )
    assert run(
        (a, "2", RAY),
        (b, "1", GATEWAY),
        (c, "2", {}),
    )["restart"] == ["ray"]


def test_a_mode_that_was_changed_by_hand_is_set_right(run: Run, tmp_path: Path) -> None:
    target = tmp_path / "a"
    run((target, "1", {}))
    target.chmod(0o666)
    found = run((target, "1", {}))
    assert found["changed"]
    assert "0666" in found["diff"][0]["before_header"]
    assert stat.S_IMODE(target.stat().st_mode) == 0o640


def test_a_file_no_longer_listed_goes_and_its_service_restarts(run: Run, tmp_path: Path) -> None:
    kept, gone, foreign = tmp_path / "kept", tmp_path / "gone", tmp_path / "foreign"
    foreign.write_text("not ours")
    run((kept, "1", {}), (gone, "1", RAY))
    found = run((kept, "1", {}))
    assert found["restart"] == ["ray"]
    assert not gone.exists()
    assert kept.exists()
    assert foreign.exists()
    assert not run((kept, "1", {}))["changed"]


def test_check_mode_tells_the_same_and_touches_nothing(run: Run, tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    run((a, "old\n", {}), (b, "1", {}))
    before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in tmp_path.rglob("*") if p.is_file()}
    found = run(
        (a, "new\n", RAY),
        (tmp_path / "sub" / "c", "1", {}),
        _ansible_check_mode=True,
    )
    assert found["changed"]
    assert found["restart"] == ["ray"]
    assert set(found["paths"]) == {str(a), str(b), str(tmp_path / "sub" / "c")}
    assert {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in tmp_path.rglob("*") if p.is_file()} == before
    diff = next(d for d in found["diff"] if d["after_header"].startswith(str(a)))
    assert (diff["before"], diff["after"]) == ("old\n", "new\n")


def test_a_secret_is_in_no_output_whether_new_changed_or_failing(run: Run, tmp_path: Path) -> None:
    target = tmp_path / "key"
    outputs = [
        run(secret=((target, "hunter2-first"),)),
        run(secret=((target, "hunter2-second"),)),
        run(secret=((target, "hunter2-third"), (Path("relative"), "hunter2-fourth"))),
        run(secret=((target, "hunter2-fifth"),), _ansible_check_mode=True, _ansible_verbosity=4),
    ]
    assert [bool(o.get("failed")) for o in outputs] == [False, False, True, False]
    assert target.read_text() == "hunter2-second"
    for output in outputs:
        assert "hunter2" not in output["_raw"]
    assert outputs[1]["diff"][0]["after"] == "(secret of 14 bytes)\n"


def test_public_contents_are_not_repeated_in_the_result(run: Run, tmp_path: Path) -> None:
    found = run((tmp_path / "a", "long text", {}), _ansible_diff=False)
    assert "long text" not in found["_raw"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"owner": "nobody-of-that-name"}, "nobody-of-that-name"),
        ({"mode": "rw"}, "octal"),
        ({"path": "relative/path"}, "absolute path"),
        ({"path": "/etc/../etc/x"}, "absolute path"),
    ],
)
def test_a_wrong_entry_is_named_and_nothing_is_written(
    run: Run, tmp_path: Path, change: dict[str, str], said: str
) -> None:
    good = tmp_path / "good"
    found = run((good, "1", {}), (tmp_path / "bad", "1", change))
    assert found["failed"]
    assert said in found["msg"]
    assert not good.exists()


def test_one_path_twice_is_refused(run: Run, tmp_path: Path) -> None:
    assert "more than once" in run((tmp_path / "a", "1", {}), (tmp_path / "a", "2", {}))["msg"]


def test_a_damaged_manifest_is_named(run: Run, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{")
    assert "manifest.json" in run((tmp_path / "a", "1", {}))["msg"]


def test_a_reader_never_sees_half_a_file(node_files: ModuleType, tmp_path: Path) -> None:
    target = tmp_path / "a"
    contents = [bytes([65 + k]) * 200_000 for k in range(2)]
    uid, gid = os.geteuid(), os.getegid()

    def lay(content: bytes) -> None:
        node_files.write(node_files.Wanted(str(target), content, 0o600, uid, gid, None, None, False))

    lay(contents[0])
    stop, seen = threading.Event(), set()

    def read() -> None:
        while not stop.is_set():
            seen.add(target.read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    for k in range(60):
        lay(contents[k % 2])
    stop.set()
    reader.join()
    assert seen <= set(contents)


def test_a_failed_write_leaves_the_old_file_and_no_draft(
    node_files: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "a"
    target.write_text("old")

    def no_space(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(node_files.os, "fsync", no_space)
    with pytest.raises(OSError, match="No space"):
        node_files.write(node_files.Wanted(str(target), b"new", 0o600, os.geteuid(), os.getegid(), None, None, False))
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert target.read_text() == "old"


def test_a_run_cut_off_in_the_middle_still_remembers_what_it_laid(
    node_files: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = tmp_path / "manifest.json"
    uid, gid = os.geteuid(), os.getegid()
    wanted = [node_files.Wanted(str(tmp_path / n), b"1", 0o600, uid, gid, None, None, False) for n in "ab"]
    real = node_files.write

    def cut_off(one: Any) -> None:
        if one.path.endswith("/b"):
            raise KeyboardInterrupt
        real(one)

    monkeypatch.setattr(node_files, "write", cut_off)
    with pytest.raises(KeyboardInterrupt):
        node_files.converge(wanted, str(manifest), check=False)
    assert set(json.loads(manifest.read_text())) == {str(tmp_path / "a"), str(tmp_path / "b")}


def test_folders_get_mode_and_owner_and_keep_what_is_in_them(run: Run, tmp_path: Path, me: dict[str, str]) -> None:
    folder = tmp_path / "jobs"
    wanted = [{"path": str(folder), "mode": "2770", **me}]
    assert run(folders=wanted, _ansible_check_mode=True)["changed"]
    assert not folder.exists()
    assert run(folders=wanted)["changed"]
    (folder / "kept").write_text("1")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o2770
    assert not run(folders=wanted)["changed"]
    assert (folder / "kept").exists()


def test_a_reload_is_asked_for_apart_and_a_restart_includes_it(run: Run, tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    reload, restart = {"service": "c", "on_change": "reload"}, {"service": "c", "on_change": "restart"}
    run((a, "1", reload), (b, "1", restart))
    found = run((a, "2", reload), (b, "1", restart))
    assert (found["restart"], found["reload"]) == ([], ["c"])
    found = run((a, "3", reload), (b, "2", restart))
    assert (found["restart"], found["reload"]) == (["c"], [])
    assert run((b, "2", restart))["reload"] == ["c"], "a file that goes asks for the same"


def test_what_a_run_that_was_cut_off_did_not_do_is_asked_for_again(run: Run, tmp_path: Path) -> None:
    """The files are right then, and nothing else would tell that the service still has the old ones in its memory."""
    a, b, pending = tmp_path / "a", tmp_path / "b", tmp_path / "pending"
    files = (a, "1", {"service": "c", "on_change": "reload"}), (b, "1", {"service": "c", "on_change": "restart"})
    assert run(*files, pending=str(pending))["restart"] == ["c"]
    again = run(*files, pending=str(pending))
    assert (again["changed"], again["restart"], again["paths"]) == (True, ["c"], [])
    changed = (a, "2", files[0][2]), files[1]
    assert run(*changed, pending=str(pending))["restart"] == ["c"], "a reload does not make up for a restart"
    assert run(*changed, pending=str(pending), _ansible_check_mode=True)["changed"]
    (pending / "c").unlink()
    done = run(*changed, pending=str(pending))
    assert (done["changed"], done["restart"], done["reload"]) == (False, [], [])


def test_files_go_after_the_others_are_laid(node_files: ModuleType, tmp_path: Path) -> None:
    """What stood in them is still referred to until then."""
    uid, gid = os.geteuid(), os.getegid()
    old = node_files.Wanted(str(tmp_path / "sds-peer"), b"1", 0o600, uid, gid, None, None, False)
    node_files.converge([old], str(tmp_path / "manifest"), check=False)
    new = node_files.Wanted(str(tmp_path / "sub" / "lds"), b"1", 0o600, 2**33, gid, None, None, False)
    with pytest.raises((OSError, OverflowError)):
        node_files.converge([new], str(tmp_path / "manifest"), check=False)
    assert (tmp_path / "sds-peer").exists()
