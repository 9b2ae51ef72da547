"""Named places where a test may kill the process, to prove that a crash there does no harm. Off unless asked for.

Every durable step has a name in `Step`; the store passes `before-<step>` and `after-<step>` around the commit that
makes it durable. The effects that reach outside the database have names in `Effect`, passed likewise.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable
from contextvars import ContextVar
from enum import StrEnum


class Step(StrEnum):
    """Every kind of durable step of a job."""

    SUBMIT = "submit"  # the initiator's signed proposal
    VERDICT = "verdict"  # a person's approval or denial
    CANCEL = "cancel"  # a person's wish to end the job
    RECEIVE_PROPOSAL = "receive-proposal"
    RECEIVE_APPROVAL = "receive-approval"
    RECEIVE_PREPARE = "receive-prepare"
    RECEIVE_PROMISE = "receive-promise"
    RECEIVE_DECISION = "receive-decision"
    RECEIVE_READY = "receive-ready"
    RECEIVE_GO = "receive-go"
    RECEIVE_OUTCOME = "receive-outcome"
    RECEIVE_CANCEL = "receive-cancel"
    RECEIPT = "receipt"  # a peer has confirmed statements
    ABSENT = "absent"  # asked about an attempt it has not promised, this party refuses it
    APPROVAL = "approval"  # by policy, or the initiator's own
    APPROVED = "approved"  # every party said yes
    PREPARE = "prepare"  # the initiator asks for promises
    PREPARING = "preparing"  # a participant was asked
    PROMISE = "promise"
    REFUSE = "refuse"
    DECIDE_START = "decide-start"
    DECIDE_ABORT = "decide-abort"
    ABORTED = "aborted"  # the attempt is known not to start
    IN_DOUBT = "in-doubt"  # the slot is let go, the promise stands
    START = "start"  # the decision is taken over: from here a driver may be launched
    LAUNCHED = "launched"
    READY = "ready"
    GO = "go"
    OUTCOME = "outcome"
    DRIVER_GONE = "driver-gone"
    RETRY = "retry"  # another attempt may follow
    END = "end"  # the label follows from the outcomes
    SETTLE = "settle"  # the last signature, or a final decision, after the label was given
    CLOSED = "closed"  # ended by the initiator before a start
    GIVE_UP = "give-up"  # the deadline passed without a word
    DIVERGE = "diverge"


class Effect(StrEnum):
    """What a party does outside its database on behalf of a job."""

    KEEP_BUNDLE = "keep-bundle"
    LAUNCH = "launch"
    TELL_GO = "tell-go"
    STOP = "stop"


class KusciaStep(StrEnum):
    """Steps of a job that only Kuscia mode has."""

    SUSPEND = "suspend"
    RESUME = "resume"


class KusciaEffect(StrEnum):
    """What a party asks of its own node on behalf of a job."""

    CREATE = "kuscia-create"
    ANSWER = "kuscia-answer"
    CANCEL = "kuscia-cancel"


AnyStep = Step | KusciaStep

FAILPOINTS: tuple[str, ...] = tuple(f"{when}-{name}" for name in (*Step, *Effect) for when in ("before", "after"))
"""Every place, in no order. tests/coordinator/test_crashes.py kills both roles at each that they pass."""

KUSCIA_FAILPOINTS: tuple[str, ...] = tuple(
    f"{when}-{name}" for name in (*KusciaStep, *KusciaEffect) for when in ("before", "after")
)
"""Those that only Kuscia mode has: tests/coordinator/test_kuscia_crashes.py."""

party: ContextVar[str] = ContextVar("party", default="")
"""Whose code runs: parties that share a process in tests are told apart by it."""

hook: Callable[[str, str], None] | None = None
"""Called with (party, name) at each place; tests of parties in one process crash one of them here."""

_seen: Counter[str] = Counter()


def failpoint(name: str) -> None:
    """Kill this process here if CONSORTIUM_FAILPOINT is `<name>:<n>` and this is the n-th passage (from 1)."""
    if hook:
        hook(party.get(), name)
    wanted, _, count = os.environ.get("CONSORTIUM_FAILPOINT", "").partition(":")
    if wanted == name:
        _seen[name] += 1
        if _seen[name] == int(count or 1):
            os.kill(os.getpid(), signal.SIGKILL)
