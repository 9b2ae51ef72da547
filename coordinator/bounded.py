"""Records what strangers can cause as often as they like, without letting them fill the audit log."""

from __future__ import annotations

import time

from coordinator.store import Store

EVERY_S = 60.0


class BoundedNotes:
    """The first of a kind is recorded at once, then at most one a minute, which says how many there were meanwhile."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._seen: dict[str, tuple[float, int]] = {}  # where -> monotonic seconds of the last record, held back since

    def refused(self, where: str, why: str) -> None:
        """Record a refusal. `where` is one of a few fixed words, never a stranger's."""
        now = time.monotonic()
        last, held = self._seen.get(where, (-EVERY_S, 0))
        if now - last < EVERY_S:
            self._seen[where] = (last, held + 1)
            return
        self._seen[where] = (now, 0)
        more = f" ({held} more since the last such record)" if held else ""
        self._store.note(time.time(), "refused", f"{why[:1000]}{more}", path=where)
