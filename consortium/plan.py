"""What each party declares, beside what its gateway and coordinator really present: who differs, and in what.

`preview` says what `up` would change here; this says where the institutions stand apart. Pure, but for `observe`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from consortium.client import Coordinator
from consortium.doctor.wire import way_to
from consortium.spec import Model

APART = "with mode: kuscia coordinators do not meet; whether the nodes know one another: consortium doctor"


@dataclass(frozen=True)
class Presented:
    """What one party has in force. `error`: why its coordinator said nothing; `certificate`: what is wrong with its;
    `unseen`: why nobody looked at it, or at anything of this party.
    """

    files: str = ""
    versions: Mapping[str, str] | None = None
    ray: str = ""
    coordinator: str = ""
    error: str = ""
    certificate: str = ""
    unseen: str = ""


@dataclass(frozen=True)
class Difference:
    """One thing in which a party is not what the documents here declare."""

    party: str
    what: str
    declared: str
    presented: str
    fix: str

    def as_dict(self) -> dict[str, str]:
        return asdict(self)


def observe(model: Model, coordinator: Coordinator) -> dict[str, Presented]:
    """Ask every coordinator through the own one, and look at every gateway. Raises like `Coordinator.get`."""
    told = coordinator.get("/presented")["parties"]
    if model.consortium.mode == "kuscia":
        return {model.party: _presented(told.get(model.party, {}))} | dict.fromkeys(
            model.peers, Presented(unseen=APART)
        )
    visitors = dict.fromkeys(model.peers, model.party) | dict.fromkeys([model.party], next(iter(model.peers), ""))
    found = {}
    for name, visitor in sorted(visitors.items()):
        certificate, unseen = _certificate(model, name, visitor) if visitor else ("", "")
        found[name] = replace(_presented(told.get(name, {})), certificate=certificate, unseen=unseen)
    return found


def _certificate(model: Model, owner: str, visitor: str) -> tuple[str, str]:
    """What is wrong with the certificate, or why it was not seen. Where only the own gateway may go out it has looked
    at the peers' for us; at the own nobody has.
    """
    last = list(way_to(model, owner, visitor))[-1]
    why = f"{last.what}: {last.value}".rstrip(": ")
    if last.ok:
        return "", ""
    if last.check in ("dns", "tcp"):
        return "", why if owner == model.party else ""
    return why, ""


def _presented(told: Mapping[str, Any]) -> Presented:
    said = told.get("presented")
    if not said:
        return Presented(error=told.get("error") or "the own coordinator does not know it (yet): consortium up")
    return Presented(said["consortium_digest"], said["versions"], said["ray"], said.get("coordinator", ""))


def compare(model: Model, presented: Mapping[str, Presented]) -> Iterator[Difference]:
    """Everything in which a party differs from the documents of this workspace."""
    files, versions = model.digest(), model.consortium.versions.packages()
    release = model.consortium.versions.coordinator
    for party, seen in presented.items():
        own = party == model.party
        up = "consortium upgrade run" if model.window else "consortium up"
        if not own:
            up = f"{party} runs `{up}` with the same files, or you take its newer ones"
        if seen.certificate:
            fix = (
                "consortium rotate certificate" if own else f"take {party}'s newest party file; else: consortium doctor"
            )
            yield Difference(party, "certificate", "issued by its CA, for its name", seen.certificate, fix)
        if seen.unseen == APART:
            continue
        if seen.error:
            fix = "consortium doctor" if own else f"consortium doctor --peer {party}"
            yield Difference(party, "coordinator", "answers", seen.error, fix)
            continue
        if seen.files != files:
            yield Difference(party, "consortium files", files, seen.files, up)
        theirs = seen.versions or {}
        for name in sorted(versions.keys() | theirs.keys()):
            if (wanted := versions.get(name, "none")) != (found := theirs.get(name, "none")):
                yield Difference(party, f"version of {name}", wanted, found, up)
        if release and seen.coordinator != release:
            yield Difference(party, "coordinator's release", release, seen.coordinator or "not told", up)
        if model.consortium.mode == "ray" and seen.ray != versions["ray"]:
            fix = "consortium up --refresh" if own else f"{party} runs `consortium up --refresh`"
            yield Difference(party, "Ray that runs", versions["ray"], seen.ray or "none answers", fix)
