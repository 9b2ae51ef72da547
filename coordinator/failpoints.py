"""Named places where a test may kill the process, to prove that a crash there does no harm. Off unless asked for."""

from __future__ import annotations

import os
import signal
from collections import Counter

_seen: Counter[str] = Counter()


def failpoint(name: str) -> None:
    """Kill this process here if CONSORTIUM_FAILPOINT is `<name>:<n>` and this is the n-th passage (from 1)."""
    wanted = os.environ.get("CONSORTIUM_FAILPOINT", "")
    if wanted.partition(":")[0] == name:
        _seen[name] += 1
        if _seen[name] == int(wanted.partition(":")[2] or 1):
            os.kill(os.getpid(), signal.SIGKILL)
