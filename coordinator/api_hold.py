"""The operator's way to hold the queue: while nodes are replaced, no attempt shall begin."""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import APIRouter, Form

from coordinator.accept import RefusedError
from coordinator.api_models import Held
from coordinator.context import Context
from coordinator.hold import Hold, note_end, note_hold
from coordinator.worker import Worker

LONGEST_S = 7 * 86400.0
Until = Annotated[float, Form(gt=0, description="seconds since 1970: then it ends by itself; at most a week ahead")]
Why = Annotated[str, Form(min_length=1, max_length=500, description="stands in the audit log, and is told to peers")]


def add_hold_routes(router: APIRouter, context: Context, worker: Worker) -> None:
    """POST /hold and /resume."""

    @router.post("/hold", response_model=Held)
    async def hold(until: Until, reason: Why) -> dict[str, Any]:
        """Begin no attempt and promise none. What runs goes on; jobs may be submitted and approved, and wait."""
        now = time.time()
        if not now < until <= now + LONGEST_S:
            why = f"until {until:.0f}: must be later than now ({now:.0f}), at most {LONGEST_S / 86400:.0f} days"
            raise RefusedError(422, why)
        wanted = Hold(until, reason)
        if context.hold != wanted:
            note_hold(context.store, now, wanted)
            context.hold = wanted
            worker.enqueue_all()
        return {"held": wanted.text}

    @router.post("/resume", response_model=Held)
    async def resume(reason: Why) -> dict[str, Any]:
        """End a hold; `reason` says in the audit log how it went. Without a hold nothing happens."""
        if context.hold is not None:
            note_end(context.store, time.time(), reason)
            context.hold = None
            worker.enqueue_all()
        return {"held": ""}
