"""What a program is given: a session file is read whole or refused by name; SecretFlow's options follow from it."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from coordinator import session as module
from coordinator.session import SessionError, bound, init_options, load, session, slot_ports, spu_cluster, write_json


def document(**changes: Any) -> dict[str, Any]:
    """A session file of bob's; each test changes one thing."""
    return {
        "consortium": "demo",
        "party": "bob",
        "parties": ["alice", "bob"],
        "job_id": "j1",
        "attempt": 1,
        "job_name": "j1-1",
        "slot": 0,
        "ray_address": "ray-head:6379",
        "fed": {"listen": "0.0.0.0:20000", "peers": {"alice": "gateway:21000"}, "resources": {"consortium_fed": 0.01}},
        "spu": {"listen": "0.0.0.0:20001", "peers": {"alice": "gateway:21001"}},
        "datasets": {"alice": {"customers": None}, "bob": {"patients": "/data/patients.csv"}},
        "output_dir": "/run/jobs/j1",
        "timeouts": {
            "cross_silo_comm_options": {"timeout_in_ms": 20000},
            "link_desc": {"connect_retry_times": 60},
            "init_s": 60,
            "shutdown_s": 15,
            "job_s": 600,
            "go_s": 60,
            "lease_s": 60,
        },
        "lease_file": "",
        "go_file": "",
        "parameters": {"key": "id"},
    } | changes


def write(folder: Path, **changes: Any) -> Path:
    path = folder / "session.json"
    path.write_text(json.dumps(document(**changes)))
    return path


def test_reading_needs_no_secretflow(tmp_path: Path) -> None:
    """The module is imported by the coordinator too, whose environment has no SecretFlow."""
    code = "import sys, coordinator.session; assert not {'secretflow', 'ray', 'spu'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_own_address_is_where_to_listen_and_peers_are_the_gateway(tmp_path: Path) -> None:
    options = init_options(load(write(tmp_path)))
    assert options["cluster_config"] == {
        "parties": {"alice": {"address": "gateway:21000"}, "bob": {"address": "0.0.0.0:20000"}},
        "self_party": "bob",
    }
    assert options["job_name"] == "j1-1"
    comm = options["cross_silo_comm_options"]
    assert comm["timeout_in_ms"] == 20000
    assert comm["recv_resource_label"] == {"consortium_fed": 0.01}
    assert comm["use_global_proxy"] is False
    assert comm["exit_on_sending_failure"] is True


def test_spu_ranks_follow_names_at_every_party(tmp_path: Path) -> None:
    nodes = spu_cluster(load(write(tmp_path)))["nodes"]
    assert [node["party"] for node in nodes] == ["alice", "bob"]
    assert nodes[0] == {"party": "alice", "address": "gateway:21001"}
    assert nodes[1]["listen_address"] == "0.0.0.0:20001"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"colour": "red"}, ["unknown field colour", "allowed:", "output_dir"]),
        ({"fed": {"listen": "0.0.0.0:1", "peer": {}}}, ["fed", "unknown field peer"]),
        ({"fed": {"listen": "0.0.0.0:1"}}, ["fed", "peers"]),
        ({"fed": "gateway"}, ["fed", "expected an object"]),
        ({"spu": {"listen": "0.0.0.0:1", "peers": {}}}, ["spu.peers", "['alice']"]),
        ({"party": "carol"}, ["party", "carol"]),
    ],
)
def test_a_bad_file_is_refused_by_file_and_field(tmp_path: Path, changes: dict[str, Any], words: list[str]) -> None:
    path = write(tmp_path, **changes)
    with pytest.raises(SessionError) as caught:
        load(path)
    for word in [str(path), *words]:
        assert word in str(caught.value)


def test_missing_fields_are_named(tmp_path: Path) -> None:
    path = tmp_path / "session.json"
    path.write_text(json.dumps({k: v for k, v in document().items() if k != "job_name"}))
    with pytest.raises(SessionError, match="job_name"):
        load(path)


@pytest.mark.parametrize("content", ["", "[1]", "{"])
def test_unreadable_content_is_a_session_error(tmp_path: Path, content: str) -> None:
    path = tmp_path / "session.json"
    path.write_text(content)
    with pytest.raises(SessionError, match=str(path)):
        load(path)


