"""The client of KusciaAPI over real mutual TLS, against a server that says what a test tells it to say."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consortium.kuscia import keys
from coordinator.kuscia.api import KusciaApi
from coordinator.kuscia.channel import Channel, Texts, tls
from coordinator.kuscia.errors import KusciaError, KusciaForbidden, KusciaRefused, KusciaUnreachable
from coordinator.kuscia.models import Event, EventKind, JobState, KusciaJob, Task, TaskParty
from tests.kuscia import kuscia_builders
from tests.kuscia.tls_files import TlsFiles, tls_files

pytestmark = pytest.mark.anyio
Answer = tuple[int, bytes]
Serve = Callable[[str, Any], Answer | None]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsFiles]:
    yield tls_files(kuscia_builders.domain("alice"), tmp_path_factory.mktemp("tls"))


def data(**fields: Any) -> Answer:
    return 200, json.dumps({"status": {"code": 0, "message": "success", "details": []}, "data": fields}).encode()


def refusal(code: int, said: str = "no") -> Answer:
    return 200, json.dumps({"status": {"code": code, "message": said, "details": []}}).encode()


@asynccontextmanager
async def node(files: TlsFiles, serve: Serve, token: str = "", **options: Any) -> AsyncIterator[KusciaApi]:
    """A server that asks for a certificate of alice's CA and for her token, and its client. `None`: never answers."""
    domain = kuscia_builders.domain("alice")
    stuck = asyncio.Event()

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
            headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in head[1:] if line)}
            body = json.loads(await reader.readexactly(int(headers["content-length"])))
            path = head[0].split()[1]
            answer = serve(path, body) if headers["token"] == keys.api_token(domain) else (401, b"")
            if answer is None:
                await stuck.wait()
                return
            writer.write(b"HTTP/1.1 %d X\r\nConnection: close\r\n\r\n%b" % answer)
            await writer.drain()
        finally:
            writer.close()

    async with await asyncio.start_server(one, "127.0.0.1", 0, ssl=files.server_context()) as server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        context = tls(files.ca, files.certificate, files.key)
        async with Channel(url, context, token or keys.api_token(domain), **options) as channel:
            yield KusciaApi(channel)
        stuck.set()


def job(**overrides: Any) -> KusciaJob:
    parties = (TaskParty(domain_id="alice"), TaskParty(domain_id="bob"))
    task = Task(alias="psi", task_id="j-1-psi", app_image="secretflow-image", parties=parties, task_input_config="{}")
    return KusciaJob(
        **{"job_id": "j-1", "initiator": "alice", "tasks": (task,), "custom_fields": {"a": "b"}} | overrides
    )


def told(job: KusciaJob, state: str = "Running") -> Answer:
    """The answer to a query, with fields that the client does not know."""
    tasks = [{**t, "schedule_config": None} for t in job.request()["tasks"]]  # type: ignore[attr-defined]
    return data(**{**job.request(), "tasks": tasks, "status": {"state": state, "err_msg": "", "tasks": []}})


async def test_a_wrong_token_is_told_from_everything_else(files: TlsFiles) -> None:
    async with node(files, lambda *_: data(), token="0" * 32) as api:
        with pytest.raises(KusciaForbidden, match="does not take the token"):
            await api.ready()


async def test_without_the_partys_certificate_there_is_no_connection(files: TlsFiles, tmp_path: Path) -> None:
    other = tls_files(kuscia_builders.domain("bob"), tmp_path)
    async with node(files, lambda *_: data(ready=True)) as api:
        assert await api.ready()
        context = tls(files.ca, other.certificate, other.key)
        async with Channel(api._channel.url, context, "x") as stranger:
            with pytest.raises(KusciaUnreachable):
                await stranger.call("/healthZ", {})
        async with Channel(api._channel.url, tls(other.ca, files.certificate, files.key), "x") as other_node:
            with pytest.raises(KusciaUnreachable, match="CERTIFICATE_VERIFY_FAILED"):
                await other_node.call("/healthZ", {})


async def test_no_answer_in_time_and_nobody_there_are_unreachable(files: TlsFiles) -> None:
    async with node(files, lambda *_: None, timeout_s=0.2) as api:
        with pytest.raises(KusciaUnreachable, match="no answer in time"):
            await api.job("j-1")
    context = tls(files.ca, files.certificate, files.key)
    async with Channel("https://127.0.0.1:1", context, "x") as nobody:
        with pytest.raises(KusciaUnreachable):
            await nobody.call("/healthZ", {})


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"status": 3}', b"{}"])
@pytest.mark.parametrize("status", [200, 400, 502])
async def test_what_is_no_answer_of_kuscia_is_an_error(files: TlsFiles, status: int, body: bytes) -> None:
    async with node(files, lambda *_: (status, body)) as api:
        with pytest.raises(KusciaError, match=f"answers {status} with what is no answer"):
            await api.ready()


async def test_who_has_no_part_in_a_job_is_forbidden(files: TlsFiles) -> None:
    async with node(files, lambda *_: refusal(11102, "could only retrieve the job")) as api:
        with pytest.raises(KusciaForbidden, match="could only retrieve"):
            await api.job("j-1")


