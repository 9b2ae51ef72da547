"""A party that joins a throw-away consortium that is up, and one that leaves: the steps of docs/runbook.md."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from consortium import files
from consortium.documents import CONSORTIUM_FILE
from consortium.engine import engine_address
from consortium.errors import UsageError
from consortium.founding import found
from testing import registry
from testing.consortium import Consortium
from testing.party import Party


def admit(
    consortium: Consortium,
    name: str,
    *,
    workers: int = 1,
    datasets: Mapping[str, str | Path] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Party:
    """Let a new party join, and wait until all hear one another. Raises UsageError for one that is there already."""
    if name in consortium.parties:
        raise UsageError("this party is there already", value=name, allowed="another name")
    some = next(iter(consortium.parties.values()))
    common = {"image": some.model.settings.image, "engine": some.model.settings.engine}
    agreement = _agreement(some)
    if name not in agreement["members"]:
        agreement["members"].append(name)
    agreement["left"] = [party for party in agreement.get("left", []) if party != name]
    environment = registry.extend(consortium.environment, name, engine_address())
    party = consortium.adopt(environment)[name]
    found(party.workspace.root, consortium.name, agreement["members"])
    for one in consortium.parties.values():
        _write(one, agreement)
    consortium.join(party, datasets or {}, {**common, **(settings or {})}, workers=workers)
    consortium.exchange_party_files()
    consortium.each(lambda one: one.up())
    consortium.wait_until_connected()
    return party


def dismiss(consortium: Consortium, name: str) -> Party:
    """Let a party leave: all others mark it and run `up`. It stays up, trusted by nobody, until its own `down`."""
    party = consortium.party(name)
    others = [one for one in consortium.parties.values() if one is not party]
    agreement = _agreement(others[0])
    agreement["left"] = [*agreement.get("left", []), name]
    for one in others:
        _write(one, agreement)
    consortium.each(lambda one: one.up(), _names(others))
    return party


def _names(parties: Iterable[Party]) -> list[str]:
    return [party.name for party in parties]


def _agreement(party: Party) -> dict[str, Any]:
    return dict(yaml.safe_load(files.read(party.workspace.root / CONSORTIUM_FILE)))


def _write(party: Party, agreement: Mapping[str, Any]) -> None:
    files.write(party.workspace.root / CONSORTIUM_FILE, yaml.safe_dump(dict(agreement), sort_keys=False))
