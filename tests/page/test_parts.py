"""Parts of the page that a whole run shows rarely: times, what needs attention, a difference, a job that diverged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fastapi import Request
from page_rig import Rig

from coordinator import attention as module
from coordinator.attention import attention
from coordinator.config import Policy, Rule
from coordinator.context import Context, open_context
from coordinator.page_parts import Pages, Sessions, duration, moment, since, size, when


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return open_context(Rig(tmp_path, ["alice", "bob"]).config_path("alice"))


def request(**headers: str) -> Request:
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": raw})


@pytest.mark.parametrize(
    ("age", "text"),
    [(0, "just now"), (1, "1 s ago"), (59.9, "59 s ago"), (60, "1 min ago"), (7300, "2 h ago"), (86400 * 3, "3 d ago"),
     (-90, "in 1 min"), (-0.5, "just now")],
)  # fmt: skip
def test_ages(age: float, text: str) -> None:
    assert since(age) == text


def test_other_units() -> None:
    assert duration(-5) == "0 s"
    assert when(0) == "1970-01-01 00:00:00 UTC"
    assert moment(100, 40) == '<time datetime="1970-01-01T00:00:40Z" title="1970-01-01 00:00:40 UTC">1 min ago</time>'
    assert (size(9_999), size(12_345)) == ("9999 bytes", "12 kB")


def peer(**changes: Any) -> dict[str, Any]:
    well = {"up": True, "heard_s": 0.1, "reached_s": 0.2, "offset_ms": 1.0, "audit": {"seq": 3, "hash": "a"}}
    return well | changes


def status(**changes: Any) -> dict[str, Any]:
    well: dict[str, Any] = {
        "party": "alice",
        "certificate_days": 200,
        "slots": {"all": 1, "used": {}},
        "jobs": {},
        "revoked": [],
        "held": "",
        "kuscia": None,
    }
    return well | {"peers": {"bob": peer()}} | changes


TROUBLE: list[tuple[str, dict[str, Any], str]] = [
    ("peer down", {"peers": {"bob": peer(up=False)}}, "bob is down: last heard 0 s ago, last reached 0 s ago."),
    ("never seen", {"peers": {"bob": peer(up=False, heard_s=None, reached_s=None)}}, "never heard, never reached"),
    ("clock", {"peers": {"bob": peer(offset_ms=-200.0)}}, "differ by -200 ms; the bound is 250 ms"),
    ("audit", {"peers": {"bob": peer(audit={"fault": "head 7 twice"})}}, "contradicts itself: head 7 twice"),
    ("certificate", {"certificate_days": 12.5}, "ends in 12.5 days: consortium rotate certificate"),
    ("slots", {"slots": {"all": 1, "used": {0: "x"}}, "jobs": {"approved": 4}}, "Every slot is in use; 4 approved"),
    ("revoked", {"revoked": ["carol"]}, "carol is revoked: nothing of it is let in"),
    ("held", {"held": "until noon"}, "No attempt begins here until noon"),
    ("kuscia", {"kuscia": {"url": "https://k", "error": "no answer"}}, "does not answer as it should: no answer"),
    ("diverged", {"jobs": {"diverged": 1}}, "two contradicting statements"),
]


@pytest.mark.parametrize(("seen", "words"), [t[1:] for t in TROUBLE], ids=[t[0] for t in TROUBLE])
def test_what_needs_attention(context: Context, seen: dict[str, Any], words: str) -> None:
    (text,) = attention(context, status(**seen))
    assert words in text


def test_all_is_well(context: Context) -> None:
    quiet = [{}, {"certificate_days": None}, {"peers": {"bob": peer(offset_ms=None)}}, {"jobs": {"approved": 3}}]
    assert [attention(context, status(**seen)) for seen in quiet] == [[], [], [], []]


def test_own_surroundings(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    context.ray_failing_since = 1.0
    full = type("Usage", (), {"free": 2, "total": 100})
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: full)
    assert attention(context, status()) == [
        "The own Ray does not answer: drivers cannot be started or seen.",
        "The disk with the state is 98 % full.",
    ]


def test_sessions_are_bounded_and_end() -> None:
    sessions = Sessions()
    first = sessions.begin()
    assert sessions.csrf(request(cookie=f"consortium_session={first}"))
    cookies = [sessions.begin() for _ in range(100)]
    assert sessions.csrf(request(cookie=f"consortium_session={first}")) is None, "the oldest had to go"
    newest = request(cookie=f"consortium_session={cookies[-1]}")
    assert sessions.csrf(newest)
    sessions.end(newest)
    assert sessions.csrf(newest) is None
    assert sessions.csrf(request()) is None


def job(**changes: Any) -> dict[str, Any]:
    statement = {"kind": "outcome", "attempt": 1, "party": "bob", "signature": "s", "body": {"status": "failed"}}
    proposal = {"description": "", "datasets": {}, "parameters": {}, "program": "main.py", "program_digest": "a" * 64}
    shown = {
        "job_id": "20261124-probe-abcdef", "phase": "proposed", "initiator": "bob", "created_at": 0.0, "attempt": 0,
        "slot": None, "terminal": False, "settled": False, "reason": "", "approval_wanted": True, "bundle_ready": True,
        "proposal": proposal | {"deadline": 10.0, "max_attempts": 1, "priority": 0}, "proposal_digest": "d" * 64,
        "parties": {}, "approvals": {}, "outcomes": {}, "skew_ms": None, "attempts": [], "conflicts": [], "events": [],
        "statements": [statement],
    }  # fmt: skip
    return shown | changes


def render(context: Context, **values: Any) -> str:
    log = {"text": "", "cut": False, "error": ""}
    answer = Pages(context.config).render(
        request(), "job.html", **{"csrf": "c", "program": [], "log": log, "previous": None} | values
    )
    return bytes(answer.body).decode()


def test_the_difference_to_the_last_approved_program(context: Context) -> None:
    previous = {"job_id": "20261101-probe-aaaaaa", "text": "--- a\n+++ b\n-old <b>\n+new\n same"}
    text = render(context, job=job(), previous=previous)
    assert "What changed since 20261101-probe-aaaaaa" in text
    assert '<span class="del">-old &lt;b&gt;</span><span class="add">+new</span><span class=""> same</span>' in text
    assert "the same program was approved then" in render(context, job=job(), previous=previous | {"text": ""})
    assert "What changed" not in render(context, job=job(), previous=None)


def test_a_diverged_job_shows_both_statements(context: Context) -> None:
    both = [job()["statements"][0], job()["statements"][0] | {"body": {"status": "succeeded"}}]
    ended = {"phase": "diverged", "terminal": True, "settled": True, "approval_wanted": False}
    text = render(context, job=job(conflicts=[both], reason="bob signed two", **ended))
    assert "Contradicting statements" in text
    assert text.count("Statement of bob") == 2
    assert 'class="bad" aria-current="step">Diverged' in text
    assert "Cancel the job" not in text


@pytest.mark.parametrize(
    ("default", "words"), [("person", "waits for a person"), ("approve", "whatever it does"), ("deny", "is denied")]
)
def test_the_policy_is_shown(context: Context, default: str, words: str) -> None:
    rule = Rule(name="night", verdict="deny", initiators=("bob",))
    shown = Policy(default=default, rules=(rule,)).model_dump(mode="json")  # type: ignore[arg-type]
    answer = Pages(context.config).render(request(), "policy.html", csrf="c", policy=shown, datasets={}, versions={})
    text = bytes(answer.body).decode()
    assert words in text
    assert "<b>night</b>" in text
    assert "initiators <code>[&#34;bob&#34;]</code>" in text or 'initiators <code>["bob"]</code>' in text
    assert "programs" not in text
