"""A real browser and real coordinators. What a page must never do is checked after every test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from page_rig import OPERATOR_TOKEN, Running
from playwright.sync_api import Browser, Page, expect, sync_playwright

expect.set_options(timeout=15_000)  # the machine may be busy


@pytest.fixture(scope="module")  # not longer: its event loop would be in the way of other tests
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    """alice asks a person, bob approves by himself."""
    with Running(tmp_path, policy=lambda p: {"default": "person" if p == "alice" else "approve"}) as found:
        yield found


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


@pytest.fixture
def stranger(browser: Browser, running: Running) -> Iterator[Watched]:
    """Somebody who has not signed in."""
    context = browser.new_context(viewport={"width": 1180, "height": 860})
    watched = Watched(context.new_page(), running)
    yield watched
    context.close()
    watched.check()


@pytest.fixture
def person(stranger: Watched) -> Watched:
    """The operator of alice, signed in."""
    stranger.sign_in()
    return stranger
