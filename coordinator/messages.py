"""What goes over the wire between coordinators besides statements. Same rule: everything is bounded and checked."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field

from coordinator.audit_heads import Head, HeadAnswer
from coordinator.config import Model
from coordinator.statements import JobId, Statement, Time

Nonce = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]


class Batch(Model):
    """Statements of one kind about one job."""

    statements: tuple[Statement, ...] = Field(min_length=1, max_length=256)


class Alive(Model):
    """An attempt whose driver is about to run or runs at the sender."""

    job_id: JobId
    attempt: int = Field(ge=1, le=10_000)


class Heartbeat(Model):
    """Sign of life: which attempts live at the sender, and now and then the signed head of its audit log."""

    alive: tuple[Alive, ...] = Field((), max_length=100)
    audit_head: Head | None = None


class Times(Model):
    """The two inner timestamps of a clock measurement, seconds, clock of the answering party."""

    received_at: Time
    sent_at: Time


class HeartbeatAnswer(Times):
    """What a heartbeat is answered with: the times, and what is said to an audit head that came with it."""

    audit_head: HeadAnswer | None = None


class Reach(Model):
    """Asks the receiver to call back with the nonce, to prove the way in both directions."""

    nonce: Nonce


Word = Annotated[str, Field(max_length=128)]


class Presented(Model):
    """What a party has in force: what its next job would be compared by. A newer release may say more."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    consortium_digest: Word
    versions: dict[Word, Word] = Field({}, max_length=50)
    ray: Word = ""  # what really runs; empty when it does not answer
    coordinator: Word = ""  # digest of the source that really runs; empty: a release that did not say it


class Known(Model):
    """Statements about one attempt that a party knows."""

    statements: tuple[Statement, ...] = Field((), max_length=256)