def test_a_program_without_its_file_ends_with_code_2(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CONSORTIUM_SESSION", str(tmp_path / "gone.json"))
    with pytest.raises(SystemExit) as caught:
        session()
    assert caught.value.code == 2
    assert "gone.json" in capsys.readouterr().err


def test_a_peers_path_is_only_a_label(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CONSORTIUM_SESSION", str(write(tmp_path)))
    s = session()
    assert s.dataset("bob", "patients") == "/data/patients.csv"
    assert s.dataset("alice", "customers") == "/alice/customers"
    assert s.output("bob", "x.csv") == "/run/jobs/j1/x.csv"
    assert s.output("alice", "x.csv") == "/alice/x.csv"


def test_slots_never_share_a_port() -> None:
    ports = [port for slot in range(100) for port in slot_ports(slot)]
    assert len(set(ports)) == len(ports)
    assert min(ports) > 19999
    assert max(ports) < 32768


def test_files_are_whole_and_private(tmp_path: Path) -> None:
    path = tmp_path / "out" / "result.json"
    write_json(path, {"a": 1})
    write_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 2}
    assert path.stat().st_mode & 0o777 == 0o640
    assert [p.name for p in path.parent.iterdir()] == ["result.json"]


def test_a_bound_that_is_met_never_fires() -> None:
    fired: list[str] = []
    bound(0.05, fired.append, "late")
    bound(0.05, fired.append, "never").set()
    time.sleep(0.3)
    assert fired == ["late"]


def run_program(tmp_path: Path, fake: str, body: str, **changes: Any) -> subprocess.CompletedProcess[str]:
    """A program against a stand-in for SecretFlow: the order of steps and the ends, without its seconds."""
    out = tmp_path / "out"
    write(tmp_path, output_dir=str(out), **changes)
    (tmp_path / "secretflow.py").write_text(fake)
    program = tmp_path / "main.py"
    program.write_text(f"from coordinator.session import session\nwith session() as s:\n    {body}\n")
    root = Path(module.__file__).parents[1]
    env = {**os.environ, "CONSORTIUM_SESSION": str(tmp_path / "session.json"), "PYTHONPATH": f"{tmp_path}:{root}"}
    return subprocess.run([sys.executable, str(program)], env=env, capture_output=True, text=True, timeout=30)


GOOD = "def init(**options): pass\ndef shutdown(): pass\n"


def test_a_good_program_leaves_result_times_and_code_0(tmp_path: Path) -> None:
    start_at = time.time() + 5  # it has to have loaded by then, on a busy machine too
    (tmp_path / "go.json").write_text(json.dumps({"start_at": start_at}))
    done = run_program(tmp_path, GOOD, "s.result({'n': 3})", go_file=str(tmp_path / "go.json"))
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "out/result.json").read_text()) == {"n": 3}
    times = json.loads((tmp_path / "out/session.json").read_text())
    assert times["shutdown"] == "clean"
    assert times["imports_done_at"] <= times["ready_at"] < start_at <= times["sf_init_entered_at"] < start_at + 0.2


def test_a_driver_says_that_it_has_loaded_and_does_not_begin_before_go(tmp_path: Path) -> None:
    timeouts = document()["timeouts"] | {"go_s": 0.3}
    done = run_program(tmp_path, GOOD, "s.result(1)", go_file=str(tmp_path / "none.json"), timeouts=timeouts)
    assert done.returncode == 1
    assert "no go within go_s = 0.3" in json.loads((tmp_path / "out/error.json").read_text())["error"]
    times = json.loads((tmp_path / "out/session.json").read_text())
    assert "ready_at" in times
    assert "sf_init_entered_at" not in times


def test_a_driver_whose_coordinator_is_gone_ends_itself(tmp_path: Path) -> None:
    lease = tmp_path / "lease"
    lease.touch()
    timeouts = document()["timeouts"] | {"lease_s": 0.5}
    body = "import time; time.sleep(20)"
    began = time.monotonic()
    done = run_program(tmp_path, GOOD, body, lease_file=str(lease), timeouts=timeouts)
    assert done.returncode == 1
    assert time.monotonic() - began < 10
    assert json.loads((tmp_path / "out/error.json").read_text())["error"].startswith("lease:")


def test_a_lease_that_is_renewed_lasts(tmp_path: Path) -> None:
    lease = tmp_path / "lease"
    lease.touch()
    timeouts = document()["timeouts"] | {"lease_s": 0.6}
    body = f"import os, time; [(time.sleep(0.1), os.utime({str(lease)!r})) for _ in range(15)]; s.result(1)"
    done = run_program(tmp_path, GOOD, body, lease_file=str(lease), timeouts=timeouts)
    assert done.returncode == 0, done.stderr


def test_a_go_that_cannot_be_read_is_no_go(tmp_path: Path) -> None:
    (tmp_path / "go.json").write_text("{}")
    done = run_program(tmp_path, GOOD, "s.result(1)", go_file=str(tmp_path / "go.json"))
    assert done.returncode == 1
    assert "go.json" in json.loads((tmp_path / "out/error.json").read_text())["error"]


def test_a_failing_program_names_its_error_and_does_not_wait_for_peers(tmp_path: Path) -> None:
    hangs = "import time\ndef init(**options): pass\ndef shutdown(): time.sleep(60)\n"
    done = run_program(tmp_path, hangs, "raise ValueError('no such column')")
    assert done.returncode == 1
    assert json.loads((tmp_path / "out/error.json").read_text())["error"] == "ValueError: no such column"
    assert not (tmp_path / "out/result.json").exists()


def test_a_shutdown_that_hangs_is_bounded_and_keeps_the_result(tmp_path: Path) -> None:
    hangs = "import time\ndef init(**options): pass\ndef shutdown(): time.sleep(60)\n"
    timeouts = document()["timeouts"] | {"shutdown_s": 0.3}
    done = run_program(tmp_path, hangs, "s.result(1)", timeouts=timeouts)
    assert done.returncode == 0
    assert json.loads((tmp_path / "out/session.json").read_text())["shutdown"] == "bounded"
    assert (tmp_path / "out/result.json").exists()


def test_an_init_that_hangs_ends_with_the_limits_name(tmp_path: Path) -> None:
    hangs = "import time\ndef init(**options): time.sleep(60)\n"
    timeouts = document()["timeouts"] | {"init_s": 0.3}
    done = run_program(tmp_path, hangs, "pass", timeouts=timeouts)
    assert done.returncode == 1
    assert "init_s = 0.3" in json.loads((tmp_path / "out/error.json").read_text())["error"]


def test_a_lost_message_ends_the_program(tmp_path: Path) -> None:
    """rayfed signals SIGINT to itself; Ray's Jobs API starts drivers with it blocked, so the session unblocks it."""
    fake = """
import os, signal, time
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
def init(**options):
    lost = options["cross_silo_comm_options"]["sending_failure_handler"]
    signal.signal(signal.SIGINT, lambda *_: lost(None))
"""
    done = run_program(tmp_path, fake, "import os, signal, time; os.kill(os.getpid(), signal.SIGINT); time.sleep(60)")
    assert done.returncode == 1
    assert "could not be delivered" in json.loads((tmp_path / "out/error.json").read_text())["error"]
