"""A real browser and real coordinators. What a page must never do is checked after every test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from page_rig import Running, Watched
from playwright.sync_api import Browser, expect, sync_playwright

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
