"""Parts of the status page: sessions of people, rendering, headers. `coordinator.statuspage` holds the routes."""

from __future__ import annotations

import hmac
import secrets
import time
from functools import partial
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from coordinator.accept import RefusedError
from coordinator.config import Config

COOKIE = "consortium_session"
SESSION_S = 8 * 3600
_MOST_SESSIONS = 100
_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


class Sessions:
    """Sessions of people who showed the token: cookie -> (CSRF token, end). In memory: a restart asks again."""

    def __init__(self) -> None:
        self._open: dict[str, tuple[str, float]] = {}

    def begin(self) -> str:
        """A new session's cookie. The oldest goes when there are too many."""
        now = time.monotonic()
        alive = [(k, v) for k, v in self._open.items() if v[1] > now]
        self._open = dict(alive[-(_MOST_SESSIONS - 1) :])
        cookie = secrets.token_urlsafe(32)
        self._open[cookie] = (secrets.token_urlsafe(32), now + SESSION_S)
        return cookie

    def csrf(self, request: Request) -> str | None:
        """CSRF token of the request's session, None without one."""
        found = self._open.get(request.cookies.get(COOKIE, ""))
        return found[0] if found and found[1] > time.monotonic() else None

    def check(self, request: Request, given: str) -> None:
        """Raise RefusedError unless the form came from a page of this session: 401 without one, else 403."""
        wanted = self.csrf(request)
        if wanted is None:
            raise RefusedError(401, "nobody is signed in here, or the session has ended: sign in and try again")
        if not hmac.compare_digest(given.encode(), wanted.encode()):
            raise RefusedError(403, "the page is out of date or the request came from elsewhere: reload and try again")

    def end(self, request: Request) -> None:
        """Forget the request's session."""
        self._open.pop(request.cookies.get(COOKIE, ""), None)


def when(seconds: float) -> str:
    """A moment, absolute."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds)) + " UTC"


def duration(seconds: float) -> str:
    """A duration in its largest fitting unit: `3 min`."""
    whole = max(0, int(seconds))
    size, unit = next(((s, u) for s, u in _UNITS if whole >= s), _UNITS[-1])
    return f"{whole // size} {unit}"


def since(age: float) -> str:
    """An age in seconds as people say it; a negative one lies ahead."""
    return "just now" if abs(age) < 1 else f"{duration(age)} ago" if age > 0 else f"in {duration(-age)}"


def moment(now: float, seconds: float) -> Markup:
    """A moment as people say it, with the absolute one in its title."""
    text = since(now - seconds)
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
    return Markup('<time datetime="{}" title="{}">{}</time>').format(stamp, when(seconds), text)


def size(count: int) -> str:
    """Bytes, readable."""
    return f"{count} bytes" if count < 10_000 else f"{count / 1000:.0f} kB"


class Pages:
    """Fills templates. A request with the header X-Fragment gets the main part alone, to update a page in place."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._environment = Environment(
            loader=PackageLoader("coordinator"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
        )
        self._environment.filters |= {"when": when, "since": since, "size": size}

    def render(self, request: Request, name: str, code: int = 200, **values: Any) -> HTMLResponse:
        """One page."""
        nonce, now = secrets.token_urlsafe(16), time.time()
        text = self._environment.get_template(name).render(
            layout="fragment.html" if fragment(request) else "base.html",
            party=self._config.party,
            consortium=self._config.consortium,
            here=request.url.path,
            nonce=nonce,
            code=code,
            now=now,
            ago=partial(moment, now),
            **{"csrf": None} | values,
        )
        return HTMLResponse(text, code, _headers(nonce))


def fragment(request: Request) -> str:
    """What the page's script asks for: `all`, or `live` without the program's text; empty for a whole page."""
    return request.headers.get("x-fragment", "")


def _headers(nonce: str) -> dict[str, str]:
    return {
        "content-security-policy": f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; "
        "connect-src 'self'; img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
        "cache-control": "no-store",
    }
