"""The client against a Kuscia: objects, a job between two parties, answers, watching, and what is refused.

`make kuscia-live` runs it against a real Kuscia, `make kuscia-test` against the conformance server.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator

import anyio
import pytest

from consortium.kuscia.requests import requests
from consortium.kuscia.wiring import bring, drift
from coordinator.kuscia.api import KusciaApi
from coordinator.kuscia.channel import Json
from coordinator.kuscia.errors import KusciaForbidden, KusciaRefused
from coordinator.kuscia.models import EventKind, JobState, KusciaJob
from tests.kuscia import kuscia_builders, live
from tests.kuscia.live import client, engine, partner, route
from tests.kuscia.real_node import Endpoint

pytestmark = [pytest.mark.kubernetes, pytest.mark.anyio]
WAIT_S = 20
AFTER_ANSWER = {JobState.PENDING, JobState.RUNNING, JobState.FAILED, JobState.SUCCEEDED}


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Endpoint]]:
    with live.nodes(tmp_path_factory.mktemp("live")) as found:
        if all(node.kubernetes for node in found.values()):
            anyio.run(live.introduce, found)
        yield found


@pytest.fixture
async def own(nodes: dict[str, Endpoint]) -> AsyncIterator[KusciaApi]:
    async with client(next(iter(nodes.values()))) as api:
        yield api


@pytest.fixture
async def other(nodes: dict[str, Endpoint]) -> AsyncIterator[KusciaApi]:
    if len(nodes) < 2:
        pytest.skip("one node was named: no peer is there to answer")
    async with client(list(nodes.values())[1]) as api:
        yield api


@pytest.fixture
async def make(nodes: dict[str, Endpoint], own: KusciaApi) -> AsyncIterator[Callable[[], KusciaJob]]:
    """New jobs of the first party with the second; they are taken away at the end."""
    made: list[KusciaJob] = []

    def new() -> KusciaJob:
        job_id = f"live-{secrets.token_hex(4)}"
        tasks = [
            {"alias": alias, "task_id": f"{job_id}-{alias}", "app_image": "engine", "task_input_config": '{"a": 1}',
             "parties": [{"domain_id": name} for name in nodes], "dependencies": after}
            for alias, after in (("psi", []), ("train", ["psi"]))
        ]  # fmt: skip
        fields = {"consortium-attempt": "1"}
        job = KusciaJob.model_validate(
            {"job_id": job_id, "initiator": next(iter(nodes)), "tasks": tasks, "custom_fields": fields}
        )
        made.append(job)
        return job

    yield new
    for job in made:
        await own.delete_job(job.job_id)


async def state(api: KusciaApi, job_id: str, wanted: set[JobState]) -> KusciaJob:
    """The job as soon as its state is one of these."""
    end, found = time.monotonic() + WAIT_S, None
    while time.monotonic() < end:
        found = await api.job(job_id)
        if found and found.status.state in wanted:
            return found
        await anyio.sleep(0.1)
    raise AssertionError(f"{job_id} is not {wanted} after {WAIT_S} s: {found and found.status}")


async def test_every_kind_is_made_once_read_back_changed_and_taken_away(
    own: KusciaApi, nodes: dict[str, Endpoint]
) -> None:
    """Of a peer that is made up, so that a real one's objects are left alone."""
    party, peer = next(iter(nodes)), f"live-{secrets.token_hex(4)}"
    objects = _objects(party, peer)
    assert await own.ready()
    for kind, body in objects:
        assert await own.query(kind, body) is None, kind
        assert await own.create(kind, body) is True, kind
        assert await own.create(kind, body) is (kind == "DomainData"), kind  # there a create is an update
        found = await own.query(kind, body)
        assert found is not None
        found = found["data"] if kind == "DomainDataGrant" else found
        assert _lost(body, found, {"domain_id"} if kind == "DomainDataGrant" else set()) == [], kind
    moved = route(party, peer, endpoint={"host": "new.example", "ports": route(party, peer)["endpoint"]["ports"]})
    await own.update("ClusterDomainRoute", moved)
    assert (await own.query("ClusterDomainRoute", moved) or {})["endpoint"]["host"] == "new.example"
    for kind, body in reversed(objects):
        assert await own.delete(kind, body) is True, kind
        # A source that is not there is deleted with success.
        assert await own.delete(kind, body) is (kind == "DomainDataSource"), kind


