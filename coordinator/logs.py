"""The log: one JSON object a line, whoever writes it: this package, uvicorn, Python's warnings, an uncaught error.

A line has `timestamp`, `level`, `logger`, `event`, and where they are known `job_id`, `attempt` and `peer`. No line
holds a token or key: none is ever handed to a logger, and libraries that could log requests stay at warnings.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

import structlog

_QUIET = ("httpx", "httpcore", "asyncio", "python_multipart")


def configure(level: int = logging.INFO) -> None:
    """Send every line of this process to standard output as JSON. Meant for a process that is a coordinator."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            structlog.processors.UnicodeDecoder(),
            structlog.processors.JSONRenderer(default=repr),
        ],
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(formatter)
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(True)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    sys.excepthook = _uncaught


def last_line(error: str) -> str:
    """Why a coordinator does not start, as one line of its log: for the time before `configure`."""
    now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    line = {"timestamp": now, "level": "critical", "logger": "coordinator", "event": f"does not start: {error}"}
    return json.dumps(line, ensure_ascii=False)


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    logging.getLogger("coordinator").critical("uncaught error", exc_info=(kind, error, trace))
