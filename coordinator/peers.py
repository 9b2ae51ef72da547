"""Talking to the other parties' coordinators through the own gateway, and what is known of their state."""

from __future__ import annotations

import base64
import secrets
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from coordinator.audit_heads import HeadAnswer
from coordinator.authorities import authorities
from coordinator.config import Config
from coordinator.gateway_words import cause_of
from coordinator.messages import Batch, Heartbeat, HeartbeatAnswer, Known, Presented, Reach, Times
from coordinator.statements import Statement

GATEWAY_HEADER = "x-consortium-gateway"
"""Set by the peer's gateway on what it answers itself: so a dead coordinator is told from a dead gateway."""
COORDINATOR_HEADER = "x-consortium-coordinator"
"""Shows the own gateway that it is the coordinator that speaks; taken off there."""
M = TypeVar("M", bound=BaseModel)


class PeerError(Exception):
    """A peer did not do as asked; the message names the party and the answer. `status` is 0 without an answer."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


SAMPLE_AGE_S = 120.0
"""Older clock measurements do not count: a clock may have been set since."""


class Sample(NamedTuple):
    """One clock measurement: peer's clock minus own, and the round trip it took; seconds. `at`: monotonic."""

    offset_s: float
    delay_s: float
    at: float = 0.0


def measure(sent: float, times: Times, received: float) -> Sample:
    """Offset and delay from four timestamps. The true offset lies within half the delay of the result."""
    return Sample(
        ((times.received_at - sent) + (times.sent_at - received)) / 2,
        max(0.0, (received - sent) - (times.sent_at - times.received_at)),
        time.monotonic(),
    )


@dataclass
class PeerState:
    """What this coordinator has seen of one peer since it started. Times are monotonic seconds."""

    since: float
    heard: float | None = None  # it called us last
    reached: float | None = None  # it answered us last
    error: str = ""
    gateway_answers: bool = False  # the peer's own gateway said so when nobody behind it answered
    samples: deque[Sample] = field(default_factory=lambda: deque(maxlen=16))
    nonces: deque[str] = field(default_factory=lambda: deque(maxlen=100))  # brought back; its own floods none but it
    alive: dict[tuple[str, int], float] = field(default_factory=dict)  # attempt -> when it was said to live

    @property
    def best(self) -> Sample | None:
        """The measurement with the shortest way: the one with the smallest possible error. None without a fresh one.

        Each holds the true offset within half its delay. One that cannot be true together with the newest was taken
        before one of the clocks was set.
        """
        newest = max(self.samples, key=lambda s: s.at, default=None)
        if newest is None:
            return None
        fresh = (s for s in self.samples if newest.at - s.at <= SAMPLE_AGE_S)
        agree = (s for s in fresh if abs(s.offset_s - newest.offset_s) <= (s.delay_s + newest.delay_s) / 2)
        return min(agree, key=lambda s: s.delay_s)

    @property
    def delay_s(self) -> float:
        """The shortest round trip seen of late; 0 when there is none."""
        return self.best.delay_s if self.best else 0.0

    def proved_since(self, now: float) -> float:
        """Seconds since both directions were last gone; infinite if one never was."""
        if self.heard is None or self.reached is None:
            return float("inf")
        return now - min(self.heard, self.reached)

    def account(self, name: str, now: float, limit_s: float) -> str:
        """Which part of a peer that shows no sign of an attempt is to blame, as far as it can be seen from here.

        Half the limit: of two ways cut at one moment, one showed life a little later than the other.
        """

        def ago(at: float | None) -> str:
            return "never" if at is None else f"{now - at:.1f} s ago"

        answers = self.reached is not None and now - self.reached <= limit_s / 2
        speaks = self.heard is not None and now - self.heard <= limit_s / 2
        times = f"last heard {ago(self.heard)}, last answered {ago(self.reached)}"
        if answers and speaks:
            return f"its coordinator lives, but does not say that the attempt does ({times})"
        if answers:
            return f"its coordinator answers, but its own messages do not come through the gateways ({times})"
        if self.gateway_answers:
            return f"{name}'s coordinator is down, its gateway answers: {self.error} ({times})"
        what = f"{name}'s gateway or the way to it" if not speaks else f"the way to {name}'s gateway"
        return f"{what} is down: {self.error or 'no answer'} ({times})"

    def lost_for(self, now: float) -> float:
        """Seconds since both directions worked."""
        return now - min(self.heard or self.since, self.reached or self.since)


