"""Group commit: writes of one turn share a COMMIT, each is refused alone, a lost batch is lost whole and said to be."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from builders import JOB_ID, NOW, job
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from coordinator.audit_verify import verify
from coordinator.failpoints import Step
from coordinator.group_commit import DiskFullError, StoreError
from coordinator.limits import Durable
from coordinator.model import Phase
from coordinator.offline import read_records
from coordinator.signing import Signer, Verifier
from coordinator.store import StaleError, Store

SIGNER = Signer("demo", "bob", Ed25519PrivateKey.generate())
VERIFIER = Verifier("demo", {"bob": SIGNER.public})


class Counting(sqlite3.Connection):
    """Counts COMMITs: each is one fsync of the write-ahead log."""

    commits = 0

    def execute(self, sql: str, *more: object) -> sqlite3.Cursor:  # type: ignore[override]
        Counting.commits += sql == "COMMIT"
        return super().execute(sql, *more)  # type: ignore[arg-type]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *a, **k: connect(*a, **{"factory": Counting} | k))
    made = Store(tmp_path / "coordinator.db", SIGNER, "bob")
    Counting.commits = 0
    yield made
    made.close()


def on_disk(tmp_path: Path) -> list[str]:
    """What another process sees."""
    return [r.content for r in read_records(tmp_path / "coordinator.db")]


def fill(store: Store) -> None:
    """From now on the file may not grow: SQLite answers as it does on a full disk."""
    pages = store._db.execute("PRAGMA page_count").fetchone()[0]
    store._db.execute(f"PRAGMA max_page_count = {pages}")


def make_room(store: Store) -> None:
    store._db.execute("PRAGMA max_page_count = 1000000")


BIG = "x" * 20_000


def test_writes_of_one_turn_share_one_commit(store: Store, tmp_path: Path) -> None:
    async def writer(number: int) -> None:
        store.note(NOW, "test", f"record {number}")
        await store.durable()
        assert len(on_disk(tmp_path)) == 50  # all of them, not only the own

    async def run() -> None:
        await asyncio.gather(*(writer(n) for n in range(50)))

    asyncio.run(run())
    assert Counting.commits == 1
    assert verify(store.records(), "bob", VERIFIER).records == 50


def test_nothing_is_on_the_disk_before_the_turn_ends(store: Store, tmp_path: Path) -> None:
    async def run() -> None:
        store.note(NOW, "test", "one")
        assert store.head() is not None  # seen here
        assert on_disk(tmp_path) == []  # and nowhere else
        await store.durable()
        assert len(on_disk(tmp_path)) == 1
        await store.durable()  # nothing is pending: at once

    asyncio.run(run())


def test_outside_a_loop_each_write_commits(store: Store, tmp_path: Path) -> None:
    store.note(NOW, "test", "one")
    store.note(NOW, "test", "two")
    assert (Counting.commits, len(on_disk(tmp_path))) == (2, 2)


def test_what_a_loop_left_is_committed_by_the_next_write(store: Store, tmp_path: Path) -> None:
    async def run() -> None:
        store.note(NOW, "test", "one")

    def ends_at_once() -> None:
        loop = asyncio.new_event_loop()
        task = loop.create_task(run())
        while not task.done():
            loop.call_soon(loop.stop)
            loop.run_forever()
        for handle in list(loop._ready):  # type: ignore[attr-defined]
            handle.cancel()
        loop.close()

    ends_at_once()
    store.note(NOW, "test", "two")
    assert len(on_disk(tmp_path)) == 2


def test_closing_commits(store: Store, tmp_path: Path) -> None:
    async def run() -> None:
        store.note(NOW, "test", "one")
        store.close()

    asyncio.run(run())
    assert len(on_disk(tmp_path)) == 1


def test_a_refused_write_takes_only_itself_back(store: Store) -> None:
    async def run() -> None:
        old = job("bob", Phase.PROPOSED)
        store.note(NOW, "test", "before")
        store.create(Step.SUBMIT, old, NOW, "test")
        with pytest.raises(StaleError):
            store.save(Step.APPROVED, replace(old, version=7), replace(old, version=8), NOW, "of an old version")
        with pytest.raises(sqlite3.IntegrityError):
            store.create(Step.SUBMIT, old, NOW, "a second time")
        store.note(NOW, "test", "after")
        await store.durable()

    asyncio.run(run())
    assert [r.seq for r in store.records()] == [1, 2, 3]
    assert store.load(JOB_ID) is not None
    assert Counting.commits == 1


def test_a_full_disk_loses_the_batch_whole_and_the_store_works_on(store: Store, tmp_path: Path) -> None:
    async def run() -> None:
        store.note(NOW, "test", "kept")
        await store.durable()
        fill(store)
        failures, done = store.failures, []

        async def rests_on_it() -> None:
            store.note(NOW, "test", "small, of the same batch")
            done.append(asyncio.ensure_future(store.durable(failures)))

        await rests_on_it()
        with pytest.raises(DiskFullError, match="make room"):
            store.note(NOW, "test", BIG)
        with pytest.raises(DiskFullError):
            await done[0]
        assert [r.seq for r in store.records()] == [1]
        assert store.failures == 1
        with pytest.raises(StoreError, match="what this rests on was lost"):
            await store.durable(failures)  # nothing is pending, but what was read since then is gone
        await store.durable(store.failures)
        make_room(store)
        store.note(NOW, "test", BIG)
        await store.durable()

    asyncio.run(run())
    assert verify(read_records(tmp_path / "coordinator.db"), "bob", VERIFIER).records == 2


def test_a_commit_that_fails_is_told_to_all_that_wait(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A deferred constraint fails in the COMMIT itself, as an I/O error of the disk would."""

    async def run() -> list[object]:
        with store._group.write():
            store._db.execute("PRAGMA defer_foreign_keys = ON")
            store._db.execute("INSERT INTO slots VALUES (0, 'no such job')")
        store.note(NOW, "test", "of the same batch")
        return await asyncio.gather(*(store.durable() for _ in range(3)), return_exceptions=True)

    found = asyncio.run(run())
    assert all(isinstance(e, StoreError) and "FOREIGN KEY" in str(e) for e in found)
    assert len({id(e) for e in found}) == 3
    assert store.head() is None
    store.note(NOW, "test", "works on")
    assert store.head() is not None


