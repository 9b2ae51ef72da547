"""Requests of the operator that may come twice: the same key with the same request has one effect."""

from __future__ import annotations

import hashlib
import re
from typing import Any, NamedTuple

from coordinator.accept import RefusedError
from coordinator.context import Context
from coordinator.statements import canonical
from coordinator.store import UsedKeyError

KEY_PATTERN = r"^[A-Za-z0-9._:-]{1,100}$"


class Request(NamedTuple):
    """An Idempotency-Key, and the digest of what was asked with it."""

    key: str
    digest: str


def keyed(key: str | None, action: str, **content: Any) -> Request | None:
    """The request of `action` with this content; None without a key. Raises RefusedError for what is no key."""
    if key is None:
        return None
    if not re.fullmatch(KEY_PATTERN, key):
        raise RefusedError(422, f"Idempotency-Key {key[:100]!r}: 1 to 100 of letters, digits, '.', '_', ':', '-'")
    return Request(key, hashlib.sha256(canonical([action, content])).hexdigest())


def job_of(context: Context, request: Request | None) -> str | None:
    """The job that an earlier such request was about, None if there was none.

    Raises RefusedError when the key was used for another request.
    """
    try:
        return context.store.request(*request) if request else None
    except UsedKeyError as e:
        raise RefusedError(409, str(e)) from e
