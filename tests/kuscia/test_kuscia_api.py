"""The client, end to end: KusciaAPI of two parties, each with a real API server behind it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import pytest

from consortium.kuscia import keys
from coordinator.kuscia.api import KusciaApi
from coordinator.kuscia.channel import Channel, Json, tls
from coordinator.kuscia.errors import KusciaError, KusciaForbidden, KusciaRefused, KusciaUnreachable
from coordinator.kuscia.models import EventKind, JobState, KusciaJob, Task, TaskParty
from tests.kuscia import kuscia_builders
from tests.kuscia.conformance import Node
from tests.kuscia.conformance_jobs import Play

pytestmark = [pytest.mark.kubernetes, pytest.mark.anyio]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@contextlib.asynccontextmanager
async def client(node: Node, **options: float) -> AsyncIterator[KusciaApi]:
    context = tls(node.files.ca, node.files.certificate, node.files.key)
    async with Channel(node.url, context, node.token, **options) as channel:
        yield KusciaApi(channel)


@pytest.fixture
async def alice(nodes: dict[str, Node]) -> AsyncIterator[KusciaApi]:
    async with client(nodes["alice"]) as api:
        yield api


@pytest.fixture
async def bob(nodes: dict[str, Node]) -> AsyncIterator[KusciaApi]:
    async with client(nodes["bob"]) as api:
        yield api


def partner(name: str = "bob") -> Json:
    cert = keys.encoded(kuscia_builders.domain(name).certificate)
    return {"domain_id": name, "role": "partner", "cert": cert, "master_domain_id": name}


def route(**overrides: object) -> Json:
    port = {"name": "http", "port": 1080, "protocol": "HTTP", "isTLS": True, "path_prefix": ""}
    return {
        "source": "alice", "destination": "bob", "authentication_type": "Token",
        "endpoint": {"host": "bob.example", "ports": [port]},
        "token_config": {"token_gen_method": "RSA-GEN", "rolling_update_period": 86400}, **overrides,
    }  # fmt: skip


def engine() -> Json:
    container = {
        "name": "secretflow", "command": ["sh"], "args": ["-c", "true"], "working_dir": "/work",
        "config_volume_mounts": [{"mount_path": "/work/kuscia/task-config.conf", "sub_path": "task-config.conf"}],
        "ports": [{"name": "inference", "protocol": "HTTP", "scope": "Cluster"}],
    }  # fmt: skip
    template = {"name": "secretflow", "replicas": 1, "restart_policy": "Never", "containers": [container]}
    image = {"name": "registry.example/secretflow", "tag": "1.11.0b1", "id": kuscia_builders.DIGEST}
    return {
        "name": "engine", "image": image, "config_templates": {"task-config.conf": "{}"}, "deploy_templates": [template]
    }  # fmt: skip


def source() -> Json:
    info = {"localfs": {"path": "/home/kuscia/var/storage/data"}}
    return {"domain_id": "alice", "datasource_id": "files", "type": "localfs", "name": "files", "info": info}


def table(**overrides: object) -> Json:
    columns = [{"name": "id", "type": "str", "comment": "", "not_nullable": False}]
    return {
        "domain_id": "alice", "domaindata_id": "customers", "name": "customers.csv", "type": "table",
        "relative_uri": "customers.csv", "datasource_id": "files", "columns": columns, "vendor": "manual", **overrides,
    }  # fmt: skip


def grant() -> Json:
    return {
        "domain_id": "alice", "domaindatagrant_id": "customers-bob", "domaindata_id": "customers", "grant_domain": "bob"
    }  # fmt: skip


OBJECTS = (
    ("Domain", partner()),
    ("ClusterDomainRoute", route()),
    ("AppImage", engine()),
    ("DomainDataSource", source()),
    ("DomainData", table()),
    ("DomainDataGrant", grant()),
)


def job(job_id: str, **overrides: object) -> KusciaJob:
    parties = (TaskParty(domain_id="alice"), TaskParty(domain_id="bob"))
    first, second = (f"{job_id}-{name}" for name in ("psi", "train"))
    tasks = [
        Task(alias="psi", task_id=first, app_image="engine", parties=parties, task_input_config='{"a": 1}'),
        Task(alias="train", task_id=second, app_image="engine", parties=parties, task_input_config="{}",
             dependencies=("psi",)),
    ]  # fmt: skip
    fields = {"consortium-attempt": "1"}
    return KusciaJob.model_validate(
        {"job_id": job_id, "initiator": "alice", "tasks": tasks, "custom_fields": fields, **overrides}
    )


async def test_every_kind_is_made_once_read_back_and_taken_away(alice: KusciaApi) -> None:
    """In the order in which one needs the other; each is asked for twice."""
    assert await alice.ready()
    for kind, body in OBJECTS:
        assert await alice.query(kind, body) is None, kind
        assert await alice.create(kind, body) is True, kind
        assert await alice.create(kind, body) is (kind == "DomainData"), kind  # there a create is an update
        found = await alice.query(kind, body)
        assert found is not None
        found = found["data"] if kind == "DomainDataGrant" else found
        left_out = {"info"} if kind == "DomainDataSource" else {"domain_id"} if kind == "DomainDataGrant" else set()
        assert contains(body, found, left_out) == [], kind
    changed = table(columns=[{"name": "age", "type": "int64", "comment": "", "not_nullable": True}])
    await alice.update("DomainData", changed)
    assert (await alice.query("DomainData", changed) or {})["columns"] == changed["columns"]
    moved = route(endpoint={"host": "other.example", "ports": route()["endpoint"]["ports"]})
    await alice.update("ClusterDomainRoute", moved)
    assert (await alice.query("ClusterDomainRoute", moved) or {})["endpoint"]["host"] == "other.example"
    for kind, body in reversed(OBJECTS):
        assert await alice.delete(kind, body) is True, kind
        # A source that is not there is deleted with success.
        assert await alice.delete(kind, body) is (kind == "DomainDataSource"), kind


def contains(wanted: object, found: object, left_out: set[str], where: str = "") -> list[str]:
    """Where `found` has not what was asked for; int64 comes back as a string."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        return [
            text for key, value in wanted.items() if key not in left_out
            for text in contains(value, found.get(key), set(), f"{where}.{key}")
        ]  # fmt: skip
    if isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        return [
            t
            for n, (a, b) in enumerate(zip(wanted, found, strict=True))
            for t in contains(a, b, set(), f"{where}[{n}]")
        ]
    return [] if str(wanted) == str(found) else [f"{where}: {wanted!r} became {found!r}"]


