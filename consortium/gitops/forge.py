"""Says things on a pull request or in an issue, and keeps to one comment or issue for each: observe, decide, act.

GitHub and GitLab differ in paths and words only; each is a table (`GITHUB`, `GITLAB`) for the one client.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import httpx

from consortium.errors import ConsortiumError, Refused, Unreachable, UsageError
from consortium.gitops.forge_table import Entry, Forge
from consortium.yamlfile import shorten

LABEL = "consortium"
REQUEST_S = 30.0
PAGE = 100
MAX_PAGES = 50
MAX_BODY = 65_536
"""What GitHub takes."""

Verb = Literal["made", "updated", "closed", "nothing"]


@dataclass(frozen=True)
class Decision:
    """What is to be done: `id` is the entry it is done to."""

    verb: Verb
    id: int = 0


def mark(name: str) -> str:
    """The first line by which a comment or issue of ours is known; readers of Markdown do not see it."""
    return f"<!-- consortium: {name} -->"


def decide(existing: Sequence[Entry], author: str, name: str, *, close: bool = False) -> Decision:
    """The oldest one of ours is kept. One that bears our mark and another author is somebody else's: left alone."""
    ours = [e.id for e in existing if e.author == author and e.body.lstrip().startswith(mark(name))]
    if close:
        return Decision("closed", min(ours)) if ours else Decision("nothing")
    return Decision("updated", min(ours)) if ours else Decision("made")


class Client:
    """One repository at a forge. Methods raise UsageError, Refused, Unreachable, ConsortiumError."""

    def __init__(self, forge: Forge, *, timeout_s: float = REQUEST_S) -> None:
        self.forge = forge
        self._client = httpx.Client(
            base_url=forge.api,
            headers=forge.headers,
            timeout=timeout_s,
            transport=httpx.HTTPTransport(retries=2),  # of connecting; a request that was sent is never sent again
            follow_redirects=False,  # the token is for this address alone
        )

    def comment(self, name: str, text: str) -> Verb:
        """Make or update the comment `name` on the pull request this pipeline runs for."""
        path = self.forge.comments()
        decision = decide(self._entries(path, {}), self._author(), name)
        body = {"body": _body(name, text)}
        if decision.verb == "made":
            self._send("POST", path, body)
        else:
            self._send(self.forge.change, self.forge.one_comment(decision.id), body)
        return decision.verb

    def issue(self, name: str, title: str, text: str) -> Verb:
        """Open the issue `name`, or update the open one."""
        return self._issue(name, {"title": title, self.forge.description: _body(name, text)}, close=False)

    def close_issue(self, name: str, text: str) -> Verb:
        """Close the open issue `name`, if there is one; `text` says why."""
        return self._issue(name, {self.forge.description: _body(name, text), **self.forge.closed}, close=True)

    def _issue(self, name: str, fields: Mapping[str, Any], *, close: bool) -> Verb:
        found = self._entries(self.forge.issues, self.forge.open_issues(LABEL))
        decision = decide(found, self._author(), name, close=close)
        if decision.verb == "made":
            self._send("POST", self.forge.issues, {**fields, "labels": self.forge.labels(LABEL)})
        elif decision.id:
            self._send(self.forge.change, f"{self.forge.issues}/{decision.id}", fields)
        return decision.verb

    def _author(self) -> str:
        if self.forge.author:
            return self.forge.author
        return str(self._send("GET", "/user")["id"])

    def _entries(self, path: str, query: Mapping[str, str]) -> list[Entry]:
        found: list[Entry] = []
        for page in range(1, MAX_PAGES + 1):
            batch = self._send("GET", path, params={**query, "per_page": PAGE, "page": page})
            found += [entry for item in batch if (entry := self.forge.entry(item))]
            if len(batch) < PAGE:
                return found
        # Whether ours is among the rest is not known: a second one would be worse than none.
        raise ConsortiumError("more comments or issues than can be looked through", where=path, value=str(len(found)))

    def _send(self, method: str, path: str, json: Any = None, params: Mapping[str, Any] | None = None) -> Any:
        where = f"{method} {self.forge.api}{path}"
        try:
            response = self._client.request(method, path, json=json, params=params)
        except httpx.HTTPError as error:
            raise Unreachable("the forge does not answer", where=where, value=str(error)) from error
        if response.is_success:
            return response.json() if response.content else None
        said = shorten(response.text, 500)
        if response.status_code in (401, 403, 404):
            raise Refused(
                "the forge does not let this token do that", where=where, value=said, fix=self.forge.permission
            )
        raise ConsortiumError(f"the forge answered {response.status_code}", where=where, value=said)


def _body(name: str, text: str) -> str:
    whole = f"{mark(name)}\n{text}"
    if len(whole) > MAX_BODY:
        raise UsageError("too long for a comment", value=f"{len(whole)} characters", allowed=f"at most {MAX_BODY}")
    return whole
