"""A few MB of this machine's own programs as an image, so that tests need no registry."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

PROGRAMS = ("sh", "sleep", "cat", "test", "touch", "true", "env")


def libraries(program: str) -> set[str]:
    """The shared libraries a program is loaded with."""
    said = subprocess.run(["ldd", program], capture_output=True, text=True).stdout
    return set(re.findall(r"(/\S+) \(0x", said))


def archive() -> bytes:
    """A root file system with a shell and what the tests' healthchecks run."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        needed: set[str] = set()
        for name in PROGRAMS:
            path = shutil.which(name, path="/usr/bin:/bin")
            assert path, f"this machine has no {name}"
            tar.add(Path(path).resolve(), f"bin/{name}")
            needed |= libraries(path)
        for library in sorted(needed):
            tar.add(Path(library).resolve(), library.lstrip("/"))
        for folder in ("etc", "tmp", "data", "proc", "sys", "dev"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777
            tar.addfile(entry)
    return made.getvalue()
