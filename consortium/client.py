"""Speaks to the own coordinator's operator API, and says plainly what went wrong when it cannot."""

from __future__ import annotations

import ipaddress
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from consortium import files
from consortium.errors import ConsortiumError, DocumentErrors, Refused, TimedOut, Unreachable
from consortium.settings import StackSettings
from consortium.stackfile import StackFile
from consortium.validation import validate
from consortium.workspace import Workspace
from consortium.yamlfile import YamlFile, shorten

REQUEST_S = 30.0
RESTART_S = 30.0
"""A coordinator that restarts is waited for so long by commands that wait anyway."""
POLL_S = 0.5


class Coordinator:
    """One institution's coordinator, as its operator reaches it."""

    def __init__(
        self, url: str, token: str, *, timeout_s: float = REQUEST_S, transport: httpx.BaseTransport | None = None
    ) -> None:
        self.url, self.timeout_s = url.rstrip("/"), timeout_s
        self._client = httpx.Client(
            base_url=f"{self.url}/api/v1",
            headers={"Authorization": f"Bearer {token}"},
            timeout=httpx.Timeout(timeout_s, connect=min(timeout_s, REQUEST_S)),
            transport=transport,
            trust_env=False,  # a proxy for the outside world must not see an operator's token
        )

    def get(self, path: str, **params: Any) -> Any:
        """JSON (or text) from the API. Raises Unreachable, TimedOut, Refused or ConsortiumError."""
        return _body(self._send("GET", path, params={k: v for k, v in params.items() if v is not None}))

    def post(self, path: str, *, key: str | None = None, **more: Any) -> Any:
        """Send with an idempotency key (a new one without `key`), and return what came back. Raises like `get`.

        A lost connection or answer is followed by one more try with the same key: it has one effect.
        """
        headers = {"Idempotency-Key": key or secrets.token_hex(16)}
        try:
            return _body(self._send("POST", path, headers=headers, **more))
        except (Lost, TimedOut):
            return _body(self._send("POST", path, headers=headers, **more))

    def submit(self, bundle: bytes, key: str | None = None) -> Any:
        """Propose a job; the same `key` makes one job of two calls."""
        return self.post("/jobs", key=key, files={"bundle": ("bundle.tar", bundle, "application/x-tar")})

    def wait(
        self,
        path: str,
        done: Callable[[Any], bool],
        timeout_s: float,
        what: str,
        seen: Callable[[Any], None] = lambda _: None,
    ) -> Any:
        """Ask again until `done`; a coordinator that restarts or does not know the thing yet is asked again too.
        `seen` is shown every answer.

        Raises TimedOut after `timeout_s` seconds, saying what was seen last.
        """
        end = time.monotonic() + timeout_s
        reached = time.monotonic()
        last: Any = None
        while True:
            problem = ""
            try:
                last = self.get(path)
                reached = time.monotonic()
                seen(last)
                if done(last):
                    return last
            except NotThere as error:
                reached = time.monotonic()
                problem = error.what
            except (Unreachable, TimedOut) as error:
                if time.monotonic() - reached > RESTART_S:
                    raise
                problem = error.what
            if time.monotonic() >= end:
                raise TimedOut(
                    f"{what} did not happen within {timeout_s:g} s",
                    where=f"{self.url}{path}",
                    value=problem or _phase(last),
                )
            time.sleep(min(POLL_S, max(end - time.monotonic(), 0)))

    def _send(self, method: str, path: str, **more: Any) -> httpx.Response:
        with self._explained():
            response = self._client.request(method, path, **more)
        return self._checked(response, method, path)

    def stream(self, path: str, **params: Any) -> Iterator[bytes]:
        """A long answer, piece by piece. Raises like `get`."""
        given = {k: v for k, v in params.items() if v is not None}
        with self._explained(), self._client.stream("GET", path, params=given) as response:
            if not response.is_success:
                response.read()
                self._checked(response, "GET", path)
            yield from response.iter_bytes()

    def _checked(self, response: httpx.Response, method: str, path: str) -> httpx.Response:
        if response.is_success:
            return response
        where = f"{method} {self.url}/api/v1{path}"
        said = _said(response)
        if response.status_code in (401, 403):
            raise Refused(
                "the coordinator does not accept this token",
                where=where,
                value=said,
                fix="--party, or CONSORTIUM_TOKEN",
            )
        if response.status_code == 404:
            raise NotThere("the coordinator knows no such thing", where=where, value=said, fix="consortium job list")
        if response.status_code < 500:
            raise Refused("the coordinator refuses this", where=where, value=said)
        if "json" not in response.headers.get("content-type", ""):
            # Not the coordinator's own words: the gateway in front of it says that nobody is there.
            raise Unreachable(
                "the gateway answers, the coordinator behind it does not",
                where=where,
                value=said,
                fix="it may be starting; else: consortium up --refresh",
            )
        raise ConsortiumError(f"the coordinator failed ({response.status_code})", where=where, value=said)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (httpx.ConnectTimeout, httpx.ConnectError, httpx.RemoteProtocolError, httpx.ReadError) as error:
            raise Lost(
                "the coordinator does not answer",
                where=self.url,
                value=str(error),
                fix="is the institution up? consortium up; another address: --api URL",
            ) from error
        except httpx.TimeoutException as error:
            raise TimedOut("the coordinator takes too long", where=self.url, value=f"{self.timeout_s:g} s") from error
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise ConsortiumError(
                "not an address of an API", where="--api", value=self.url, allowed="http://HOST:PORT"
            ) from error


class Lost(Unreachable):
    """No connection, or it broke before the answer: whether the request had an effect is not known."""


class NotThere(ConsortiumError):
    """The coordinator knows no job of this name (yet)."""


def operator_url(workspace: Workspace, party: str) -> str:
    """Where the engine publishes the coordinator's operator API. Raises DocumentErrors for wrong settings."""
    path = workspace.stack_file(party)
    file = YamlFile(f"stacks/{path.name}")
    settings = validate(
        StackSettings, StackFile(path).config().get("settings"), file, ("config", "consortium:settings")
    )
    if settings is None:
        raise DocumentErrors(file.problems)
    return operator_address(settings)


def operator_address(settings: StackSettings) -> str:
    """The same, of settings that are known."""
    address = ipaddress.ip_address(settings.operator.bind)
    if address.is_unspecified:
        address = ipaddress.ip_address("::1" if address.version == 6 else "127.0.0.1")
    host = f"[{address}]" if address.version == 6 else str(address)
    return f"http://{host}:{settings.operator.port}"


def operator_token(workspace: Workspace, party: str) -> str:
    """The token `consortium join` left in `.private`. Raises ConsortiumError if it is gone."""
    path = workspace.token_file(party)
    if not path.exists():
        fix = f"consortium join {party} writes it again"
        raise ConsortiumError("the operator's token is missing", where=str(path), fix=fix)
    return files.read(path).strip()


def _body(response: httpx.Response) -> Any:
    if "json" not in response.headers.get("content-type", ""):
        return response.text
    try:
        return response.json()
    except ValueError as error:
        raise ConsortiumError("the answer is no JSON", where=str(response.url), value=shorten(response.text)) from error


def _said(response: httpx.Response) -> str:
    try:
        detail = response.json().get("detail", response.text)
    except (ValueError, AttributeError):
        detail = response.text
    return shorten(detail, 2000)


def _phase(last: Any) -> str:
    if not isinstance(last, dict):
        return ""
    return f"phase {last.get('phase')}: {last.get('reason', '')}".rstrip(": ")
