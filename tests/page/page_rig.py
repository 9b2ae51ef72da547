"""Real coordinators in a thread of their own, so that a browser driven from the test's thread finds them running."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from playwright.sync_api import Page

sys.path.insert(0, str(Path(__file__).parents[1] / "coordinator"))
from coordinator_rig import OPERATOR_TOKEN, Rig

__all__ = ["OPERATOR_TOKEN", "Rig", "Running", "Watched"]
T = TypeVar("T")

# Prints as it goes, so that a log can be watched.
TALKATIVE = '''"""Counts, in place of a computation."""
import json, os, time

session = json.load(open(os.environ["CONSORTIUM_SESSION"]))
output, parameters = session["output_dir"], session["parameters"]


def keep(name, value):
    json.dump(value, open(f"{output}/.{name}", "w"))
    os.replace(f"{output}/.{name}", f"{output}/{name}")


ready = {"ready_at": time.time()}
keep("session.json", ready)
while not os.path.exists(session["go_file"]):
    time.sleep(0.01)
go = json.load(open(session["go_file"]))
time.sleep(max(0, go["start_at"] - time.time()))
keep("session.json", ready | go | {"sf_init_entered_at": time.time()})
for step in range(1, parameters["steps"] + 1):
    print(f"{session['party']}: step {step} of {parameters['steps']}", flush=True)
    time.sleep(parameters["pause_s"])
keep("result.json", {"rows": 42})
'''


class Running:
    """A rig whose event loop runs in a thread. `do` runs a coroutine there and waits for it."""

    def __init__(self, folder: Path, parties: list[str] | None = None, **overrides: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._folder, self._parties, self._overrides = folder, parties or ["alice", "bob"], overrides

    def __enter__(self) -> Running:
        self._thread.start()
        self.rig = self.do(self._open())
        return self

    def __exit__(self, *_: object) -> None:
        self.do(self.rig.__aexit__())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(20)
        self._loop.close()

    async def _open(self) -> Rig:
        rig = Rig(self._folder, self._parties, **self._overrides)
        await rig.__aenter__()
        await rig.start()
        return rig

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """The coroutine's result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def url(self, party: str, path: str = "/") -> str:
        """Address of a party's status page."""
        return f"http://127.0.0.1:{self.rig.ports[party][0]}{path}"


class Watched:
    """A page and what it did wrong. `expected` holds parts of console messages that the test provokes."""

    def __init__(self, page: Page, running: Running) -> None:
        self.page, self.running = page, running
        self.expected: list[str] = []
        self.complaints: list[str] = []
        page.set_default_timeout(15_000)
        page.on("console", lambda m: self.complaints.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda e: self.complaints.append(str(e)))
        page.on("request", lambda r: self._check_origin(r.url))

    def _check_origin(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme != "data" and parts.netloc != urlsplit(self.running.url("alice")).netloc:
            self.complaints.append(f"request to elsewhere: {url}")

    def sign_in(self) -> None:
        self.page.goto(self.running.url("alice"))
        self.page.get_by_label("Operator's token").fill(OPERATOR_TOKEN)
        self.page.get_by_role("button", name="Sign in").click()
        self.page.get_by_role("heading", name="Overview").wait_for()

    def check(self) -> None:
        left = [c for c in self.complaints if not any(part in c for part in self.expected)]
        assert left == []
