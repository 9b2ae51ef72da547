"""The site is built strictly, every link in it leads somewhere, and a browser loads nothing from elsewhere for it."""

from __future__ import annotations

import functools
import http.server
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from playwright.sync_api import sync_playwright

from docsite import diagrams, links

ROOT = Path(__file__).parents[2]


class Parsed(HTMLParser):
    """What one page refers to, and what can be referred to in it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.assets: list[str] = []
        self.names: set[str] = set()
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.names |= {found[key] for key in ("id", "name") if key in found}
        if tag == "a" and "href" in found:
            self.targets.append(found["href"])
        elif tag == "link" and "href" in found and found.get("rel") != "canonical":
            self.assets.append(found["href"])
        elif "src" in found:
            self.assets.append(found["src"])


def build(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site), *arguments]
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = build(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Parsed]:
    return {path: Parsed(path) for path in sorted(site.rglob("*.html"))}


def test_every_document_has_a_page(site: Path) -> None:
    documents = [path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md")]
    assert [str(path) for path in documents if not (site / path.with_suffix(".html")).is_file()] == []
    assert all((site / page).with_suffix(".html").is_file() for page in ("changes.md", "contributing.md"))


def test_no_link_is_broken(site: Path, pages: dict[Path, Parsed]) -> None:
    broken = []
    for path, page in pages.items():
        for target in [*page.targets, *page.assets]:
            parts = urlsplit(target)
            if parts.scheme or path.name == "404.html":
                continue
            goal = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            goal = goal / "index.html" if goal.is_dir() else goal
            if not goal.is_file() or not goal.is_relative_to(site):
                broken.append(f"{path.relative_to(site)}: {target} is not there")
            elif parts.fragment and goal in pages and unquote(parts.fragment) not in pages[goal].names:
                broken.append(f"{path.relative_to(site)}: {target} has no such heading")
    assert broken == []
    assert sum(len(page.targets) for page in pages.values()) > 1000


def test_no_page_names_an_asset_elsewhere(site: Path, pages: dict[Path, Parsed]) -> None:
    elsewhere = {
        f"{path.relative_to(site)}: {asset}"
        for path, page in pages.items()
        for asset in page.assets
        if urlsplit(asset).netloc
    }
    assert elsewhere == set()


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    class Silent(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    handler = functools.partial(Silent, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_browser_loads_nothing_from_elsewhere_and_no_page_is_wider_than_a_telephone(
    site: Path, pages: dict[Path, Parsed], address: str
) -> None:
    asked, complaints, wide = [], [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 390, "height": 800})
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        for path in pages:
            if path.parent == site or path.name == "stack-settings.html":  # what is generated is all of one kind
                page.goto(f"{address}/{path.relative_to(site).as_posix()}", wait_until="domcontentloaded")
                if page.evaluate("document.documentElement.scrollWidth > window.innerWidth"):
                    wide.append(path.name)
        page.set_viewport_size({"width": 1200, "height": 800})
        page.goto(f"{address}/index.html")
        page.get_by_role("textbox", name="Search").fill("passphrase")
        page.locator(".md-search-result__link").first.wait_for(timeout=15_000)
        browser.close()
    assert {url for url in asked if not url.startswith((address, "data:", "blob:"))} == set()
    assert complaints == []
    assert wide == []
    assert len(asked) > 50


def test_a_broken_link_and_a_page_in_no_navigation_fail_the_build(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "index.md").write_text("# One\n\n[away](no-such-page.md)\n")
    (docs / "forgotten.md").write_text("# Two\n")
    config = (ROOT / "mkdocs.yml").read_text("utf-8")
    config = config.replace("docs_dir: docs", f"docs_dir: {docs}").replace(
        "docsite/hooks.py", f"{ROOT}/docsite/hooks.py"
    )
    (tmp_path / "mkdocs.yml").write_text(config)
    done = build(tmp_path / "site", "--config-file", str(tmp_path / "mkdocs.yml"))
    assert done.returncode != 0
    said = done.stdout + done.stderr
    assert "link 'no-such-page.md'" in said
    assert re.search(r"not included in the \"nav\".*\n.*forgotten.md", said), said


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        ("[a](security.md#assets)", "[a](security.md#assets)"),
        ("[a](../jobs/psi)", "[a](source/jobs/psi.md)"),
        ("[a](../CONTRIBUTING.md#rules)", "[a](contributing.md#rules)"),
        ("[a](https://www.secretflow.org.cn)", "[a](https://www.secretflow.org.cn)"),
        ("```sh\n[a](../jobs/psi)\n```", "```sh\n[a](../jobs/psi)\n```"),
    ],
)
def test_links_lead_to_pages(link: str, expected: str) -> None:
    assert links.for_site(link, "docs/runbook.md", "runbook.md") == expected


def test_links_of_a_page_in_a_folder() -> None:
    text = "[a](../security.md) [b](../../jobs/psi)"
    assert links.for_site(text, "docs/adr/0001.md", "adr/0001.md") == "[a](../security.md) [b](../source/jobs/psi.md)"


def test_a_state_diagram_becomes_a_table() -> None:
    text = "```mermaid\nstateDiagram-v2\n    [*] --> one\n    one --> two\n    one --> three\n```"
    assert diagrams.as_tables(text).splitlines()[2:] == ["| *begin* | `one` |", "| `one` | `two`, `three` |"]
    with pytest.raises(ValueError, match="flowchart"):
        diagrams.as_tables("```mermaid\nflowchart LR\n  a --> b\n```")
