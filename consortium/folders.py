"""Where the installation and the per-user cache lie, and a lock for work that two commands must not do at once."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
INSTALLATION = PACKAGE / "bundle" if (PACKAGE / "bundle").is_dir() else PACKAGE.parent
"""Holds roles/, templates/, jobs/, airgap/ and the Pulumi program: the checkout, or what a wheel carries of it."""
COORDINATOR = PACKAGE.parent / "coordinator"
"""The coordinator's source, which goes onto nodes."""


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/consortium` (default ~/.cache/consortium); made when missing. It may be deleted at any time."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = root / "consortium"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def locked(path: Path, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold a lock between processes of this machine, waiting for it; it ends with the process in any case."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_wait()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
