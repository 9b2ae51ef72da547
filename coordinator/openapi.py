"""The OpenAPI documents of both interfaces, made from the routes; docs/openapi holds what this prints."""

from __future__ import annotations

import json
from typing import Any, cast

from fastapi import FastAPI

from coordinator.api_operator import operator_routes
from coordinator.api_peer import peer_routes

API_VERSION = "1"

OPERATOR: dict[str, Any] = {
    "title": "Consortium coordinator",
    "version": API_VERSION,
    "summary": "For the people and programs of one institution",
    "description": "Every route needs the operator's token. A POST with an `Idempotency-Key` may be sent again after a "
    "lost answer: it has one effect. Errors are `{detail: text}`. See docs/api.md.",
    "openapi_tags": [{"name": "operator", "description": "jobs, approvals, state of this institution"}],
    "docs_url": None,
    "redoc_url": None,
}
PEER: dict[str, Any] = {
    "title": "Consortium coordinator, for peers",
    "version": API_VERSION,
    "summary": "For the coordinators of other parties, through the two gateways",
    "description": "The own gateway proves who calls. A POST needs no "
    "key to be repeated: a statement is identified by job, attempt, kind and party, and the rest is idempotent as it "
    "is. See docs/protocol.md.",
    "openapi_tags": [{"name": "peer", "description": "statements, job folders, signs of life"}],
    "docs_url": None,
    "redoc_url": None,
}


def document(which: str) -> str:
    """The document of `operator` or `peer`, as the file in docs/openapi holds it. Needs no configuration: routes look
    at their context only when they are called."""
    nothing = cast(Any, None)
    app = FastAPI(**{"operator": OPERATOR, "peer": PEER}[which])
    app.include_router(peer_routes(nothing, nothing) if which == "peer" else operator_routes(nothing, nothing, nothing))
    return text(app)


def text(app: FastAPI) -> str:
    """An application's document, in the one form that is compared."""
    return json.dumps(app.openapi(), indent=1, sort_keys=True, ensure_ascii=False) + "\n"
