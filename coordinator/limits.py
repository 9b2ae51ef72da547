"""Middleware shared by both HTTP interfaces: bounded bodies, and the gateway's proof of identity."""

from __future__ import annotations

import hmac
from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class BodyLimit:
    """Answers 413 to a body longer than the path allows, announced or not."""

    def __init__(self, app: ASGIApp, limit: Callable[[str], int]) -> None:
        self._app, self._limit = app, limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass as long as it stays within its limit."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._limit(scope["path"])
        announced = Headers(scope=scope).get("content-length", "0")
        body = b""
        more = announced.isdigit() and int(announced) <= limit
        too_long = not more
        while more:  # read it whole here: a handler must never see the first part of a refused request
            message = await receive()
            body += message.get("body", b"")
            too_long = len(body) > limit
            more = message["type"] == "http.request" and message.get("more_body", False) and not too_long
        if too_long:
            answer = JSONResponse({"detail": f"the body is longer than {limit} bytes"}, 413)
            await answer(scope, receive, send)
            return
        whole: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Message:
            return whole.pop() if whole else await receive()

        await self._app(scope, replay, send)


class GatewayOnly:
    """Lets only requests through that the own gateway has marked with the shared secret and a member's name.

    A program of a job runs on the same network; without the secret it cannot pose as a peer.
    """

    def __init__(
        self, app: ASGIApp, token: str, peers: frozenset[str], refused: Callable[[str, str], None] = lambda *_: None
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
        elif len(names) != 1 or names[0] not in self._peers:
            self._refused("peer interface, name", f"the gateway named {names[:3]!r}, who is no peer")
            answer = JSONResponse({"detail": f"{names[:3]!r} is not a peer; peers are {sorted(self._peers)}"}, 403)
            await answer(scope, receive, send)
        else:
            scope.setdefault("state", {})["party"] = names[0]
            await self._app(scope, receive, send)
