"""KusciaAPI's calls as functions: jobs with types, every other object by its kind.

A call that asks for what is so already succeeds: whoever was cut off may ask again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from pydantic import ValidationError

from coordinator.kuscia.channel import Channel, Json
from coordinator.kuscia.errors import KusciaError, KusciaRefused
from coordinator.kuscia.models import Event, EventKind, JobOf, KusciaJob

INVALID, CREATE_JOB, QUERY_JOB, DELETE_JOB = 11100, 11201, 11202, 11204
_ACCEPT, _REJECT = "APPROVE_RESULT_ACCEPT", "APPROVE_RESULT_REJECT"
_EXISTS, _MISSING = "already exists", "not found"  # what Kubernetes says; Kuscia has no codes of its own for jobs


@dataclass(frozen=True)
class Kind:
    """A kind of objects at KusciaAPI: its folder, the fields that name one, and the codes for there and not there."""

    path: str
    names: tuple[str, ...]
    exists: int
    missing: int
    updates: bool = True
    nested: bool = False
    """A query names it inside `data`."""


# In the order in which one needs the other.
KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "Domain": Kind("domain", ("domain_id",), 11306, 11305),
        "ClusterDomainRoute": Kind("route", ("source", "destination"), 11405, 11404, updates=False),
        "AppImage": Kind("appimage", ("name",), 13106, 13105),
        "DomainDataSource": Kind("domaindatasource", ("domain_id", "datasource_id"), 11805, 11806),
        "DomainData": Kind("domaindata", ("domain_id", "domaindata_id"), 11507, 11506, nested=True),
        "DomainDataGrant": Kind("domaindatagrant", ("domain_id", "domaindatagrant_id"), 11704, 11705),
    }
)


class KusciaApi:
    """What a party asks of its own node. Every call raises KusciaError and its kinds."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def close(self) -> None:
        """No more calls."""
        await self._channel.close()

    async def ready(self) -> bool:
        """Whether the node says that it works."""
        return bool((await self._channel.call("/healthZ", {})).get("ready"))

    async def create(self, kind: str, body: Json) -> bool:
        """True when it was made, False when one of this name is there already: equal or not is for `query` to say.

        Not every kind has its code for that: a grant that is there is refused as one that could not be made (11700).
        """
        try:
            await self._channel.call(f"{KINDS[kind].path}/create", body)
        except KusciaRefused as refused:
            known = refused.code == KINDS[kind].exists
            if known or (refused.code != INVALID and await self.query(kind, body) is not None):
                return False
            raise
        return True

    async def query(self, kind: str, body: Json) -> Json | None:
        """The object that the names in `body` point to; None when there is none."""
        of = KINDS[kind]
        names = {name: body[name] for name in of.names}
        try:
            return await self._channel.call(f"{of.path}/query", {"data": names} if of.nested else names)
        except KusciaRefused as refused:
            if _is_missing(of, refused):
                return None
            raise

    async def update(self, kind: str, body: Json) -> None:
        """Make it as `body` says. A kind that Kuscia cannot change is taken away and made anew."""
        of = KINDS[kind]
        if of.updates:
            await self._channel.call(f"{of.path}/update", body)
            return
        await self.delete(kind, body)
        await self.create(kind, body)

    async def delete(self, kind: str, body: Json) -> bool:
        """True when it was there."""
        of = KINDS[kind]
        try:
            await self._channel.call(f"{of.path}/delete", {name: body[name] for name in of.names})
        except KusciaRefused as refused:
            if _is_missing(of, refused):
                return False
            raise
        return True

    async def create_job(self, job: KusciaJob) -> bool:
        """True when it was made, False when this very job is there. Raises KusciaError when another has its name."""
        try:
            await self._channel.call("job/create", job.request())
        except KusciaRefused as refused:
            if refused.code != CREATE_JOB or _EXISTS not in refused.said:
                raise
        else:
            return True
        there = await self.job(job.job_id)
        if there is None or not same(job, there):
            raise KusciaError(f"job/create: another job is called {job.job_id}")
        return False

    async def job(self, job_id: str) -> KusciaJob | None:
        """What it is and how it goes; None when this node has none of that name."""
        try:
            found = await self._channel.call("job/query", {"job_id": job_id})
        except KusciaRefused as refused:
            if refused.code == QUERY_JOB and _MISSING in refused.said:
                return None
            raise
        try:
            return KusciaJob.model_validate(found)
        except ValidationError as error:
            raise KusciaError(f"job/query: {job_id} cannot be read: {error.errors()[0]['msg']}") from error

    async def watch(self, timeout_s: int = 0) -> AsyncIterator[Event]:
        """Every job that is there, then every change, a heartbeat each 10 s; `timeout_s` 0: for ever."""
        async for text in self._channel.events("job/watch", {"timeout_seconds": timeout_s}):
            try:
                event = Event.model_validate(text)
            except ValidationError as error:
                raise KusciaError(f"job/watch: no event: {error.errors()[0]['msg']}") from error
            if event.type is EventKind.ERROR:
                raise KusciaError("job/watch: the node ends the watch with an error")
            yield event

    async def states(self, job_ids: tuple[str, ...]) -> dict[str, JobOf]:
        """How several jobs go; KusciaRefused when one of them is not there."""
        if not job_ids:
            return {}
        found = await self._channel.call("job/status/batchQuery", {"job_ids": list(job_ids)})
        return {job.job_id: job for job in map(JobOf.model_validate, found.get("jobs") or [])}

    async def approve(self, job_id: str, *, accept: bool, reason: str) -> None:
        """This party's answer. A second one counts in place of the first, as long as the job waits."""
        body = {"job_id": job_id, "result": _ACCEPT if accept else _REJECT, "reason": reason}
        await self._channel.call("job/approve", body)

    async def suspend(self, job_id: str, reason: str) -> None:
        """End its tasks for now, at every party. KusciaRefused 11210 when it does not run."""
        await self._channel.call("job/suspend", {"job_id": job_id, "reason": reason})

    async def restart(self, job_id: str, reason: str) -> None:
        """Go on with one that failed or was suspended, from the tasks that did not succeed. KusciaRefused 11211."""
        await self._channel.call("job/restart", {"job_id": job_id, "reason": reason})

    async def cancel(self, job_id: str, reason: str) -> None:
        """End it for good, at every party."""
        await self._channel.call("job/cancel", {"job_id": job_id, "reason": reason})

    async def stop(self, job_id: str, reason: str) -> None:
        """End its tasks: the job is then failed, and may be restarted."""
        await self._channel.call("job/stop", {"job_id": job_id, "reason": reason})

    async def delete_job(self, job_id: str) -> bool:
        """True when it was there. Whatever ran of it ends."""
        try:
            await self._channel.call("job/delete", {"job_id": job_id})
        except KusciaRefused as refused:
            if refused.code == DELETE_JOB and _MISSING in refused.said:
                return False
            raise
        return True

    async def log(self, task_id: str, *, follow: bool = False, container: str = "") -> AsyncIterator[str]:
        """What the own party's task printed, piece by piece."""
        body = {"task_id": task_id, "follow": follow, "container": container, "replica_idx": 0}
        async for text in self._channel.events("log/task/query", body):
            status = text.get("status") or {}
            if code := status.get("code"):
                raise KusciaRefused(f"log/task/query: {status.get('message', '')} ({code})", code, str(status))
            yield str(text.get("log", ""))


def _is_missing(of: Kind, refused: KusciaRefused) -> bool:
    """Not every call has its code for that: a query for a data source fails with 11802, a removed image with 13103."""
    return refused.code == of.missing or _MISSING in refused.said


def same(wanted: KusciaJob, there: KusciaJob) -> bool:
    """Whether what is there was made by the same request. Task ids that were left to Kuscia do not count."""

    def plain(job: KusciaJob) -> Json:
        made = job.request()
        tasks = [task.model_dump(exclude=set() if mine.task_id else {"task_id"})
                 for task, mine in zip(job.tasks, wanted.tasks, strict=False)]  # fmt: skip
        return {**made, "tasks": tasks, "count": len(job.tasks), "max_parallelism": max(1, job.max_parallelism)}

    return plain(wanted) == plain(there)