def _objects(party: str, peer: str) -> list[tuple[str, Json]]:
    name = f"of-{peer}"
    columns = [{"name": "id", "type": "str", "comment": "", "not_nullable": False}]
    data = {
        "domain_id": party, "domaindata_id": name, "name": "a.csv", "type": "table", "relative_uri": "a.csv",
        "datasource_id": name, "columns": columns, "vendor": "manual", "attributes": {"description": "a"},
    }  # fmt: skip
    source: Json = {"domain_id": party, "datasource_id": name, "name": name, "type": "localfs"}
    source["info"] = {"localfs": {"path": "/home/kuscia/var/storage/data"}}
    grant = {"domain_id": party, "domaindatagrant_id": name, "domaindata_id": name, "grant_domain": peer}
    return [
        ("Domain", partner(peer)),
        ("ClusterDomainRoute", route(party, peer)),
        ("AppImage", engine(name)),
        ("DomainDataSource", source),
        ("DomainData", data),
        ("DomainDataGrant", grant),
    ]


def _lost(wanted: object, found: object, left_out: set[str], where: str = "") -> list[str]:
    """Where `found` has not what was asked for; int64 comes back as text."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        pairs = [(f"{where}.{key}", value, found.get(key)) for key, value in wanted.items() if key not in left_out]
    elif isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        pairs = [(f"{where}[{n}]", *pair) for n, pair in enumerate(zip(wanted, found, strict=True))]
    else:
        return [] if str(wanted) == str(found) else [f"{where}: {wanted!r} became {found!r}"]
    return [text for place, one, two in pairs for text in _lost(one, two, set(), place)]


async def test_what_the_resource_brings_stays_and_the_peer_may_come_in(
    own: KusciaApi, nodes: dict[str, Endpoint]
) -> None:
    store = nodes[live.PARTIES[0]].kubernetes if live.PARTIES[0] in nodes else None
    if store is None:
        pytest.skip("only where the API server behind the node can be read")
    wanted = requests(kuscia_builders.own("alice", "carol"))
    try:
        assert set(await bring(own, wanted, {})) >= {"Domain carol made", "ClusterDomainRoute alice-carol made"}
        way_in = {"apiVersion": "kuscia.secretflow/v1alpha1", "kind": "ClusterDomainRoute"}
        way_in |= {"metadata": {"name": "carol-alice"}}
        with anyio.fail_after(WAIT_S):  # Kuscia makes it by itself
            while await own.query("ClusterDomainRoute", {"source": "carol", "destination": "alice"}) is None:
                await anyio.sleep(0.1)
        assert await bring(own, wanted, wanted) == []
        assert await drift(own, wanted) == {}
        # With this the peer's node may fetch jobs from here.
        assert store.read(way_in)["spec"]["requestHeadersToAdd"]["Authorization"].startswith("Bearer ")
    finally:
        await bring(own, {}, wanted)
    assert await own.query("Domain", {"domain_id": "carol"}) is None


async def test_what_must_be_there_first_and_whose_it_must_be(own: KusciaApi, nodes: dict[str, Endpoint]) -> None:
    party = next(iter(nodes))
    objects = dict(_objects(party, "live-nobody"))
    for kind, overrides, code in [
        ("DomainData", {}, 11806),
        ("DomainDataGrant", {}, 11100),
        ("Domain", {"cert": "bm8="}, 11100),
        ("Domain", {"domain_id": "master"}, 11100),  # a query of it answers with the node's own certificate
        ("DomainDataSource", {"domain_id": "live-nobody"}, 11100),
        ("ClusterDomainRoute", {}, 11305),
        ("ClusterDomainRoute", {"endpoint": None}, 11100),
    ]:
        with pytest.raises(KusciaRefused) as refused:
            await own.create(kind, {**objects[kind], **overrides})
        assert refused.value.code == code, kind


async def test_another_token(nodes: dict[str, Endpoint]) -> None:
    async with client(next(iter(nodes.values())), token="x" * 32) as api:
        with pytest.raises(KusciaForbidden):
            await api.ready()


async def test_a_job_waits_for_the_peer_and_goes_on_with_its_yes(
    own: KusciaApi, other: KusciaApi, make: Callable[[], KusciaJob], nodes: dict[str, Endpoint]
) -> None:
    job, (first, second) = make(), list(nodes)[:2]
    assert await own.job(job.job_id) is None
    assert await own.create_job(job) is True
    assert await own.create_job(job) is False
    there = await state(other, job.job_id, {JobState.AWAITING_APPROVAL})
    assert (there.initiator, there.parties, there.custom_fields) == (first, (first, second), job.custom_fields)
    assert [task.task_input_config for task in there.tasks] == ['{"a": 1}'] * 2
    assert second not in there.status.answers()
    await other.approve(job.job_id, accept=True, reason="policy")
    for api in (own, other):
        found = await state(api, job.job_id, AFTER_ANSWER)
        assert found.status.answers() == {first: "JobAccepted", second: "JobAccepted"}
    assert (await own.states((job.job_id,)))[job.job_id].status.state in AFTER_ANSWER
    with pytest.raises(KusciaRefused):
        await own.states((job.job_id, "not-there"))


async def test_a_job_that_the_peer_refuses(own: KusciaApi, other: KusciaApi, make: Callable[[], KusciaJob]) -> None:
    job = make()
    await own.create_job(job)
    await state(other, job.job_id, {JobState.AWAITING_APPROVAL})
    await other.approve(job.job_id, accept=False, reason="no")
    found = await state(own, job.job_id, {JobState.APPROVAL_REJECT})
    assert "JobRejected" in found.status.answers().values()


async def test_a_job_is_cancelled_by_either_party(
    own: KusciaApi, other: KusciaApi, make: Callable[[], KusciaJob]
) -> None:
    for ender, seen_by in ((own, other), (other, own)):
        job = make()
        await own.create_job(job)
        await state(other, job.job_id, {JobState.AWAITING_APPROVAL})
        await ender.cancel(job.job_id, "enough")
        await state(seen_by, job.job_id, {JobState.CANCELLED})
        with pytest.raises(KusciaRefused) as refused:
            await own.suspend(job.job_id, "too late")
        assert refused.value.code == 11210


async def test_a_watch_tells_of_what_is_there_what_changes_and_what_goes(
    own: KusciaApi, other: KusciaApi, make: Callable[[], KusciaJob]
) -> None:
    before, later = make(), make()
    await own.create_job(before)
    await state(other, before.job_id, {JobState.AWAITING_APPROVAL})
    seen: set[tuple[str, EventKind]] = set()

    async def watch() -> None:
        async for event in other.watch(WAIT_S):
            if event.object:
                seen.add((event.object.job_id, event.type))
            if (later.job_id, EventKind.DELETED) in seen:
                return

    async def told(job: KusciaJob, kind: EventKind) -> None:
        with anyio.fail_after(WAIT_S):
            while (job.job_id, kind) not in seen:
                await anyio.sleep(0.1)

    async with anyio.create_task_group() as group:
        group.start_soon(watch)
        # A real node takes seconds until a watch tells anything, and never tells of what came and went before.
        await told(before, EventKind.ADDED)
        await own.create_job(later)
        await told(later, EventKind.ADDED)
        await state(other, later.job_id, {JobState.AWAITING_APPROVAL})
        await told(later, EventKind.MODIFIED)
        assert await own.delete_job(later.job_id) is True
        await told(later, EventKind.DELETED)
    assert await own.delete_job(later.job_id) is False


async def test_no_log_of_a_task_that_is_not_there(own: KusciaApi) -> None:
    with pytest.raises(KusciaRefused):
        [piece async for piece in own.log("not-there")]
