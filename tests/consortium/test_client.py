"""The own coordinator may be away, restarting, or say no; each is told apart, by words and exit code."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import httpx
import pytest

from consortium import client
from consortium.client import Coordinator, NotThere, operator_token, operator_url
from consortium.errors import ConsortiumError, DocumentErrors, Refused, TimedOut, Unreachable
from consortium.workspace import Workspace
from tests.consortium import builders

Answer = httpx.Response | Exception


def speaking(*answers: Answer, then: Answer | None = None) -> Coordinator:
    """A coordinator that gives these answers in order, then `then` for ever."""
    queue: Iterable[Any] = itertools.chain(answers, itertools.repeat(then)) if then else iter(answers)
    source = iter(queue)

    def handle(request: httpx.Request) -> httpx.Response:
        assert request.headers["authorization"] == "Bearer t"
        answer = next(source)
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[no-any-return]

    return Coordinator("http://node:1/", "t", transport=httpx.MockTransport(handle))


def job(phase: str, **more: Any) -> httpx.Response:
    return httpx.Response(200, json={"phase": phase, **more})


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "POLL_S", 0.001)


@pytest.mark.parametrize(
    ("answer", "error", "said"),
    [
        (httpx.Response(401, json={"detail": "the operator's token is needed"}), Refused, "does not accept this token"),
        (httpx.Response(404, json={"detail": "no job 'x' here"}), NotThere, "no job 'x' here"),
        (httpx.Response(409, json={"detail": "alice said deny already"}), Refused, "alice said deny already"),
        (httpx.Response(422, json={"detail": [{"loc": ["x"]}]}), Refused, "loc"),
        (httpx.Response(502, json={"detail": "Ray does not answer"}), ConsortiumError, "Ray does not answer"),
        (httpx.Response(503, text="upstream connect error"), Unreachable, "the gateway answers"),
        (httpx.Response(500, text="oops"), Unreachable, "oops"),
        (httpx.Response(400, json=["x"]), Refused, "x"),
        (httpx.Response(200, text="{", headers={"content-type": "application/json"}), ConsortiumError, "no JSON"),
        (httpx.ConnectError("refused"), Unreachable, "does not answer"),
        (httpx.ReadTimeout("slow"), TimedOut, "takes too long"),
        (httpx.UnsupportedProtocol("ftp"), ConsortiumError, "--api"),
    ],
)
def test_what_went_wrong_is_told_apart(answer: Answer, error: type[Exception], said: str) -> None:
    with pytest.raises(error) as caught:
        speaking(answer).get("/jobs/x")
    assert said in str(caught.value)


def test_a_wait_outlives_a_restart_and_a_job_that_is_not_there_yet() -> None:
    answers = [httpx.Response(404, json={"detail": "no"}), httpx.ConnectError("down"), job("running"), job("succeeded")]
    found = speaking(*answers).wait("/jobs/x", lambda j: j["phase"] == "succeeded", 10, "the end")
    assert found["phase"] == "succeeded"


@pytest.mark.parametrize(
    ("answer", "said"),
    [(job("running", reason="r"), "phase running: r"), (httpx.Response(404, json={}), "knows no such thing")],
)
def test_a_wait_ends_and_says_what_was_seen_last(answer: httpx.Response, said: str) -> None:
    with pytest.raises(TimedOut) as caught:
        speaking(then=answer).wait("/jobs/x", lambda _: False, 0.02, "the end of x")
    assert said in str(caught.value)
    assert "the end of x did not happen" in str(caught.value)


def test_a_coordinator_that_stays_away_is_not_waited_for_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "RESTART_S", 0.01)
    with pytest.raises(Unreachable):
        speaking(then=httpx.ConnectError("down")).wait("/jobs/x", lambda _: True, 60, "x")


def test_a_job_is_submitted_with_its_key() -> None:
    seen: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(201, json={"job_id": "j"})

    own = Coordinator("http://node:1", "t", transport=httpx.MockTransport(handle))
    assert own.submit(b"tar", "key") == {"job_id": "j"}
    assert seen[0].headers["idempotency-key"] == "key"
    assert b'name="bundle"' in seen[0].read()
    assert str(seen[0].url) == "http://node:1/api/v1/jobs"


@pytest.mark.parametrize(
    ("bind", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:9"),
        ("0.0.0.0", "http://127.0.0.1:9"),
        ("::", "http://[::1]:9"),
        ("fd00::1", "http://[fd00::1]:9"),
    ],
)
def test_the_address_is_where_the_stack_publishes_it(tmp_path: Path, bind: str, url: str) -> None:
    stack = builders.stack(settings=builders.settings(operator={"bind": bind, "port": 9}))
    assert operator_url(Workspace(builders.write(tmp_path, stack=stack)), "alice") == url


def test_wrong_settings_and_a_lost_token_are_named(tmp_path: Path) -> None:
    place = Workspace(builders.write(tmp_path, stack=builders.stack(settings={})))
    with pytest.raises(DocumentErrors, match="gateway is missing"):
        operator_url(place, "alice")
    with pytest.raises(ConsortiumError, match="token is missing"):
        operator_token(place, "alice")
    place.token_file("alice").write_text("hunter2\n")
    assert operator_token(place, "alice") == "hunter2"


@pytest.mark.parametrize(
    "lost", [httpx.ReadError("reset"), httpx.RemoteProtocolError("cut"), httpx.ReadTimeout("slow")]
)
def test_a_post_is_sent_once_more_with_its_key_when_the_answer_is_lost(lost: Exception) -> None:
    keys: list[str] = []

    def handle(request: httpx.Request) -> httpx.Response:
        keys.append(request.headers["idempotency-key"])
        if len(keys) == 1:
            raise lost
        return httpx.Response(200, json={"n": len(keys)})

    own = Coordinator("http://node:1", "t", transport=httpx.MockTransport(handle))
    assert own.post("/jobs/j/cancel", data={"reason": ""}) == {"n": 2}
    assert own.post("/jobs/j/cancel") == {"n": 3}
    assert keys[0] == keys[1] != keys[2]


def test_a_post_is_not_sent_a_third_time_nor_after_an_answer() -> None:
    with pytest.raises(Unreachable):
        speaking(httpx.ReadError("a"), httpx.ReadError("b")).post("/x")
    with pytest.raises(Refused):
        speaking(httpx.Response(409, json={"detail": "no"})).post("/x")
