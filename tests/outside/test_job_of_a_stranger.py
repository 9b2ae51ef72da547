"""A job comes from a stranger: its folder, its job.yaml, and every word that a page or a terminal shows of it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from html.parser import HTMLParser
from typing import Any

import httpx
import pytest

from consortium import ports
from coordinator.bundle import digest, pack
from tests.coordinator.test_bundles import ATTACKS, DOCUMENTS
from tests.outside.rig import Attacked, batch, statement

SCRIPT = "<script>window.evil = 1</script><img src=x onerror=alert(1)>"
ESCAPES = "\x1b[2J\x1b]0;evil\x07\x9b31m\u202eevil\u2066\u200b\r\x08\x7f"
MARKUP = "[bold red]evil[/] [link=https://evil.example]here[/link] {{ 7 * 7 }} {% raw %} %REQ(:path)% ${x} $(id) `id`"
HOSTILE = f"{SCRIPT} {ESCAPES} {MARKUP}"
COUNT = iter(range(1000))
SENT = [a for a in ATTACKS if a[0] != "too big"]  # a limit of that test; here test_too_much.py has it


def job_id() -> str:
    """A new one: every test is about a job of its own."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    n = next(COUNT)
    return f"20261124-hostile-aaaa{letters[n // 26 % 26]}{letters[n % 26]}"


@pytest.mark.parametrize(("tar", "words"), [a[1:] for a in SENT], ids=[a[0] for a in SENT])
def test_a_folder_that_is_an_attack_is_refused_and_kept_nowhere(bob: Attacked, tar: bytes, words: str) -> None:
    job = job_id()
    assert bob.send(statement("alice", job)).status == 200
    before = sorted(path for path in bob.folder.rglob("*") if path.suffix == ".tar")
    begun = time.monotonic()
    answer = bob.bundle(tar, job)
    assert answer.status == 422, answer
    assert re.search(words, answer.text)
    assert time.monotonic() - begun < 20
    assert sorted(path for path in bob.folder.rglob("*") if path.suffix == ".tar") == before
    assert bob.operator("GET", f"/api/v1/jobs/{job}").json()["bundle_ready"] is False


def test_a_folder_that_is_not_the_proposed_one_is_refused(bob: Attacked) -> None:
    job = job_id()
    assert bob.send(statement("alice", job)).status == 200
    answer = bob.bundle(pack({"main.py": b"evil()"}), job)
    assert (answer.status, "proposed was " + "a" * 64 in answer.text) == (409, True)
    assert bob.refusals()[-1]["peer"] == "alice"


@pytest.mark.parametrize("text", [d[1] for d in DOCUMENTS], ids=[d[0] for d in DOCUMENTS])
def test_a_job_file_that_is_an_attack_is_never_read_by_a_peer(bob: Attacked, text: str | bytes) -> None:
    """What counts is the signed proposal; job.yaml is one more file, shown as text to who approves."""
    raw = text if isinstance(text, bytes) else text.encode()
    files = {"main.py": b"print()", "job.yaml": raw}
    job = proposed(bob, files)
    shown = bob.operator("GET", f"/api/v1/jobs/{job}/program")
    assert shown.status_code == 200
    assert shown.json()["files"]["job.yaml"] == raw.decode(errors="replace")


def proposed(bob: Attacked, files: dict[str, bytes], **changes: Any) -> str:
    """A job of alice's whose folder has arrived."""
    job, tar = job_id(), pack(files)
    sent = bob.send(statement("alice", job, program_digest=digest(files), bundle_bytes=len(tar), **changes))
    assert sent.status == 200, sent
    arrived = bob.bundle(tar, job)
    assert arrived.status == 200, arrived
    return job


NAMES = [
    "../../etc/passwd",
    "a/b",
    "A",
    "a b",
    "é",
    "a\u202eb",
    "a\0b",
    "a\nb",
    "\x1b[31m",
    SCRIPT,
    "-rf",
    "",
    "a" * 33,
]


