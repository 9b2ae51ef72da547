"""One party's KusciaAPI over HTTPS: mutual TLS, a token in a header, JSON with the names of Kuscia's proto files.

What fails in Kuscia is answered with 200 and a code in `status`; only a wrong token (401) and a body that is no JSON
(400) are errors of HTTP (pkg/web/interceptor/http_interceptor.go). `watch` and `log/task/query` answer with JSON texts
one after another, with nothing between them (pkg/kusciaapi/handler/httphandler/job/watch.go).
"""

from __future__ import annotations

import codecs
import json
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Self

import httpx

from coordinator.kuscia.errors import KusciaError, KusciaForbidden, KusciaRefused, KusciaUnreachable

TIMEOUT_S = 10.0
SILENT_S = 30.0
"""A watch that is well sends a heartbeat every 10 s."""
AUTH_FAILED = 11102
LONGEST_TEXT = 8_000_000
"""Characters of one event. A longer one is no event of Kuscia: nothing of its size is kept."""
Json = dict[str, Any]


def tls(ca: Path, certificate: Path, key: Path) -> ssl.SSLContext:
    """From PEM files: who may answer, and who asks. Raises OSError, ssl.SSLError."""
    context = ssl.create_default_context(cafile=str(ca))
    context.load_cert_chain(certificate, key)
    return context


class Channel:
    """Sends one request after another, or several at a time. To be closed."""

    def __init__(self, url: str, context: ssl.SSLContext, token: str, *, timeout_s: float = TIMEOUT_S) -> None:
        self._http = httpx.AsyncClient(
            base_url=url,
            verify=context,
            headers={"Token": token},
            timeout=timeout_s,
            trust_env=False,
            follow_redirects=False,
        )
        self.url = url

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """No more requests."""
        await self._http.aclose()

    async def call(self, path: str, body: Json) -> Json:
        """The answer's `data`. Raises KusciaRefused, KusciaForbidden, KusciaUnreachable, KusciaError."""
        try:
            answer = await self._http.post(_place(path), json=body)
        except httpx.HTTPError as error:
            raise self._unreachable(path, error) from error
        return self._data(path, answer)

    async def events(self, path: str, body: Json) -> AsyncIterator[Json]:
        """What a call that does not end says, until the other side ends it. Raises as `call`."""
        timeout = httpx.Timeout(TIMEOUT_S, read=SILENT_S)
        try:
            async with self._http.stream("POST", _place(path), json=body, timeout=timeout) as answer:
                if answer.status_code != 200:
                    await answer.aread()
                    self._data(path, answer)
                texts = Texts()
                async for chunk in answer.aiter_bytes():
                    for event in texts.feed(chunk):
                        yield event
        except httpx.HTTPError as error:
            raise self._unreachable(path, error) from error
        except ValueError as error:
            raise KusciaError(f"{path}: {self.url} sends what is no event: {error}") from error

    def _unreachable(self, path: str, error: httpx.HTTPError) -> KusciaUnreachable:
        why = "no answer in time" if isinstance(error, httpx.TimeoutException) else str(error) or type(error).__name__
        return KusciaUnreachable(f"{path}: {self.url}: {why}")

    def _data(self, path: str, answer: httpx.Response) -> Json:
        if answer.status_code == httpx.codes.UNAUTHORIZED:
            raise KusciaForbidden(f"{path}: {self.url} does not take the token: it follows from the party's Kuscia key")
        try:
            found = answer.json() if answer.status_code == httpx.codes.OK else None
        except ValueError:
            found = None
        status = found.get("status") if isinstance(found, dict) else None
        if not isinstance(found, dict) or not isinstance(status, dict):
            raise KusciaError(f"{path}: {self.url} answers {answer.status_code} with what is no answer of KusciaAPI")
        code, said = status.get("code") or 0, str(status.get("message", ""))[:2000]
        if code == AUTH_FAILED:
            raise KusciaForbidden(f"{path}: {said}")
        if code != 0:
            raise KusciaRefused(f"{path}: {said} ({code})", code, said)
        data = found.get("data")
        return data if isinstance(data, dict) else {}


def _place(path: str) -> str:
    return path if path.startswith("/") else f"/api/v1/{path}"


class Texts:
    """Takes a stream of JSON objects apart, wherever it was cut."""

    def __init__(self) -> None:
        self._decode = json.JSONDecoder().raw_decode
        self._bytes = codecs.getincrementaldecoder("utf-8")()
        self._rest = ""

    def feed(self, chunk: bytes) -> Iterator[Json]:
        """Those that are whole now. Raises ValueError for what will never be one."""
        self._rest = (self._rest + self._bytes.decode(chunk)).lstrip()
        while self._rest:
            if self._rest[0] != "{":
                raise ValueError(f"an object begins with {{, not with {self._rest[:20]!r}")
            try:
                found, end = self._decode(self._rest)
            except json.JSONDecodeError:
                if len(self._rest) > LONGEST_TEXT:
                    raise ValueError(f"longer than {LONGEST_TEXT} characters") from None
                return
            self._rest = self._rest[end:].lstrip()
            yield found
