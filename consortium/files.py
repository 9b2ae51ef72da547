"""Writes files whole or not at all, and private ones readable by their owner only."""

from __future__ import annotations

import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from consortium.errors import ConsortiumError

PRIVATE_FOLDER_MODE = 0o700
PRIVATE_FILE_MODE = 0o600
PUBLIC_FILE_MODE = 0o644


def write(path: Path, text: str, *, private: bool = False) -> bool:
    """Write `text` to a temporary file beside `path`, then rename. Returns False if it stood there already.

    A private file is mode 0600 from its first byte on. Raises ConsortiumError if it cannot be written.
    """
    mode = PRIVATE_FILE_MODE if private else PUBLIC_FILE_MODE
    try:
        if path.is_file() and path.read_text("utf-8") == text:
            if private:
                path.chmod(mode)
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
                os.fchmod(file.fileno(), mode)
            Path(name).replace(path)
        except BaseException:
            with suppress(OSError):
                Path(name).unlink()
            raise
    except OSError as error:
        raise _cannot("write", path, error) from error
    return True


def private_folder(path: Path) -> Path:
    """Make `path`, or close it to everybody but its owner. Raises ConsortiumError where that is impossible."""
    try:
        path.mkdir(mode=PRIVATE_FOLDER_MODE, parents=True, exist_ok=True)
        if stat.S_IMODE(path.stat().st_mode) != PRIVATE_FOLDER_MODE:
            path.chmod(PRIVATE_FOLDER_MODE)
    except OSError as error:
        raise _cannot("make private", path, error) from error
    return path


def read(path: Path) -> str:
    """The text of a file of ours. Raises ConsortiumError naming it."""
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _cannot("read", path, error) from error


def _cannot(verb: str, path: Path, error: Exception) -> ConsortiumError:
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return ConsortiumError(
        f"cannot {verb} this", where=str(path), value=reason or str(error), fix="check the folder's owner and mode"
    )
