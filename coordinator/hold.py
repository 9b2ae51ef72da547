"""A hold: for a while this party begins no attempt and promises none. What runs goes on, what waits goes on waiting.

It is a record of the audit log, so it outlives a restart, and it ends by itself: an operator's machine that is gone
for good holds nobody up.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from coordinator.store import Store

KIND = "hold"


@dataclass(frozen=True)
class Hold:
    """`until`: seconds since 1970, own clock."""

    until: float
    reason: str

    @property
    def text(self) -> str:
        """For people, here and at the peers."""
        return f"until {datetime.fromtimestamp(self.until, UTC):%Y-%m-%d %H:%M:%S} UTC: {self.reason}"


def last_hold(store: Store) -> Hold | None:
    """The hold that the log speaks of last, None after its end. Its time may be over."""
    found = store.newest(KIND)
    return Hold(float(found["until"]), str(found["about"])) if found and found["until"] else None


def note_hold(store: Store, now: float, hold: Hold) -> None:
    """Record that it begins."""
    store.note(now, KIND, f"no new attempt {hold.text}", until=hold.until, about=hold.reason)


def note_end(store: Store, now: float, reason: str) -> None:
    """Record that it is over, and why."""
    store.note(now, KIND, f"goes on: {reason}", until=0, about=reason)
