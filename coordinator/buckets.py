"""Bounds in time: token buckets by name, refusals that fill no disk, wrong tokens that are not tried for ever."""

from __future__ import annotations

import hmac
import time
from collections import OrderedDict
from collections.abc import Callable

from starlette.requests import HTTPConnection

from coordinator.store import Store

Clock = Callable[[], float]
_NAMES = 1000  # buckets kept; who was quiet longest is forgotten first
_REFUSALS, _REFUSAL_EVERY_S = 20, 60.0
_GUESSES, _GUESS_EVERY_S = 20, 3.0
ADDRESS_HEADER = "x-consortium-address"  # set by the own gateway: who called its operator listener


class TooManyError(Exception):
    """This address has shown too many wrong tokens; the message says when it is listened to again."""


class Buckets:
    """One token bucket per name: `burst` tokens at first, then one each 1 / per_s seconds."""

    def __init__(self, per_s: float, burst: int, clock: Clock = time.monotonic) -> None:
        self._per_s, self._burst, self._clock = per_s, burst, clock
        self._known: OrderedDict[str, tuple[float, float]] = OrderedDict()  # name -> (tokens, when)

    def wait_s(self, name: str) -> float:
        """Seconds until there is a token; 0 when there is one. Takes none."""
        return max(0.0, (1 - self._tokens(name)) / self._per_s)

    def take(self, name: str) -> float:
        """Take a token: 0 when there was one, else the seconds until there is."""
        if wait := self.wait_s(name):
            return wait
        self._known[name] = (self._tokens(name) - 1, self._clock())
        self._known.move_to_end(name)
        if len(self._known) > _NAMES:
            self._known.popitem(last=False)
        return 0.0

    def _tokens(self, name: str) -> float:
        tokens, when = self._known.get(name, (float(self._burst), self._clock()))
        return min(float(self._burst), tokens + (self._clock() - when) * self._per_s)


class Refusals:
    """Audit records of what was refused: the first few of a peer whole, then one a minute that counts the rest."""

    def __init__(self, store: Store, clock: Clock = time.monotonic) -> None:
        self._store = store
        self._single = Buckets(1 / _REFUSAL_EVERY_S, _REFUSALS, clock)
        self._flood = Buckets(1 / _REFUSAL_EVERY_S, 1, clock)
        self._left_out: dict[tuple[str, bool], int] = {}

    def add(self, peer: str, path: str, why: str, flood: bool = False) -> None:
        """Record one refusal, or count it. `flood`: it was refused for being too much, the first is worth no more."""
        self._add(peer, why, flood, peer=peer, path=path[:200])

    def stranger(self, where: str, why: str) -> None:
        """The same for somebody without a name. `where` is one of a few fixed words, never a stranger's."""
        self._add(where, why, True, path=where)

    def _add(self, source: str, why: str, flood: bool, **about: str) -> None:
        if (self._flood if flood else self._single).take(source):
            self._left_out[source, flood] = self._left_out.get((source, flood), 0) + 1
            return
        left_out = self._left_out.pop((source, flood), 0)
        self._store.note(time.time(), "refused", why[:2000], **about, left_out_before=left_out)

    def flush(self) -> None:
        """Record what was only counted so far, by the same bound."""
        for source, flood in list(self._left_out):
            if not (self._flood if flood else self._single).take(source):
                count = self._left_out.pop((source, flood))
                self._store.note(time.time(), "refused", f"{count} more messages", peer=source, left_out_before=count)


class Guard:
    """The operator's token. Whoever shows wrong ones is no longer listened to for a while, by address."""

    def __init__(self, token: str, clock: Clock = time.monotonic) -> None:
        self._token = token.encode()
        self._wrong = Buckets(1 / _GUESS_EVERY_S, _GUESSES, clock)

    def right(self, request: HTTPConnection, given: str) -> bool:
        """True for the token. TooManyError when this address has shown too many wrong ones: it is not looked at."""
        caller = request.client.host if request.client else "unknown"
        name = f"{caller} {request.headers.get(ADDRESS_HEADER, '')[:64]}"
        if wait := self._wrong.wait_s(name):
            raise TooManyError(f"too many wrong tokens from {name.strip()}: try again in {wait:.0f} s")
        if hmac.compare_digest(given.encode(), self._token):
            return True
        if given:  # none at all is no guess
            self._wrong.take(name)
        return False
