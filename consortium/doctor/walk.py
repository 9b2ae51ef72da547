"""The walk from the own documents outward; what can only be seen inside, the own coordinator tells."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from consortium.client import Coordinator
from consortium.doctor.finding import Finding
from consortium.doctor.wire import way_to
from consortium.documents import load_model
from consortium.errors import ConsortiumError, Problems
from consortium.spec import Model
from consortium.workspace import Workspace

ASK_S = 180.0
"""The coordinator's checks import SecretFlow and try each peer several times."""


def documents(place: Workspace, party: str) -> tuple[Model | None, list[Finding]]:
    """The documents, and every error in them."""
    try:
        model = load_model(place.root, party)
    except Problems as errors:
        wrong = [Finding("document", one.where, False, one.what, one.value, one.fix) for one in errors.problems]
        return None, wrong
    except ConsortiumError as error:
        return None, [Finding("document", error.where, False, error.what, error.value, error.fix)]
    files = 2 + len(model.parties)
    return model, [Finding("document", party, True, f"no errors in {files} files")]


def walk(
    model: Model,
    peers: Sequence[str],
    coordinator: Callable[[], Coordinator],
    progress: Callable[[str], None] = lambda _: None,
) -> list[Finding]:
    """Every finding about this party and `peers`, in order. `coordinator` opens the own one, and may raise."""
    found: list[Finding] = []
    if peers:
        progress(f"the own gateway, as {peers[0]} would see it")
        found += way_to(model, model.party, peers[0])
    for peer in peers:
        progress(f"the gateway of {peer}")
        found += way_to(model, peer, model.party)
    what = "its Kuscia node, routes and data" if model.kuscia else "Ray, data, SecretFlow and the ways to peers"
    progress(f"the own coordinator, which looks at {what} (seconds)")
    inside, told = _inside(coordinator, model, peers)
    return [*(_seen_through(one, told) for one in found), *inside]


def _inside(
    open_it: Callable[[], Coordinator], model: Model, peers: Sequence[str]
) -> tuple[list[Finding], list[Finding]]:
    try:
        coordinator = open_it()
        answer = coordinator.get("/findings", peer=peers[0] if len(peers) == 1 else None)
    except ConsortiumError as error:
        fix = error.fix or "consortium up --refresh"
        return [Finding("coordinator", model.party, False, error.what, f"{error.where} {error.value}".strip(), fix)], []
    told = [_finding(one) for one in answer["findings"] if one["check"] != "peer" or one["subject"] in peers]
    here = Finding("coordinator", model.party, True, f"answers at {coordinator.url}")
    return [here, *told], told


def _finding(told: dict[str, Any]) -> Finding:
    return Finding(told["check"], told["subject"], not told["code"], told["what"], fix=told["fix"])


def _seen_through(one: Finding, told: Sequence[Finding]) -> Finding:
    """A way that this machine cannot go is no fault if the own gateway can: perhaps only that one may go out."""
    works = any(t.check == "peer" and t.subject == one.subject and t.ok for t in told)
    if one.ok or one.check not in ("dns", "tcp") or not works:
        return one
    return Finding(one.check, one.subject, True, f"not from this machine ({one.value}), but through the own gateway")