@pytest.mark.parametrize(("kind", "code"), [("Domain", 11306), ("ClusterDomainRoute", 11405), ("DomainData", 11507)])
async def test_what_is_there_is_not_made_again(files: TlsFiles, kind: str, code: int) -> None:
    names = {"domain_id": "bob", "source": "alice", "destination": "bob", "domaindata_id": "t"}
    async with node(files, lambda *_: refusal(code)) as api:
        assert await api.create(kind, names) is False


async def test_a_kind_without_a_code_for_it_is_asked_for(files: TlsFiles) -> None:
    grant = {"domain_id": "alice", "domaindatagrant_id": "g"}

    def serve(path: str, body: Any) -> Answer:
        return refusal(11700, "g is exist") if path.endswith("create") else data(data=grant)

    async with node(files, serve) as api:
        assert await api.create("DomainDataGrant", grant) is False
    async with node(files, lambda path, _: refusal(11700 if path.endswith("create") else 11705)) as api:
        with pytest.raises(KusciaRefused, match="11700"):
            await api.create("DomainDataGrant", grant)


async def test_what_is_refused_as_wrong_is_not_taken_for_there(files: TlsFiles) -> None:
    body = {"domain_id": "bob", "cert": "no certificate"}
    async with node(files, lambda path, _: refusal(11100, "bad") if path.endswith("create") else data(**body)) as api:
        with pytest.raises(KusciaRefused, match="11100"):
            await api.create("Domain", body)


async def test_queries_name_objects_as_each_kind_wants_it(files: TlsFiles) -> None:
    asked: list[tuple[str, Any]] = []

    def serve(path: str, body: Any) -> Answer:
        asked.append((path, body))
        return data(name="x")

    async with node(files, serve) as api:
        await api.query("DomainData", {"domain_id": "alice", "domaindata_id": "t", "name": "t.csv"})
        await api.query("ClusterDomainRoute", {"source": "alice", "destination": "bob", "authentication_type": "Token"})
    assert asked == [
        ("/api/v1/domaindata/query", {"data": {"domain_id": "alice", "domaindata_id": "t"}}),
        ("/api/v1/route/query", {"source": "alice", "destination": "bob"}),
    ]


@pytest.mark.parametrize(("kind", "code"), [("Domain", 11305), ("AppImage", 13105)])
async def test_what_is_not_there_is_none_and_gone(files: TlsFiles, kind: str, code: int) -> None:
    names = {"domain_id": "bob", "name": "engine"}
    async with node(files, lambda *_: refusal(code)) as api:
        assert await api.query(kind, names) is None
        assert await api.delete(kind, names) is False
    async with node(files, lambda *_: refusal(13103, 'appimages "engine" not found')) as api:
        assert await api.delete("AppImage", names) is False
    async with node(files, lambda *_: refusal(11101)) as api:
        with pytest.raises(KusciaRefused):
            await api.query(kind, names)
        with pytest.raises(KusciaRefused):
            await api.delete(kind, names)


async def test_a_route_is_made_anew_where_others_are_changed(files: TlsFiles) -> None:
    asked: list[str] = []

    def serve(path: str, body: Any) -> Answer:
        asked.append(path.removeprefix("/api/v1/"))
        return refusal(11404) if path.endswith("delete") else data()

    async with node(files, serve) as api:
        await api.update("ClusterDomainRoute", {"source": "alice", "destination": "bob"})
        await api.update("Domain", {"domain_id": "bob"})
    assert asked == ["route/delete", "route/create", "domain/update"]


async def test_a_job_that_is_there_is_the_same_or_an_error(files: TlsFiles) -> None:
    there = job()

    def serve(path: str, body: Any) -> Answer:
        exists = 'kusciajobs.kuscia.secretflow "j-1" already exists'
        return refusal(11201, exists) if path.endswith("create") else told(there)

    async with node(files, serve) as api:
        assert await api.create_job(job()) is False
        no_ids = job(tasks=(there.tasks[0].model_copy(update={"task_id": ""}),))
        assert await api.create_job(no_ids) is False
        for other in (job(custom_fields={}), job(tasks=()), job(max_parallelism=3)):
            with pytest.raises(KusciaError, match="another job is called j-1"):
                await api.create_job(other)
    async with node(files, lambda *_: refusal(11201, "the server is gone")) as api:
        with pytest.raises(KusciaRefused):
            await api.create_job(job())
    async with node(files, lambda *_: data(job_id="j-1")) as api:
        assert await api.create_job(job()) is True