async def test_what_must_be_there_first(alice: KusciaApi) -> None:
    for kind, body, code in [
        ("DomainData", table(datasource_id="none"), 11806),
        ("DomainDataGrant", grant(), 11100),
        ("Domain", {**partner(), "cert": "bm8="}, 11100),
        ("Domain", {**partner(), "domain_id": "master"}, 11100),
        ("DomainDataSource", {**source(), "domain_id": "bob"}, 11100),
        ("ClusterDomainRoute", route(source="nobody"), 11305),
    ]:
        with pytest.raises(KusciaRefused) as refused:
            await alice.create(kind, body)
        assert refused.value.code == code, kind


async def test_another_token_and_another_partys_certificate(nodes: dict[str, Node]) -> None:
    node, other = nodes["alice"], nodes["bob"]
    context = tls(node.files.ca, node.files.certificate, node.files.key)
    async with Channel(node.url, context, other.token) as channel:
        with pytest.raises(KusciaForbidden):
            await KusciaApi(channel).ready()
    async with Channel(node.url, tls(node.files.ca, other.files.certificate, other.files.key), node.token) as channel:
        with pytest.raises(KusciaUnreachable):
            await KusciaApi(channel).ready()


async def test_a_job_is_carried_approved_run_suspended_restarted_and_ends(
    alice: KusciaApi, bob: KusciaApi, nodes: dict[str, Node]
) -> None:
    play = Play(nodes["alice"].jobs, nodes["bob"].jobs)
    wanted = job("walk")
    assert await alice.create_job(wanted) is True
    assert await alice.create_job(wanted) is False
    with pytest.raises(KusciaError, match="another job is called walk"):
        await alice.create_job(job("walk", custom_fields={}))
    assert await bob.job("walk") is None

    seen: list[tuple[EventKind, str, JobState]] = []
    play.carry("walk")
    assert (await alice.job("walk")).status.state is JobState.UNKNOWN  # type: ignore[union-attr]  # `initialized`
    play.carry("walk")
    there = await bob.job("walk")
    assert there is not None
    unnamed = tuple(task.model_copy(update={"task_id": ""}) for task in wanted.tasks)
    assert (there.tasks, there.custom_fields, there.initiator) == (unnamed, wanted.custom_fields, "alice")
    assert (there.status.state, there.status.answers()) == (JobState.AWAITING_APPROVAL, {"alice": "JobAccepted"})
    await bob.approve("walk", accept=True, reason="policy")
    play.carry("walk")
    assert (await alice.states(("walk",)))["walk"].status.state is JobState.PENDING
    with pytest.raises(KusciaRefused) as early:
        await alice.suspend("walk", "too early")
    assert early.value.code == 11210
    play.goes("walk", "Running")
    await bob.suspend("walk", "a pause")
    play.carry("walk")
    await alice.restart("walk", "on with it")
    play.carry("walk")
    with pytest.raises(KusciaRefused) as runs:
        await alice.restart("walk", "it runs")
    assert runs.value.code == 11211
    nodes["alice"].jobs.logs["walk-psi"] = ["one\n", "two\n"]
    assert [piece async for piece in alice.log("walk-psi")] == ["one\n", "two\n"]
    with pytest.raises(KusciaRefused, match="not found"):
        [piece async for piece in bob.log("walk-psi")]
    play.goes("walk", "Succeeded")
    async for event in bob.watch(1):
        if event.object:
            seen.append((event.type, event.object.job_id, event.object.status.state))
    assert (EventKind.ADDED, "walk", JobState.SUCCEEDED) in seen
    ended = await bob.job("walk")
    assert ended is not None
    assert [task.state for task in ended.status.tasks] == [JobState.SUCCEEDED] * 2
    assert ended.status.end_time
    assert await alice.delete_job("walk") is True
    assert await alice.delete_job("walk") is False