@pytest.mark.parametrize("name", NAMES, ids=[ascii(name)[:20] for name in NAMES])
@pytest.mark.parametrize("where", ["name", "job_id", "party", "dataset", "program", "version"])
def test_a_malicious_name_is_refused(bob: Attacked, where: str, name: str) -> None:
    good = statement("alice", job_id())
    body = good.model_dump(mode="json")
    if where == "job_id":
        body["job_id"] = f"20261124-{name}-abcdef"
    elif where == "dataset":
        body["body"]["datasets"] = {"bob": [name]}
    elif where == "party":
        body["body"]["parties"] = ["alice", "bob", name]
    elif where == "version":
        body["body"]["versions"] = {name * 40: "1"}
    else:
        body["body"][where] = name
    answer = bob.ask("POST", "/peer/v1/proposal", json.dumps({"statements": [body]}).encode())
    assert answer.status in (400, 403, 422), answer  # 403: well-formed here, and not what alice signed
    assert bob.operator("GET", f"/api/v1/jobs/{good.job_id}").status_code == 404


@pytest.mark.parametrize(
    "value",
    [b"NaN", b"1e999", b"9" * 5000, b'"\\ud800"', b"[" * 300 + b"]" * 300, b"[" * 100_000, b'{"a": 1, "a": 2}'],
    ids=["nan", "infinite", "digits", "surrogate", "deep", "deeper", "twice"],
)
def test_a_message_that_is_no_plain_json_is_refused(bob: Attacked, value: bytes) -> None:
    whole = batch(statement("alice", job_id()))
    broken = whole.replace(b'"parameters": {}', b'"parameters": {"a": ' + value + b"}")
    assert broken != whole
    assert bob.ask("POST", "/peer/v1/proposal", broken).status in (400, 403, 422)


@pytest.fixture(scope="module")
def hostile(attacked: Attacked) -> str:
    """A job in which every free text is an attack on who reads it."""
    files = {"main.py": f"print('hello')  # {HOSTILE}\n".encode(), "note.html": HOSTILE.encode()}
    text = {
        "description": HOSTILE,
        "parameters": {HOSTILE: HOSTILE, "deep": [[HOSTILE]]},
        "versions": {SCRIPT[:50]: ESCAPES},
    }
    return proposed(attacked, files, **text)


class Tags(HTMLParser):
    """What a browser would make of a page: names of tags, and attributes that run something."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.running: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.running += [name for name, value in attrs if name.startswith("on") or "javascript:" in (value or "")]


def test_a_hostile_job_is_only_text_on_the_status_page(bob: Attacked, hostile: str) -> None:
    base = f"http://{bob.gateway.address}:{ports.GATEWAY_OPERATOR_PORT}"
    with httpx.Client(base_url=base, trust_env=False, follow_redirects=True, timeout=30) as browser:
        assert browser.post("/login", data={"token": "operator-token-of-bob"}).status_code == 200
        for path in ("/", f"/jobs/{hostile}", "/audit"):
            page = browser.get(path)
            assert page.status_code == 200
            found = Tags(page.text)
            assert (found.tags.count("script"), found.tags.count("img"), found.running) == (1, 0, []), path
            assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "window.evil" in page.text or path == "/audit"


@pytest.mark.parametrize(
    "words",
    [["list"], ["status", "JOB"], ["approve", "JOB", "--full"], ["list", "--json"], ["status", "JOB", "--json"]],
    ids=" ".join,
)
def test_a_hostile_job_cannot_speak_to_the_terminal(bob: Attacked, hostile: str, words: list[str]) -> None:
    shown = consortium(bob, "job", *(hostile if word == "JOB" else word for word in words))
    assert hostile in shown
    assert_neutral(shown)


def consortium(bob: Attacked, *words: str) -> str:
    """What a command prints, on both outputs, when the answer to every question is no."""
    url = f"http://{bob.gateway.address}:{ports.GATEWAY_OPERATOR_PORT}"
    done = subprocess.run(
        [sys.executable, "-m", "consortium", *words, "--api", url],
        env=os.environ | {"CONSORTIUM_TOKEN": "operator-token-of-bob", "COLUMNS": "4000", "NO_COLOR": "1"},
        input=b"n\n",
        capture_output=True,
        check=False,
        timeout=120,
    )
    return (done.stdout + done.stderr).decode()


def assert_neutral(shown: str) -> None:
    """Nothing in it moves the cursor, changes colours, hides or turns text."""
    left = {c for c in shown if not c.isprintable() and c != "\n"}
    assert left == set(), ascii(left)
