"""Laid on a node by `testing.faults.sidecar`: lets a coordinator and its drivers see other values than the real ones.

Python imports it at its start (a `.pth` file). It reads `/run/consortium-fault.json` whenever it is asked:
`clock_s` is added to the time of day; `job_name` is put behind the name that this party gives an attempt; `checks_s`
is how much longer the checks before a promise take.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

SETTINGS = Path("/run/consortium-fault.json")
_now, _now_ns = time.time, time.time_ns
_read: tuple[tuple[int, int], dict[str, Any]] = ((0, 0), {})


def setting(name: str, default: Any) -> Any:
    """A value of the file as it is now; the default while there is none."""
    global _read
    try:
        file = SETTINGS.stat()
        if (file.st_ino, file.st_mtime_ns) != _read[0]:
            _read = ((file.st_ino, file.st_mtime_ns), json.loads(SETTINGS.read_text()))
    except FileNotFoundError:
        _read = ((0, 0), {})
    return _read[1].get(name, default)


def _shift_clock() -> None:
    time.time = lambda: _now() + float(setting("clock_s", 0.0))
    time.time_ns = lambda: _now_ns() + int(1e9 * float(setting("clock_s", 0.0)))


def _change_coordinator() -> None:
    import asyncio

    from coordinator import prepare, statements

    named, checked = statements.job_name, prepare.run_checks

    def job_name(job_id: str, attempt: int) -> str:
        return named(job_id, attempt) + str(setting("job_name", ""))

    async def run_checks(*arguments: Any) -> Any:
        await asyncio.sleep(float(setting("checks_s", 0.0)))
        return await checked(*arguments)

    # whoever has taken the old function over by its name takes the new one
    for module in list(sys.modules.values()):
        if getattr(module, "job_name", None) is named:
            module.job_name = job_name  # type: ignore[attr-defined]
    prepare.run_checks = run_checks  # type: ignore[assignment]


if "CONSORTIUM_SESSION" in os.environ:
    _shift_clock()
elif sys.orig_argv[1:4] == ["-m", "coordinator", "serve"]:
    _shift_clock()
    _change_coordinator()
