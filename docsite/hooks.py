"""What mkdocs calls while it builds the site: pages made from the code, links, and which pages are there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from docsite import diagrams, links, reference, sources

# Where a page comes from when that is not docs/<page>.
ORIGINS = {page: path for path, page in links.ADOPTED.items() if path != "README.md"}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Leave out of the navigation what is not there, and open its folders."""
    docs = Path(config.docs_dir)
    there = {path.relative_to(docs).as_posix() for path in docs.rglob("*.md")} | set(reference.PAGES) | set(ORIGINS)
    config.nav = _navigation(config.nav, there)
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages, and one for each file of the repository that a document links to."""
    made = {page: make() for page, make in reference.PAGES.items()}
    made |= {page: (links.ROOT / path).read_text("utf-8") for page, path in ORIGINS.items()}
    texts = {_origin(file.src_uri): file.content_string for file in files.documentation_pages()}
    texts |= {_origin(page): text for page, text in made.items()}
    wanted = {path for origin, text in texts.items() for path in links.outside(text, origin)}
    made |= {links.source_page(path): sources.page(path) for path in sorted(wanted)}
    for page, text in made.items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links and diagrams as the site can show them."""
    if page.file.src_uri.startswith("source/"):
        return markdown
    return diagrams.as_tables(links.for_site(markdown, _origin(page.file.src_uri), page.file.src_uri))


def _origin(page: str) -> str:
    return ORIGINS.get(page, f"docs/{page}")


def _navigation(entry: Any, there: set[str]) -> Any:
    """The entry with what is there of it; None when nothing is."""
    if isinstance(entry, list):
        return [found for part in entry if (found := _navigation(part, there)) is not None]
    if isinstance(entry, dict):
        opened = {title: _navigation(part, there) for title, part in entry.items()}
        return {title: part for title, part in opened.items() if part} or None
    if entry.endswith("/"):
        return sorted(page for page in there if page.startswith(entry)) or None
    return entry if entry in there else None
