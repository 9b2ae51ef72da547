"""What the kernel says of a process."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

_BAD = ("error", "critical")


def memory_mb(pid: int, what: str = "VmRSS") -> float:
    """`VmRSS` (resident now) or `VmHWM` (the most so far); 1 MB = 1,000,000 bytes. OSError when it is gone."""
    text = Path(f"/proc/{pid}/status").read_text()
    kib = next(line.split()[1] for line in text.splitlines() if line.startswith(f"{what}:"))
    return int(kib) * 1024 / 1e6


def descriptors(pid: int) -> int:
    """Open file descriptors. OSError when it is gone."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def errors_logged(logs: Iterable[Path]) -> list[str]:
    """Lines of coordinators' logs that are errors, or none of the log's own form: a traceback on its way out."""
    lines = (line for log in logs if log.exists() for line in log.read_text().splitlines())
    return [line for line in lines if any(f'"level": "{level}"' in line for level in _BAD) or not line.startswith("{")]
