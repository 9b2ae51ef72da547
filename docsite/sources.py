"""Pages that show files of the repository to which documents link."""

from __future__ import annotations

from pathlib import Path

from docsite.links import ROOT

_LANGUAGES = {".py": "python", ".yaml": "yaml", ".yml": "yaml", ".json": "json", ".md": "markdown", ".sh": "sh"}


def page(path: str) -> str:
    """Markdown that shows a file, or every file of a folder. FileNotFoundError when nothing is there."""
    start = ROOT / path
    if not start.exists():
        raise FileNotFoundError(start)
    parts = [f"# {path}"]
    for file in [start] if start.is_file() else _files(start):
        parts += [] if file == start else [f"## {file.relative_to(start).as_posix()}"]
        parts.append(f"~~~~~~{_LANGUAGES.get(file.suffix, 'text')}\n{file.read_text('utf-8').rstrip()}\n~~~~~~")
    return "\n\n".join(parts) + "\n"


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
