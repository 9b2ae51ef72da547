"""Brings a party's objects into its Kuscia node, as one Pulumi resource: peers, routes, engine, data, grants.

Observe, decide, act: `refresh` asks the node for every object and keeps what is missing or other as drift; the diff
compares what was brought with what is wanted, drift included; `up` makes, changes and removes. Each call may be
repeated, so a run that was cut off is gone on with by the next.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import tempfile
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, ReadResult, Resource, ResourceProvider, UpdateResult

from consortium.engine_log import child_urn, tell
from consortium.errors import Refused, Unreachable
from consortium.kuscia.door import Way, door
from consortium.kuscia.requests import differences
from consortium.reasons import compare
from coordinator.kuscia.api import KINDS, KusciaApi
from coordinator.kuscia.channel import Channel, tls
from coordinator.kuscia.errors import KusciaError, KusciaForbidden, KusciaUnreachable

Requests = dict[str, dict[str, Any]]
"""`Kind name` → {kind, body}, as requests.py makes them."""
T = TypeVar("T")


@dataclass(frozen=True)
class Access:
    """Where a node's KusciaAPI is, and what opens it; all PEM but the token."""

    url: str
    ca: str
    certificate: str
    key: str = field(repr=False)
    token: str = field(repr=False)
    way: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """door.Way, where it is not reached from here."""


@contextlib.asynccontextmanager
async def node(access: Access) -> AsyncIterator[KusciaApi]:
    """A client of the node. Keys lie in a folder of this user's for the moment in which Python reads them."""
    async with Channel(access.url, _context(access), access.token) as channel:
        yield KusciaApi(channel)


def _context(access: Access) -> ssl.SSLContext:
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for name in ("ca", "certificate", "key"):
            path = Path(folder, name)
            path.touch(mode=0o600)
            path.write_text(getattr(access, name))
            paths.append(path)
        return tls(*paths)


async def bring(api: KusciaApi, wanted: Requests, had: Requests) -> list[str]:
    """Make the node have what is wanted, and no longer what is not; what was done, for people. Raises KusciaError."""
    done = []
    for key, one in _in_order(wanted):
        kind, body = one["kind"], one["body"]
        found = await api.query(kind, body)
        if found is None:
            if not await api.create(kind, body):  # it came meanwhile, from whom and how is not known
                await api.update(kind, body)
            done.append(f"{key} made")
        elif other := differences(kind, body, found):
            await api.update(kind, body)
            done.append(f"{key} changed: {', '.join(other)}")
    for key, one in reversed(_in_order(had)):
        if key not in wanted and await api.delete(one["kind"], one["body"]):
            done += [f"{key} removed"]
    return done


def _in_order(requests: Requests) -> list[tuple[str, dict[str, Any]]]:
    """As one needs the other. A map that came through Pulumi's engine has no order of its own."""
    kinds = list(KINDS)
    return sorted(requests.items(), key=lambda item: (kinds.index(item[1]["kind"]), item[0]))


async def drift(api: KusciaApi, wanted: Requests) -> dict[str, str]:
    """Object → how the node's differs. Raises KusciaError."""
    found = {}
    for key, one in wanted.items():
        there = await api.query(one["kind"], one["body"])
        if there is None:
            found[key] = "is gone"
        elif other := differences(one["kind"], one["body"], there):
            found[key] = f"differs in {', '.join(other)}"
    return found


def changes(olds: Mapping[str, Any], news: Mapping[str, Any]) -> Iterator[str]:
    """Name every difference that makes a run necessary."""
    yield from (f"{key} {how}" for key, how in (olds.get("drift") or {}).items())
    yield from (f"{key} {what}" for key, what in compare(olds.get("requests"), news.get("requests") or {}))


class WiringProvider(ResourceProvider):
    """Decides by comparing, acts through KusciaAPI."""

    serialize_as_secret_always = False

    def diff(self, _id: str, olds: dict[str, Any], news: dict[str, Any]) -> DiffResult:
        reasons = list(changes(olds, news))
        if reasons:
            tell(news["urn_"], f"will change in the Kuscia node: {'; '.join(reasons)}")
        replaces = ["party"] if olds.get("party") != news.get("party") else []
        return DiffResult(changes=bool(reasons or replaces), replaces=replaces, delete_before_replace=True)

    def create(self, props: dict[str, Any]) -> CreateResult:
        return CreateResult(id_=props["party"], outs=_bring(props, {}))

    def update(self, _id: str, olds: dict[str, Any], news: dict[str, Any]) -> UpdateResult:
        return UpdateResult(outs=_bring(news, olds.get("requests") or {}))

    def read(self, id_: str, props: dict[str, Any]) -> ReadResult:
        try:
            found = _run(props, lambda api: drift(api, props["requests"]))
        except (Refused, Unreachable) as error:
            # A node that cannot be asked *is* drift; a refresh that stops here could never be followed by a repair.
            found = {"the node": str(error)}
        for key, how in found.items():
            tell(props["urn_"], f"{key} {how}", severity="WARNING")
        return ReadResult(id_, {**props, "drift": found})

    def delete(self, _id: str, props: dict[str, Any]) -> None:
        """A node that is away keeps its objects, and goes with them: that must not keep an institution from going."""
        try:
            _run(props, lambda api: bring(api, {}, props["requests"]))
        except Unreachable as error:
            tell(props["urn_"], f"its objects stay in the node: {error}", severity="WARNING")


def _bring(props: dict[str, Any], had: Requests) -> dict[str, Any]:
    for line in _run(props, lambda api: bring(api, props["requests"], had)):
        tell(props["urn_"], line)
    return {**props, "drift": {}}


def _run(props: Mapping[str, Any], what: Any) -> Any:
    """Raises Unreachable, Refused."""
    access = Access(**props["access"])
    with door(Way(**access.way), access.url) as url:

        async def work() -> Any:
            async with node(replace(access, url=url)) as api:
                return await what(api)

        return _told(access, work())


def _told(access: Access, work: Coroutine[Any, Any, T]) -> T:
    try:
        return asyncio.run(work)
    except KusciaUnreachable as error:
        raise Unreachable(
            "the Kuscia node does not answer",
            where=access.url,
            value=str(error),
            fix="consortium doctor, then up again",
        ) from error
    except KusciaForbidden as error:
        raise Refused(
            "the Kuscia node does not let this stack in",
            where=access.url,
            value=str(error),
            fix="its kuscia.yaml holds another key than this stack: `consortium up --refresh`",
        ) from error
    except KusciaError as error:
        raise Refused("the Kuscia node does not take an object", where=access.url, value=str(error)) from error


class Wiring(Resource, module="consortium", name="Wiring"):
    """Everything that a party's Kuscia node is told. `access` is one secret in state."""

    drift: pulumi.Output[dict[str, str]]

    def __init__(
        self,
        name: str,
        *,
        party: str,
        access: pulumi.Input[Access],
        requests: Requests,
        parent_urn: str,
        opts: pulumi.ResourceOptions,
    ) -> None:
        parts: pulumi.Output[Any] = pulumi.Output.from_input(access).apply(lambda one: dict(vars(one)))
        properties = {
            "party": party,
            "access": pulumi.Output.secret(parts),
            "requests": requests,
            "drift": {},
            "urn_": child_urn(parent_urn, Wiring._resource_type_name, name),
        }
        super().__init__(WiringProvider(), name, properties, opts)