def test_another_process_that_holds_the_file_is_named(store: Store, tmp_path: Path) -> None:
    store._db.execute("PRAGMA busy_timeout = 50")
    with contextlib.closing(sqlite3.connect(tmp_path / "coordinator.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="another process holds it"):
            store.note(NOW, "test", "x")
    store.note(NOW, "test", "y")
    assert store.failures == 0


def test_a_failpoint_before_the_commit_leaves_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test of crashes that stays in its process raises there: nobody may take the batch for written."""
    from coordinator import failpoints

    class Crash(BaseException):
        pass

    def crash(_party: str, name: str) -> None:
        if name == "before-submit":
            raise Crash

    monkeypatch.setattr(failpoints, "hook", crash)
    with pytest.raises(Crash):
        store.create(Step.SUBMIT, job("bob", Phase.PROPOSED), NOW, "test")
    assert (store.head(), store.failures) == (None, 1)


def ask(store: Store, endpoint: Callable[[Request], Awaitable[Response]]) -> httpx.Response:
    app = Starlette(routes=[Route("/", endpoint)])
    app.add_middleware(Durable, store=store, tell=lambda e: f"told: {e}")

    async def run() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as http:
            return await http.get("/")

    return asyncio.run(run())


def test_an_answer_leaves_after_its_write(store: Store, tmp_path: Path) -> None:
    async def endpoint(_: Request) -> Response:
        store.note(NOW, "test", "one")
        assert on_disk(tmp_path) == []
        return PlainTextResponse("done")

    answer = ask(store, endpoint)
    assert (answer.status_code, len(on_disk(tmp_path))) == (200, 1)


@pytest.mark.parametrize("when", ["while it is asked", "before it answers", "seen, then lost while it waited"])
def test_an_answer_that_rests_on_a_lost_write_is_none(store: Store, when: str) -> None:
    store.note(NOW, "test", "fills the first page")
    fill(store)

    async def endpoint(_: Request) -> Response:
        if when == "while it is asked":
            store.note(NOW, "test", BIG)
        store.note(NOW, "test", "small")
        if when == "seen, then lost while it waited":
            with contextlib.suppress(StoreError):  # of someone else
                store.note(NOW, "test", BIG)
            await asyncio.sleep(0.01)
        elif when == "before it answers":
            with contextlib.suppress(StoreError):
                store.note(NOW, "test", BIG)
        return PlainTextResponse("done")

    answer = ask(store, endpoint)
    assert answer.status_code in (503, 507)
    assert answer.json()["detail"].startswith("told: ")
    assert "retry-after" in answer.headers
    assert [r.seq for r in store.records()] == [1]


def test_a_stream_breaks_off_when_what_it_tells_was_lost(store: Store) -> None:
    store.note(NOW, "test", "fills the first page")
    fill(store)

    async def endpoint(_: Request) -> Response:
        async def parts():  # type: ignore[no-untyped-def]
            yield "one\n"
            with contextlib.suppress(StoreError):
                store.note(NOW, "test", BIG)
            yield "two\n"

        return StreamingResponse(parts())

    with pytest.raises(StoreError, match="what this rests on was lost"):
        ask(store, endpoint)
