"""Keeps a plain `up`, Pulumi's own one too, from changing versions outside of what all agreed on."""

from __future__ import annotations

import os

import pulumi

from consortium.client import Coordinator, operator_address
from consortium.spec import Model
from consortium.upgrade.decide import up_refused
from consortium.upgrade.mode import MODE
from consortium.upgrade.observe import look

ASKED_S = 10.0


def guard(model: Model, operator_token: str) -> None:
    """Raises Problem. A preview may always look; `upgrade run` and `up --now` have decided already."""
    if os.environ.get(MODE) or pulumi.runtime.is_dry_run():
        return
    check(model, Coordinator(operator_address(model.settings), operator_token, timeout_s=ASKED_S))


def check(model: Model, coordinator: Coordinator) -> None:
    """Raises Problem when an `up` would change a version, and why it may not."""
    if problem := up_refused(look(model, coordinator, peers=False)):
        raise problem