async def test_a_job_is_refused_and_another_cancelled(alice: KusciaApi, bob: KusciaApi, nodes: dict[str, Node]) -> None:
    play = Play(nodes["alice"].jobs, nodes["bob"].jobs)
    for name in ("refused", "cancelled"):
        await alice.create_job(job(name))
        play.carry(name)
    await bob.approve("refused", accept=False, reason="no")
    await bob.cancel("cancelled", "enough")
    for name in ("refused", "cancelled"):
        play.carry(name)
    found = await alice.states(("refused", "cancelled"))
    assert found["refused"].status.state is JobState.APPROVAL_REJECT
    assert found["refused"].status.answers()["bob"] == "JobRejected"
    assert found["cancelled"].status.state is JobState.CANCELLED
    with pytest.raises(KusciaRefused) as other:
        await bob.create_job(job("of-alice"))
    assert other.value.code == 11100


async def test_a_call_that_was_carried_out_and_not_answered_may_be_asked_again(nodes: dict[str, Node]) -> None:
    node = nodes["alice"]
    async with client(node, timeout_s=0.5) as hasty, client(node) as patient:
        node.trouble.silent.add("job/create")
        with pytest.raises(KusciaUnreachable, match="no answer in time"):
            await hasty.create_job(job("half"))
        node.trouble.silent.clear()
        assert await patient.create_job(job("half")) is False
        node.trouble.broken.add("appimage/create")
        with pytest.raises(KusciaRefused, match="unexpected"):
            await patient.create("AppImage", engine())
        node.trouble.broken.clear()
        assert await patient.create("AppImage", engine()) is True
        assert await patient.delete("AppImage", engine()) is True