async def test_how_a_job_goes(files: TlsFiles) -> None:
    async with node(files, lambda *_: told(job(), "Suspended")) as api:
        found = await api.job("j-1")
    assert found is not None
    assert (found.status.state, found.parties, found.custom_fields) == (
        JobState.SUSPENDED,
        ("alice", "bob"),
        {"a": "b"},
    )
    async with node(files, lambda *_: told(job(), "Hibernating")) as api:
        assert (await api.job("j-1")).status.state is JobState.UNKNOWN  # type: ignore[union-attr]
    async with node(files, lambda *_: refusal(11202, 'kusciajobs.kuscia.secretflow "j-1" not found')) as api:
        assert await api.job("j-1") is None
        with pytest.raises(KusciaRefused):
            await api.states(("j-1",))
    async with node(files, lambda *_: refusal(11202, "etcd is gone")) as api:
        with pytest.raises(KusciaRefused):
            await api.job("j-1")
    async with node(files, lambda *_: data(job_id=3)) as api:
        with pytest.raises(KusciaError, match="cannot be read"):
            await api.job("j-1")


async def test_what_is_done_with_a_job(files: TlsFiles) -> None:
    asked: list[tuple[str, Any]] = []

    def serve(path: str, body: Any) -> Answer:
        asked.append((path.removeprefix("/api/v1/job/"), body))
        return data(jobs=[{"job_id": "j", "status": {"state": "Failed"}}])

    async with node(files, serve) as api:
        await api.approve("j", accept=True, reason="policy")
        await api.approve("j", accept=False, reason="no")
        for act in (api.suspend, api.restart, api.cancel, api.stop):
            await act("j", "why")
        assert (await api.states(("j",)))["j"].status.state is JobState.FAILED
        assert await api.states(()) == {}
        assert await api.delete_job("j") is True
    assert asked[0] == ("approve", {"job_id": "j", "result": "APPROVE_RESULT_ACCEPT", "reason": "policy"})
    assert asked[1][1]["result"] == "APPROVE_RESULT_REJECT"
    assert [path for path, _ in asked[2:6]] == ["suspend", "restart", "cancel", "stop"]
    assert [path for path, _ in asked[6:]] == ["status/batchQuery", "delete"]
    async with node(files, lambda *_: refusal(11204, "not found")) as api:
        assert await api.delete_job("j") is False
    async with node(files, lambda *_: refusal(11204, "etcd is gone")) as api:
        with pytest.raises(KusciaRefused):
            await api.delete_job("j")


async def test_a_watch_reads_events_with_nothing_between_them(files: TlsFiles) -> None:
    running = {"job_id": "j", "status": {"state": "Running", "tasks": [{"task_id": "t", "progress": 0.5}]}}
    body = json.dumps({"object": running}) + json.dumps({"type": 4}) + json.dumps({"type": 2, "object": running})
    async with node(files, lambda *_: (200, body.encode())) as api:
        events = [event async for event in api.watch(60)]
    assert [event.type for event in events] == [EventKind.ADDED, EventKind.HEARTBEAT, EventKind.DELETED]
    assert events[0].object is not None
    assert events[0].object.status.tasks[0].progress == 0.5
    for bad, said in [(b'{"type": 3}', "ends the watch"), (b'{"type": 9}', "no event"), (b"zzz", "no event")]:
        async with node(files, lambda *_, bad=bad: (200, bad)) as api:
            with pytest.raises(KusciaError, match=said):
                [event async for event in api.watch()]
    async with node(files, lambda *_: (400, b"")) as api:
        with pytest.raises(KusciaError, match="answers 400"):
            [event async for event in api.watch()]


async def test_a_log_is_read_piece_by_piece_and_its_error_is_one(files: TlsFiles) -> None:
    pieces = b'{"status":{},"log":"one\\n"}{"log":"two\\n"}'
    async with node(files, lambda *_: (200, pieces)) as api:
        assert [piece async for piece in api.log("t", follow=True)] == ["one\n", "two\n"]
    async with node(files, lambda *_: (200, b'{"status":{"code":13200,"message":"no such task"}}')) as api:
        with pytest.raises(KusciaRefused, match="no such task"):
            [piece async for piece in api.log("t")]


@given(
    st.lists(st.dictionaries(st.text(max_size=5), st.text(max_size=10), max_size=3), max_size=5),
    st.integers(1, 7),
    st.sampled_from(["", "\n", " \r\n"]),
)
def test_wherever_a_stream_is_cut_the_same_objects_come_out(found: list[Any], size: int, between: str) -> None:
    stream = between.join(json.dumps(one, ensure_ascii=False) for one in found).encode()
    texts = Texts()
    assert [one for at in range(0, len(stream), size) for one in texts.feed(stream[at : at + size])] == found


def test_a_text_without_end_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coordinator.kuscia.channel.LONGEST_TEXT", 100)
    with pytest.raises(ValueError, match="longer than 100"):
        list(Texts().feed(b'{"a": "' + b"x" * 200))


@given(st.dictionaries(st.sampled_from(["type", "object", "x"]), st.none() | st.integers() | st.text(), max_size=3))
def test_an_event_is_read_or_refused(found: dict[str, Any]) -> None:
    try:
        Event.model_validate(found)
    except ValueError as error:
        assert str(error)


def test_files_that_are_no_keys_are_an_error(tmp_path: Path, files: TlsFiles) -> None:
    (tmp_path / "key").write_text("no key")
    with pytest.raises(ssl.SSLError):
        tls(files.ca, files.certificate, tmp_path / "key")
