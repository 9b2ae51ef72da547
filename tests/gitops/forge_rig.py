"""A forge's REST API on a real port, as strict as its documentation: other paths, tokens or fields are refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

TOKEN = "token-of-this-run"


@dataclass
class Rig:
    """What the forge holds; a test reads and plants it. `asked` is every (method, path with query, body)."""

    kind: str
    """github | gitlab."""
    comments: list[dict[str, Any]] = field(default_factory=list)
    issues: list[dict[str, Any]] = field(default_factory=list)
    asked: list[tuple[str, str, Any]] = field(default_factory=list)
    refuse: tuple[int, str] | None = None
    url: str = ""

    @property
    def project(self) -> str:
        return "/repos/bank/consortium" if self.kind == "github" else "/projects/4711"

    @property
    def environment(self) -> dict[str, str]:
        """What the forge's runner sets in every job."""
        if self.kind == "github":
            return {
                "GITHUB_ACTIONS": "true",
                "GITHUB_API_URL": self.url,
                "GITHUB_REPOSITORY": "bank/consortium",
                "GITHUB_SERVER_URL": "https://github.example",
                "GITHUB_RUN_ID": "99",
            }
        return {
            "GITLAB_CI": "true",
            "CI_API_V4_URL": self.url,
            "CI_PROJECT_ID": "4711",
            "CI_JOB_URL": "https://gitlab.example/job/99",
        }

    def mine(self, **entry: Any) -> dict[str, Any]:
        """An entry as this run's token would have written it."""
        return self.somebodys(**entry) | (
            {"user": {"login": "github-actions[bot]"}} if self.kind == "github" else {"author": {"id": 7}}
        )

    def somebodys(self, **entry: Any) -> dict[str, Any]:
        who = {"user": {"login": "mallory"}} if self.kind == "github" else {"author": {"id": 8}}
        return {"id": 1000 + len(self.comments) + len(self.issues), **who, **entry}

    # What the documentation says, one row for each request: method, path, needed and allowed fields, what happens.

    def rows(self) -> list[tuple[str, str, set[str], Callable[..., Any]]]:
        if self.kind == "github":
            return [
                ("GET", f"{self.project}/issues/12/comments", set(), lambda query: self._page(self.comments, query)),
                ("POST", f"{self.project}/issues/12/comments", {"body"}, self._add_comment),
                ("PATCH", rf"{self.project}/issues/comments/(\d+)", {"body"}, self._change_comment),
                ("GET", f"{self.project}/issues", set(), self._open_issues),
                ("POST", f"{self.project}/issues", {"title", "body", "labels"}, self._add_issue),
                (
                    "PATCH",
                    rf"{self.project}/issues/(\d+)",
                    {"title", "body", "state", "state_reason"},
                    self._change_issue,
                ),
            ]
        return [
            ("GET", "/user", set(), lambda query: {"id": 7}),
            ("GET", f"{self.project}/merge_requests/12/notes", set(), lambda query: self._page(self.comments, query)),
            ("POST", f"{self.project}/merge_requests/12/notes", {"body"}, self._add_comment),
            ("PUT", rf"{self.project}/merge_requests/12/notes/(\d+)", {"body"}, self._change_comment),
            ("GET", f"{self.project}/issues", set(), self._open_issues),
            ("POST", f"{self.project}/issues", {"title", "description", "labels"}, self._add_issue),
            ("PUT", rf"{self.project}/issues/(\d+)", {"title", "description", "state_event"}, self._change_issue),
        ]

    def answer(self, method: str, path: str, headers: Any, body: bytes) -> tuple[int, Any]:
        sent = json.loads(body) if body else None
        self.asked.append((method, path, sent))
        if self.refuse:
            return self.refuse[0], {"message": self.refuse[1]}
        if self.kind == "github":
            if headers["authorization"] != f"Bearer {TOKEN}" or headers["x-github-api-version"] != "2022-11-28":
                return 401, {"message": "Bad credentials"}
        elif headers["private-token"] != TOKEN:
            return 401, {"message": "401 Unauthorized"}
        parts = urlsplit(path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        for verb, pattern, allowed, act in self.rows():
            if verb == method and (match := re.fullmatch(pattern, parts.path)):
                if sent is not None and (not isinstance(sent, dict) or not set(sent) <= allowed):
                    return 422, {"message": f"unknown fields in {sorted(sent)}"}
                if method == "GET":
                    return 200, act(query)
                found = act(*map(int, match.groups()), sent)
                return (201 if method == "POST" else 200, found) if found else (404, {"message": "Not Found"})
        return 404, {"message": f"no {method} {path}"}

    def _page(self, entries: list[dict[str, Any]], query: dict[str, str]) -> list[dict[str, Any]]:
        size, page = int(query.get("per_page", 20)), int(query.get("page", 1))
        assert 1 <= size <= 100
        return entries[(page - 1) * size : page * size]

    def _open_issues(self, query: dict[str, str]) -> list[dict[str, Any]]:
        assert query["state"] == ("open" if self.kind == "github" else "opened")
        labelled = [i for i in self.issues if not query.get("labels") or query["labels"] in i["labels"]]
        return self._page([issue for issue in labelled if issue["open"]], query)

    def _add_comment(self, sent: dict[str, Any]) -> dict[str, Any]:
        self.comments.append(self.mine(body=sent["body"]))
        return self.comments[-1]

    def _change_comment(self, id_: int, sent: dict[str, Any]) -> dict[str, Any] | None:
        return _change(self.comments, "id", id_, sent)

    def _add_issue(self, sent: dict[str, Any]) -> dict[str, Any]:
        assert isinstance(sent["labels"], list if self.kind == "github" else str)
        number = {"number" if self.kind == "github" else "iid": len(self.issues) + 1}
        self.issues.append(self.mine(**{**sent, **number, "open": True}))
        return self.issues[-1]

    def _change_issue(self, number: int, sent: dict[str, Any]) -> dict[str, Any] | None:
        closed = sent.get("state") == "closed" or sent.get("state_event") == "close"
        key = "number" if self.kind == "github" else "iid"
        return _change(self.issues, key, number, sent | ({"open": False} if closed else {}))


def _change(entries: list[dict[str, Any]], key: str, value: int, sent: dict[str, Any]) -> dict[str, Any] | None:
    found = next((entry for entry in entries if entry[key] == value), None)
    if found:
        found.update(sent)
    return found


@contextmanager
def served(kind: str) -> Iterator[Rig]:
    rig = Rig(kind)

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            status, answer = rig.answer(self.command, self.path, self.headers, body)
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        do_GET = do_POST = do_PATCH = do_PUT = _answer

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    rig.url = f"http://127.0.0.1:{server.server_port}"
    Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield rig
    finally:
        server.shutdown()
        server.server_close()