class Peers:
    """Client to all peers. `gateway_token` opens the own gateway's way out, which programs of jobs may not use."""

    def __init__(self, config: Config, gateway_token: str) -> None:
        word = base64.b64encode(f"coordinator:{gateway_token}".encode()).decode()
        self._headers = {COORDINATOR_HEADER: f"Basic {word}"}
        self.state: dict[str, PeerState] = {}
        """Of every other member, those that are gone included: jobs of old speak of them."""
        self._http: dict[str, httpx.AsyncClient] = {}
        self._retired: list[httpx.AsyncClient] = []
        self._known: dict[str, tuple[str, float]] = {}  # peer -> what its client was made with
        self.adopt(config)

    def adopt(self, config: Config) -> None:
        """Take up another configuration. What is under way to a peer goes on with what it began with."""
        self._limit, self._transfer_s = config.limits.message_bytes, config.timeouts.peer_transfer_s
        wanted = {name: (peer.url.rstrip("/"), config.timeouts.peer_request_s) for name, peer in config.peers.items()}
        for name in [name for name, made in self._known.items() if wanted.get(name) != made]:
            self._retired.append(self._http.pop(name))
        for name in sorted(set(wanted) - set(self._http)):
            url, timeout_s = wanted[name]
            self._http[name] = httpx.AsyncClient(
                base_url=url, headers=self._headers, timeout=timeout_s, trust_env=False, verify=authorities()
            )
        new = set(wanted) - set(self._known) | (set(config.gone) - set(self.state))
        self._known = wanted
        self.state |= {name: PeerState(time.monotonic()) for name in sorted(new)}

    async def close_retired(self) -> None:
        """Close what an earlier configuration used: by now nothing is under way on it."""
        while self._retired:
            await self._retired.pop().aclose()

    async def close(self) -> None:
        """Close connections."""
        for client in (*self._http.values(), *self._retired):
            await client.aclose()

    async def _call(self, peer: str, method: str, path: str, **more: Any) -> bytes:
        if peer not in self._http:
            raise PeerError(f"{peer} has left the consortium, or is revoked here")
        state = self.state[peer]
        try:
            async with self._http[peer].stream(method, f"/peer/v1/{path}", **more) as answer:
                body = b""
                async for part in answer.aiter_bytes():
                    body += part
                    if len(body) > self._limit:
                        raise PeerError(f"{peer}: answer to {path} is longer than {self._limit} bytes", 500)
        except httpx.HTTPError as e:
            state.error = f"{type(e).__name__}: {str(e) or 'no answer in time'}"[:300]
            state.gateway_answers = False
            raise PeerError(f"{peer} cannot be reached through the gateway: {state.error}") from e
        state.gateway_answers = answer.headers.get(GATEWAY_HEADER) == peer
        if not answer.is_success:
            said = body[:300].decode("utf-8", "replace")
            cause = "" if state.gateway_answers else cause_of(said, peer)
            state.error = f"HTTP {answer.status_code} to {path}: {said.removesuffix(' -')}{cause}"
            raise PeerError(f"{peer} answered {state.error}", answer.status_code)
        state.reached, state.error = time.monotonic(), ""
        return body

    async def _ask(self, peer: str, method: str, path: str, model: type[M], body: BaseModel | None = None) -> M:
        content = body.model_dump_json().encode() if body else None
        headers = {"content-type": "application/json"}
        answer = await self._call(peer, method, path, content=content, headers=headers)
        try:
            return model.model_validate_json(answer)
        except ValidationError as e:
            raise PeerError(f"{peer}: answer to {path} is not understood: {str(e)[:300]}", 500) from e

    async def deliver(self, peer: str, statements: Sequence[Statement]) -> None:
        """Bring statements of one job, in order; those of one kind in one request."""
        for kind in dict.fromkeys(s.kind for s in statements):
            batch = Batch(statements=tuple(s for s in statements if s.kind is kind))
            body = batch.model_dump_json().encode()
            await self._call(peer, "POST", kind.value, content=body, headers={"content-type": "application/json"})

    async def send_bundle(self, peer: str, job_id: str, data: bytes) -> None:
        """Bring a job folder."""
        headers = {"content-type": "application/x-tar"}
        await self._call(peer, "POST", f"bundle/{job_id}", content=data, headers=headers, timeout=self._transfer_s)

    async def heartbeat(self, peer: str, beat: Heartbeat) -> HeadAnswer | None:
        """Show that we live; measure the clock on the way. Returns what the peer says to the audit head shown."""
        sent = time.time()
        answer = await self._ask(peer, "POST", "heartbeat", HeartbeatAnswer, beat)
        self.state[peer].samples.append(measure(sent, answer, time.time()))
        return answer.audit_head

    def offset_s(self, peer: str) -> float | None:
        """The peer's clock minus own; None while it was not measured."""
        best = self.state[peer].best
        return best.offset_s if best else None

    async def measure_clock(self, peer: str, rounds: int = 5) -> Sample:
        """Offset of the peer's clock, best of several."""
        taken = []
        for _ in range(rounds):
            sent = time.time()
            times = await self._ask(peer, "GET", "time", Times)
            taken.append(measure(sent, times, time.time()))
        self.state[peer].samples.extend(taken)
        return min(taken, key=lambda s: s.delay_s)

    async def reach(self, peer: str) -> str:
        """Have the peer call back; returns the nonce it was asked to bring."""
        nonce = secrets.token_hex(16)
        echo = await self._ask(peer, "POST", "reach", Reach, Reach(nonce=nonce))
        if echo.nonce != nonce:
            raise PeerError(f"{peer}: nonce {nonce} asked, {echo.nonce} answered", 500)
        return nonce

    async def presented(self, peer: str) -> Presented:
        """What the peer has in force."""
        return await self._ask(peer, "GET", "presented", Presented)

    async def reach_back(self, peer: str, nonce: str) -> None:
        """Bring a nonce back to the peer that asked for it."""
        await self._ask(peer, "POST", "reach-back", Reach, Reach(nonce=nonce))

    async def known(self, peer: str, job_id: str, attempt: int) -> tuple[Statement, ...]:
        """What the peer knows of the decision on an attempt. It promises nothing for it any more from then on."""
        return (await self._ask(peer, "GET", f"jobs/{job_id}/decision?attempt={attempt}", Known)).statements
