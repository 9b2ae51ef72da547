"""What a person types, reads and gets back as an exit code."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import typer

from consortium import cli
from consortium.cli._common import emit, err, report, say, visible
from consortium.cli.founding import parse_endpoint
from consortium.errors import EXIT_CODES, EXIT_UNREACHABLE, UsageError
from consortium.timeouts import TABLE
from tests.consortium import builders
from tests.consortium.conftest import Command

ROOT = Path(__file__).resolve().parents[2]


class Api:
    """An operator API on a real port: `answers` maps (method, path) to what it says."""

    def __init__(self) -> None:
        self.answers: dict[tuple[str, str], tuple[int, Any]] = {}
        self.asked: list[tuple[str, str, str]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0))).decode("latin-1")
                path = self.path.removeprefix("/api/v1").split("?")[0]
                outer.asked.append((self.command, path, body))
                missing = (404, {"detail": f"no {path}"})
                if self.headers["authorization"] != "Bearer t":
                    missing = (401, {"detail": "token"})
                status, answer = outer.answers.get((self.command, path), missing)
                text = isinstance(answer, str)
                self.send_response(status)
                self.send_header("content-type", "text/plain; charset=utf-8" if text else "application/json")
                self.end_headers()
                self.wfile.write((answer if text else json.dumps(answer)).encode())

            do_GET = do_POST = _answer

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def api(command: Command, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    served = Api()
    Thread(target=served.server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setenv("CONSORTIUM_API", served.url)
    monkeypatch.setenv("CONSORTIUM_TOKEN", "t")
    yield served
    served.server.shutdown()
    served.server.server_close()


JOB = {
    "job_id": "j1",
    "phase": "proposed",
    "reason": "because \x1b[31m[red]",
    "initiator": "bob",
    "attempt": 1,
    "terminal": False,
    "settled": False,
    "bundle_ready": True,
    "proposal_digest": "d" * 64,
    "approval_wanted": True,
    "parties": {"alice": "proposed", "bob": "approved"},
    "proposal": {"name": "psi", "program_digest": "abc", "datasets": {"alice": ["people"]}},
    "events": [{"at": 0, "kind": "job", "to": "proposed", "reason": "submitted"}],
}
PROGRAM: dict[str, Any] = {
    "program_digest": "abc",
    "proposal_digest": "d" * 64,
    "previous": None,
    "files": {"main.py": "print(1)\u202e\x1b[2K", "job.yaml": "name: psi"},
}


def names(app: Any) -> Iterator[list[str]]:
    """Every command with its path."""
    group = typer.main.get_command(app)
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        inner = getattr(command, "commands", None)
        yield from ([name, sub] for sub in inner) if inner else [[name]]


TEXT_ONLY = {
    "job logs": "what a program printed is text; nothing is added to it",
    "demo up": "a show for a person; the workspaces it leaves are asked with the other commands",
    "demo down": "a show for a person",
    "hosts tunnel": "it prints nothing that a program would read, and ends by a signal",
}


@pytest.mark.parametrize("name", list(names(cli.build())), ids=" ".join)
def test_every_command_has_help_with_an_example_and_json(command: Command, name: list[str]) -> None:
    said = command(*name, "--help")
    assert said.code == 0
    assert f"consortium {' '.join(name)}" in said.out.split("Example:")[1]
    assert ("--json" in said.out) == (" ".join(name) not in TEXT_ONLY)


def test_the_commands_without_json_are_there() -> None:
    assert set(TEXT_ONLY) <= {" ".join(name) for name in names(cli.build())}


def test_exit_codes_stand_in_the_help(command: Command) -> None:
    said = re.sub(r"\s+", " ", command("--help").out)
    for code, meaning in EXIT_CODES.items():
        assert f"{code} {meaning}" in said


def test_init_makes_a_workspace_and_keeps_what_was_edited(command: Command, tmp_path: Path) -> None:
    assert "made" in command("init", tmp_path, "--name", "trial", "--member", "alice", "--member", "bob").out
    for name in ("Pulumi.yaml", "__main__.py"):
        assert (tmp_path / name).read_text() == (ROOT / name).read_text()
    assert ".private/" in (tmp_path / ".gitignore").read_text()
    agreement = tmp_path / "consortium.yaml"
    agreement.write_text(agreement.read_text().replace("slots: 2 ", "slots: 3 "))
    again = command("init", tmp_path, "--name", "trial", "--json").json()["files"]
    assert again == {
        "consortium.yaml": "kept",
        "Pulumi.yaml": "unchanged",
        "__main__.py": "unchanged",
        ".gitignore": "unchanged",
    }
    assert "slots: 3 " in agreement.read_text()
    assert "--force replaces it" in command("init", tmp_path, "--name", "trial").out
    assert (
        command("init", tmp_path, "--name", "trial", "--force", "--json").json()["files"]["consortium.yaml"]
        == "replaced"
    )


def test_init_refuses_names_that_cannot_be_and_writes_nothing(command: Command, tmp_path: Path) -> None:
    said = command("init", tmp_path / "x", "--name", "Not: a name")
    assert said.code == 3
    assert command("init", tmp_path / "x", "--member", "one").code == 3
    assert not (tmp_path / "x").exists()


def test_lint_says_what_was_checked_or_everything_that_is_wrong(command: Command, tmp_path: Path) -> None:
    builders.write(tmp_path)
    assert "parties/bob.yaml" in command("lint", "-w", tmp_path).out
    assert command("--workspace", tmp_path, "lint", "--json").json()["problems"] == []
    builders.write(tmp_path, consortium=builders.consortium(slots=0), bob=None)
    said = command("lint", "-w", tmp_path)
    assert (said.code, said.out) == (3, "")
    assert "slots" in said.err
    machine = command("lint", "-w", tmp_path, "--json")
    assert machine.code == machine.json()["exit_code"] == 3
    assert machine.json()["error"]["problems"]


def test_usage_errors_are_exit_code_2(command: Command, tmp_path: Path) -> None:
    assert command("lint", "-w", tmp_path).code == 2
    assert command("lnt").code == 2
    builders.write(tmp_path, stack=None)
    assert command("outputs", "-w", tmp_path).code == 2
    assert command("join", "alice", "-w", tmp_path, "--endpoint", "nowhere").code == 2
    assert command("join", "alice", "-w", tmp_path, "--dataset", "nopath").code == 2


@pytest.mark.parametrize("arguments", [["lnt"], ["job", "approve"], ["lint", "--no-such"], ["job", "logs", "j", "x"]])
def test_wrong_usage_is_json_too(command: Command, arguments: list[str]) -> None:
    said = command(*arguments, "--json")
    assert said.code == said.json()["exit_code"] == 2
    assert said.json()["error"]["what"]
    assert command("job", "list", "--json", "--help").code == 0


def test_timeouts_prints_every_value_with_its_reason(command: Command, tmp_path: Path) -> None:
    builders.write(tmp_path)
    text = command("timeouts", "-w", tmp_path).out
    rows = command("timeouts", "-w", tmp_path, "--json").json()["timeouts"]
    assert [row["name"] for row in rows] == [row.name for row in TABLE]
    assert all(row["name"] in text and row["reason"] for row in rows)


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [("a.b:1", ("a.b", 1)), ("[fd00::1]:8443", ("fd00::1", 8443)), ("1.2.3.4:65535", ("1.2.3.4", 65535))],
)
def test_endpoints(text: str, endpoint: tuple[str, int]) -> None:
    assert parse_endpoint(text) == endpoint


@pytest.mark.parametrize("text", ["", "a", ":1", "a:0", "a:65536", "a:x", "a:²", "a:"])
def test_what_is_no_endpoint(text: str) -> None:
    with pytest.raises(UsageError):
        parse_endpoint(text)


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["up", "--yes", "--refresh"], ["up", "--yes", "--refresh", "--stack", "alice"]),
        (["up", "--", "--target", "x"], ["up", "--target", "x", "--stack", "alice"]),
        (["preview", "--diff"], ["preview", "--diff", "--stack", "alice"]),
        (["down", "-y", "-p", "alice"], ["destroy", "--exclude-protected", "--yes", "--stack", "alice"]),
        (["down", "-y", "--remove-data"], ["destroy", "--ignore-protect", "--yes", "--stack", "alice"]),
        (["unlock"], ["cancel", "--yes", "--stack", "alice"]),
        (["up", "--json"], ["up", "--stack", "alice"]),
        (["outputs"], ["stack", "output", "--json", "--stack", "alice"]),
    ],
)
def test_pulumi_is_run_for_the_party(
    command: Command, pulumi: Callable[..., Path], tmp_path: Path, arguments: list[str], wanted: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(builders.write(tmp_path))
    record = pulumi(out="{}")
    assert command(*arguments).code == 0
    run = json.loads(record.read_text())[0]
    assert run[: len(wanted)] == wanted


@pytest.mark.parametrize(("answer", "removed"), [("alice\n", True), ("yes\n", False), ("\n", False), ("bob\n", False)])
def test_data_is_removed_only_for_whoever_types_the_partys_name(
    command: Command, pulumi: Callable[..., Path], tmp_path: Path, answer: str, removed: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("sys.stdin", io.StringIO(answer))
    record = pulumi()
    said = command("down", "--remove-data", "-w", builders.write(tmp_path))
    assert (said.code, record.exists()) == ((0, True) if removed else (1, False))
    assert "for ever" in said.err


@pytest.mark.parametrize("name", ["up", "preview", "down", "unlock"])
def test_json_of_pulumi_commands_is_not_mixed_with_pulumis_words(
    pulumi: Callable[..., Path], tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("sys.argv", ["consortium", name, "--json", "-w", str(builders.write(tmp_path))])
    pulumi(out="Updating (alice)")
    with pytest.raises(SystemExit) as end:
        cli.main()
    said = capfd.readouterr()
    assert not end.value.code
    assert json.loads(said.out)["party"] == "alice"
    assert name == "unlock" or "Updating" in said.err


def test_outputs(command: Command, pulumi: Callable[..., Path], tmp_path: Path) -> None:
    pulumi(out='{"status_page": "http://x"}')
    assert "http://x" in command("outputs", "-w", builders.write(tmp_path)).out
    pulumi(out="{}")
    assert "consortium up" in command("outputs", "-w", tmp_path).out


def test_a_failing_pulumi_is_exit_code_1(command: Command, pulumi: Callable[..., Path], tmp_path: Path) -> None:
    pulumi(code=255, err="error: incorrect passphrase")
    said = command("up", "-w", builders.write(tmp_path))
    assert said.code == 1
    assert "put back the passphrase" in said.err


def test_join_says_what_it_made(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from consortium import joining

    builders.write(tmp_path)
    asked: list[joining.Wishes] = []

    def fake(place: Any, party: str, wishes: joining.Wishes) -> joining.Joined:
        asked.append(wishes)
        return joining.Joined(party, tmp_path / "p", tmp_path / "s", "AA:BB", 396, ("caKey",))

    monkeypatch.setattr(joining, "join", fake)
    monkeypatch.chdir(tmp_path / "parties")
    arguments = [
        "join",
        "alice",
        "--endpoint",
        "h:1",
        "--dataset",
        "a=x.csv",
        "--dataset",
        "b=/data/y.csv",
        "--policy",
        "approve",
    ]
    said = command(*arguments)
    assert "AA:BB" in said.out
    assert asked[0] == joining.Wishes(("h", 1), {"a": "parties/x.csv", "b": "/data/y.csv"}, policy="approve")
    assert command("join", "alice", "--json").json()["ca_fingerprint"] == "AA:BB"
    assert asked[1] == joining.Wishes()


def test_submit_packs_the_folder(command: Command, api: Api, tmp_path: Path) -> None:
    api.answers["POST", "/jobs"] = (201, {"job_id": "j1", "phase": "proposed"})
    api.answers["GET", "/status"] = (200, {"peers": {"bob": {"up": True}}})
    (tmp_path / "job.yaml").write_text("name: psi\nparties: [alice, bob]\n")
    (tmp_path / "main.py").write_text("print('hello')")
    assert "j1" in command("job", "submit", tmp_path, "--key", "k").out
    assert "print('hello')" in next(asked[2] for asked in api.asked if asked[0] == "POST")
    assert command("job", "submit", tmp_path, "--json").json()["job_id"] == "j1"
    (tmp_path / "link").symlink_to("/etc/passwd")
    said = command("job", "submit", tmp_path)
    assert said.code == 1
    assert "link" in said.err


def test_submit_refuses_a_party_that_is_down_unless_told_to_queue(command: Command, api: Api, tmp_path: Path) -> None:
    api.answers["POST", "/jobs"] = (201, {"job_id": "j1", "phase": "proposed"})
    api.answers["GET", "/status"] = (200, {"peers": {"bob": {"up": False, "error": "no route", "heard_s": 42}}})
    (tmp_path / "job.yaml").write_text("name: psi\nparties: [alice, bob]\n")
    (tmp_path / "main.py").write_text("pass")
    said = command("job", "submit", tmp_path)
    assert said.code == EXIT_UNREACHABLE
    assert "bob is down" in said.err
    assert "no route" in said.err
    assert not [asked for asked in api.asked if asked[0] == "POST"]
    assert "j1" in command("job", "submit", tmp_path, "--queue").out


def test_approve_shows_the_program_first_and_asks(command: Command, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    api.answers |= {("GET", "/jobs/j1"): (200, JOB), ("GET", "/jobs/j1/program"): (200, PROGRAM)}
    api.answers["POST", "/jobs/j1/approve"] = (200, {**JOB, "phase": "approved"})
    monkeypatch.setattr("typer.confirm", lambda *_, **__: (_ for _ in ()).throw(typer.Abort()))
    said = command("job", "approve", "j1")
    assert said.code == 1
    assert not [asked for asked in api.asked if asked[0] == "POST"]
    assert "print(1)" in said.out
    assert "<U+202E>" in said.out
    assert "\x1b[2K" not in said.out
    assert "people" in said.out
    said = command("job", "approve", "j1", "--yes", "--reason", "fine", "--wait", "1")
    assert said.code == 0
    assert "approved" in said.out
    assert "first of this name" in said.out
    assert ("POST", "/jobs/j1/approve", f"reason=fine&proposal_digest={'d' * 64}") in api.asked


PREVIOUS = {
    "job_id": "j0",
    "initiator": "bob",
    "program_digest": "abb",
    "approved_at": 1.0,
    "by": "person",
    "diff": {"main.py": "--- a/main.py\n+++ b/main.py\n@@ -1 +1 @@\n-print(0)\n+print(1)\u202e\x1b[2K\rx\n"},
    "proposal_diff": '-  "rows": 1\n+  "rows": 2\n',
}


@pytest.mark.parametrize("verb", ["approve", "deny"])
@pytest.mark.parametrize(
    ("options", "shown", "hidden"),
    [
        ([], ["-print(0)", "1 print(1)", "unchanged: job.yaml"], ["name: psi"]),
        (["--diff-only"], ["-print(0)"], ["1 print(1)", "name: psi"]),
        (["--full"], ["-print(0)", "1 print(1)", "name: psi"], ["unchanged"]),
    ],
    ids=["as it is", "diff only", "full"],
)
def test_what_changed_since_the_last_approved_program_is_shown(
    command: Command, api: Api, verb: str, options: list[str], shown: list[str], hidden: list[str]
) -> None:
    api.answers |= {("GET", "/jobs/j1"): (200, JOB)}
    api.answers["GET", "/jobs/j1/program"] = (200, PROGRAM | {"previous": PREVIOUS})
    api.answers["POST", f"/jobs/j1/{verb}"] = (200, JOB)
    said = command("job", verb, "j1", "--yes", *options)
    assert said.code == 0
    for words in (
        "compared with j0 of bob",
        "by person",
        '+  "rows": 2',
        "+print(1)<U+202E><U+001B>[2K<U+000D>x",
        *shown,
    ):
        assert words in said.out
    for words in ("\x1b[2K", "\r", "\u202e", *hidden):
        assert words not in said.out
    api.answers["GET", "/jobs/j1/program"] = (200, PROGRAM | {"previous": PREVIOUS | {"diff": {}, "proposal_diff": ""}})
    assert "nothing changed" in command("job", verb, "j1", "--yes", *options).out


def test_judging_refuses_what_does_not_fit_together(command: Command, api: Api) -> None:
    api.answers |= {("GET", "/jobs/j1"): (200, JOB), ("GET", "/jobs/j1/program"): (200, PROGRAM)}
    assert command("job", "approve", "j1", "--yes", "--full", "--diff-only").code == 2
    assert command("job", "deny", "j1", "--json").code == 2  # nothing would be shown, nothing asked
    api.answers["GET", "/jobs/j1/program"] = (200, PROGRAM | {"proposal_digest": "e" * 64})
    assert command("job", "approve", "j1", "--yes").code == 5
    assert not [asked for asked in api.asked if asked[0] == "POST"]


def test_json_of_judging_is_the_job(command: Command, api: Api) -> None:
    api.answers |= {("GET", "/jobs/j1"): (200, JOB), ("GET", "/jobs/j1/program"): (200, PROGRAM)}
    for verb in ("approve", "deny", "cancel"):
        api.answers["POST", f"/jobs/j1/{verb}"] = (200, JOB)
        assert command("job", verb, "j1", *(["--yes"] if verb != "cancel" else []), "--json").json() == JOB


def test_approve_waits_for_the_folder_to_arrive(command: Command, api: Api) -> None:
    api.answers["GET", "/jobs/j1"] = (200, {**JOB, "bundle_ready": False})
    assert command("job", "approve", "j1", "--yes", "--wait", "0.05").code == 6


def test_a_job_may_be_denied_before_its_folder_is_here(command: Command, api: Api) -> None:
    api.answers["GET", "/jobs/j1"] = (200, {**JOB, "bundle_ready": False})
    api.answers["POST", "/jobs/j1/deny"] = (200, JOB)
    said = command("job", "deny", "j1", "--yes", "--reason", "no")
    assert said.code == 0
    assert "not here yet" in said.out
    assert api.asked[-1] == ("POST", "/jobs/j1/deny", f"reason=no&proposal_digest={'d' * 64}")


def test_cancel(command: Command, api: Api) -> None:
    api.answers["POST", "/jobs/j1/cancel"] = (200, JOB)
    assert command("job", "cancel", "j1", "--reason", "no").code == 0
    assert api.asked[-1] == ("POST", "/jobs/j1/cancel", "reason=no")
    api.answers["POST", "/jobs/j1/cancel"] = (409, {"detail": "job j1 has ended already"})
    said = command("job", "cancel", "j1")
    assert said.code == 5
    assert "ended already" in said.err


def test_status_and_list_show_strangers_text_as_text(command: Command, api: Api) -> None:
    api.answers |= {("GET", "/jobs"): (200, {"jobs": [JOB]}), ("GET", "/jobs/j1"): (200, JOB)}
    for arguments in (["job", "list"], ["job", "status"], ["job", "status", "j1"]):
        said = command(*arguments)
        assert "j1" in said.out
        assert "\x1b[31m" not in said.out
        assert "[red]" in said.out
    assert command("job", "list", "--json").json()[0]["job_id"] == "j1"
    assert command("job", "status", "j1", "--json").json()["phase"] == "proposed"
    api.answers["GET", "/jobs"] = (200, {"jobs": []})
    assert "no jobs yet" in command("job", "list").out
    assert command("job", "status", "nobody").code == 1


def test_the_institution_at_a_glance(command: Command, api: Api) -> None:
    peers = {
        "bob": {"up": True, "heard_s": 200.0, "offset_ms": 1.5, "round_trip_ms": 2.0, "error": None},
        "carol": {"up": False, "audit": {"fault": "carol shows an audit log of 3 records; it had 9 before"}},
    }
    api.answers["GET", "/status"] = (
        200,
        {"party": "alice", "consortium": "demo", "peers": peers, "slots": {"all": 2, "used": {"0": "j"}},
         "jobs": {"failed": 1}, "certificate_days": 30.2},
    )  # fmt: skip
    text = command("status").out
    for words in ("alice of demo", "up", "3 min ago", "silent", "never", "1 of 2 in use", "1 failed", "30 days"):
        assert words in text
    assert command("status", "--json").json()["peers"]["bob"]["up"]


def test_wait_tells_success_failure_and_time_apart(command: Command, api: Api) -> None:
    ended = {**JOB, "terminal": True, "settled": True}
    api.answers["GET", "/jobs/j1"] = (200, {**ended, "phase": "succeeded", "reason": ""})
    said = command("job", "wait", "j1", "--json")
    assert (said.code, said.json()["phase"]) == (0, "succeeded")
    assert "succeeded  attempt 1" in said.err
    assert command("job", "wait", "j1").code == 0
    api.answers["GET", "/jobs/j1"] = (200, {**ended, "phase": "failed", "settled": False})
    said = command("job", "wait", "j1", "--json")
    assert said.code == said.json()["exit_code"] == 1
    assert "consortium job logs j1" in said.json()["error"]["fix"]
    api.answers["GET", "/jobs/j1"] = (200, JOB)
    assert command("job", "wait", "j1", "--timeout", "0.01").code == 6


def test_logs_and_result(command: Command, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    api.answers |= {("GET", "/jobs/j1/logs"): (200, "one\x1b]0;x\n"), ("GET", "/jobs/j1/result"): (200, {"auc": 0.9})}
    assert command("job", "logs", "j1", "--attempt", "1").out == "one<U+001B>]0;x\n"
    assert command("job", "result", "j1", "--json").json() == {"job_id": "j1", "result": {"auc": 0.9}}
    assert "0.9" in command("job", "result", "j1").out
    api.answers["GET", "/jobs/j1"] = (200, JOB)

    def later(_: float) -> None:
        api.answers["GET", "/jobs/j1/logs"] = (200, "one\x1b]0;x\ntwo\n")
        api.answers["GET", "/jobs/j1"] = (200, {**JOB, "terminal": True})

    monkeypatch.setattr("time.sleep", later)
    assert command("job", "logs", "j1", "--follow").out == "one<U+001B>]0;x\ntwo\n"


def test_nobody_there_is_exit_code_4_and_a_wrong_token_5(
    command: Command, api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONSORTIUM_TOKEN", "wrong")
    assert command("status").code == 5
    monkeypatch.setenv("CONSORTIUM_API", "http://127.0.0.1:1")
    said = command("status", "--json")
    assert said.code == said.json()["exit_code"] == 4
    monkeypatch.delenv("CONSORTIUM_API")
    monkeypatch.delenv("CONSORTIUM_TOKEN")
    stack = builders.stack(settings=builders.settings(operator={"bind": "127.0.0.1", "port": 1}))
    builders.write(tmp_path, stack=stack)
    assert command("status", "-w", tmp_path).code == 1  # no token yet
    (tmp_path / ".private/alice.token").write_text("t")
    assert command("status", "-w", tmp_path).code == 4


def test_ctrl_c_and_a_closed_pipe_end_quietly(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    for error, code in ((KeyboardInterrupt, 130), (BrokenPipeError, 1)):

        def fail(error: type[BaseException] = error) -> None:
            raise error

        monkeypatch.setattr(cli, "build", lambda fail=fail: fail)
        assert command().code == code


def test_invisible_characters_are_spelt_out() -> None:
    assert visible("a\tb\n\x00\u200b\u202eé") == "a\tb\n<U+0000><U+200B><U+202E>é"


def test_an_error_that_quotes_a_stranger_cannot_speak_to_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    text = "\x1b[2J\x9b31m\u202e"
    report(UsageError("no", value=text))
    emit({"a": text}, True, lambda: None)
    shown = "".join(capsys.readouterr())
    assert {c for c in shown if not c.isprintable() and c != "\n"} == set()
    assert "<U+001B>[2J" in shown


def test_a_fingerprint_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """rich takes `:CD:` for the picture of a disc; two people read this to one another over the telephone."""
    say("1E:CD:5E :smile:")
    err.print("AF:CD:00", end="")
    said = capsys.readouterr()
    assert (said.out, said.err) == ("1E:CD:5E :smile:\n", "AF:CD:00")
