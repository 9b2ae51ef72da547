"""Middleware of the HTTP interfaces: bounded bodies and rates, the gateway's proof of identity, answers that last."""

from __future__ import annotations

import hmac
import math
from collections.abc import Callable, Collection

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from coordinator.buckets import Buckets
from coordinator.group_commit import DiskFullError, StoreError
from coordinator.store import Store


class BodyLimit:
    """Answers 413 to a body longer than the path allows, announced or not.

    Bodies that one peer has on their way take at most `at_once` bytes of memory, however many there are: else 429.
    """

    def __init__(self, app: ASGIApp, limit: Callable[[str], int], at_once: Callable[[], int] | None = None) -> None:
        self._app, self._limit, self._at_once = app, limit, at_once
        self._held: dict[str, int] = {}  # peer -> bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass as long as it stays within its limit."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._limit(scope["path"])
        party = scope.get("state", {}).get("party", "")
        body, refused = await self._read(receive, Headers(scope=scope), limit, party)
        if refused:
            await refused(scope, receive, send)
            return
        whole: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Message:
            return whole.pop() if whole else await receive()

        await self._app(scope, replay, send)

    async def _read(self, receive: Receive, headers: Headers, limit: int, party: str) -> tuple[bytes, ASGIApp | None]:
        """The body, read whole, or what answers in its place: a handler must never see a part of a message."""
        too_long = JSONResponse({"detail": f"the body is longer than {limit} bytes"}, 413)
        announced = headers.get("content-length", "0")
        if not announced.isdigit() or int(announced) > limit:
            return b"", too_long
        body, more = bytearray(), True  # bytes would be copied for every part: one byte at a time costs hours
        try:
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return b"", _say_nothing
                part = message.get("body", b"")
                body += part
                self._held[party] = self._held.get(party, 0) + len(part)
                if len(body) > limit:
                    return b"", too_long
                if self._at_once and self._held[party] > self._at_once():
                    why = f"bodies of {party} on their way take more than {self._at_once()} bytes: one after the other"
                    return b"", JSONResponse({"detail": why}, 429, {"retry-after": "1"})
                more = message.get("more_body", False)
        finally:
            self._held[party] = self._held.get(party, 0) - len(body)
        return bytes(body), None


async def _say_nothing(scope: Scope, receive: Receive, send: Send) -> None:
    """Nobody waits for an answer, and half a body is no message of a peer's."""


class GatewayOnly:
    """Lets only requests through that the own gateway has marked with the shared secret and a member's name.

    A program of a job runs on the same network; without the secret it cannot pose as a peer.
    """

    def __init__(
        self,
        app: ASGIApp,
        token: str,
        peers: Callable[[], Collection[str]],
        refused: Callable[[str, str], None] = lambda *_: None,
    ) -> None:
        self._app, self._token, self._peers, self._refused = app, token.encode(), peers, refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check the two headers; each must be there exactly once."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        tokens, names = headers.getlist("x-consortium-gateway-token"), headers.getlist("x-consortium-party")
        genuine = len(tokens) == 1 and hmac.compare_digest(tokens[0].encode("latin-1"), self._token)
        if not genuine:
            self._refused("peer interface", "a request that did not come through the own gateway")
            answer = JSONResponse({"detail": "only the own gateway may call this interface"}, 401)
            await answer(scope, receive, send)
        elif len(names) != 1 or names[0] not in self._peers():
            self._refused("peer interface, name", f"the gateway named {names[:3]!r}, who is no peer")
            answer = JSONResponse({"detail": f"{names[:3]!r} is not a peer; peers are {sorted(self._peers())}"}, 403)
            await answer(scope, receive, send)
        else:
            scope.setdefault("state", {})["party"] = names[0]
            await self._app(scope, receive, send)


def cannot_write(party: str, error: StoreError) -> str:
    """What a peer is told when this party's state cannot be written."""
    why = "its disk is full" if isinstance(error, DiskFullError) else "its state cannot be written"
    return f"{party} takes nothing now: {why}; try again later"


class PeerRate:
    """Answers 429 to a peer that asks more often than agreed. For the sender that means: try later."""

    def __init__(
        self, app: ASGIApp, bound: Callable[[], tuple[float, int]], refused: Callable[[str, str, str], None]
    ) -> None:
        """`bound`: requests a second, and how many at once, as they are now."""
        self._app, self._bound, self._refused = app, bound, refused
        self._in_force = bound()
        self._buckets = Buckets(*self._in_force)

    def _take(self, party: str) -> float:
        if (now := self._bound()) != self._in_force:
            self._in_force, self._buckets = now, Buckets(*now)
        return self._buckets.take(party)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take a token of the peer's bucket. Its body is not read without one."""
        party = scope.get("state", {}).get("party")
        if scope["type"] == "http" and party and (wait := self._take(party)):
            per_s, burst = self._in_force
            why = f"too many requests of {party}: at most {per_s:g} requests a second, {burst} at once"
            self._refused(party, scope["path"], why)
            answer = JSONResponse({"detail": why}, 429, {"retry-after": str(math.ceil(wait))})
            await answer(scope, receive, send)
        else:
            await self._app(scope, receive, send)


class Durable:
    """Sends nothing before what it rests on is on the disk; what cannot be written is answered 507 (no room) or 503.

    `tell`: the reason in the words for the other side; a stranger is told nothing about this party's files.
    """

    def __init__(self, app: ASGIApp, store: Store, tell: Callable[[StoreError], str]) -> None:
        self._app, self._store, self._tell = app, store, tell

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hold every part of the answer back until it may leave."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        failures, begun = self._store.failures, False

        async def hold(message: Message) -> None:
            nonlocal begun
            await self._store.durable(failures)
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, hold)
        except StoreError as e:
            if begun:  # the connection breaks off: better than an end that looks whole
                raise
            status = 507 if isinstance(e, DiskFullError) else 503
            answer = JSONResponse({"detail": self._tell(e)}, status, {"retry-after": "5"})
            await answer(scope, receive, send)
