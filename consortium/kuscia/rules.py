"""What `mode: kuscia` asks of the documents beyond what both modes do."""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from collections.abc import Iterator

from consortium.document import Document, Stack
from consortium.errors import Problem
from consortium.kuscia.names import CLIENT_KEY, DATABASE_PASSWORD, KEY, REGISTRY_PASSWORD
from consortium.settings import StackSettings
from consortium.spec import Consortium, Party
from consortium.trust import key_digest
from coordinator.components import data_id

RESERVED = ("default", "kube-system", "kube-public", "kube-node-lease", "master", "cross-domain")
"""Domains that Kuscia keeps for itself."""


def agreement(document: Document[Consortium]) -> Iterator[Problem]:
    """Members whose names Kuscia does not take."""
    for index, member in enumerate(document.model.members if document.model else ()):
        if member in RESERVED:
            yield Problem(
                "Kuscia keeps this name for itself",
                where=document.file.where(("members", index)),
                value=member,
                fix="another name for this party",
            )


def party(name: str, document: Document[Party]) -> Iterator[Problem]:
    """What keeps the peers' nodes from this party's; of members that have not left."""
    file, model = document.file, document.model
    if model is None:
        return
    if model.kuscia is None:
        yield Problem(
            "the certificate of the Kuscia node is missing",
            where=file.where(("kuscia",)),
            fix=f"{name}'s operator runs: consortium join {name}, and sends the new file",
        )
    if _is_ipv6(model.gateway.host):
        yield Problem(
            "a route of Kuscia leads to a name or an IPv4 address",
            where=file.where(("gateway", "host")),
            value=model.gateway.host,
            fix="a host name for this address",
        )
    ids: dict[str, list[str]] = defaultdict(list)
    for dataset in model.datasets:
        ids[data_id(dataset)].append(dataset)
    for found in ids.values():
        if len(found) > 1:
            yield Problem(
                "two datasets would be one in Kuscia, which knows no underscore",
                where=file.where(("datasets", found[1])),
                value=", ".join(found),
                fix="rename one",
            )


def node_key(model: Party) -> list[str]:
    """What two parties may not have in common."""
    return [key_digest(model.kuscia.certificate)] if model.kuscia else []


def stack(name: str, found: Stack, mode: str) -> Iterator[Problem]:
    """Settings and secrets of the node: all of them with `mode: kuscia`, no settings without."""
    settings = found.settings
    if settings is None:
        return
    if mode != "kuscia":
        if settings.kuscia:
            yield Problem(
                "settings of a Kuscia node, which this consortium has not",
                where=found.file.where((*found.settings_loc, "kuscia")),
                value=f"mode: {mode}",
                fix="take `kuscia` out; or all members agree on mode: kuscia",
            )
        return
    if settings.kuscia is None:
        yield Problem(
            "the settings of the Kuscia node are missing: at least its image and the tasks'",
            where=found.file.where((*found.settings_loc, "kuscia")),
            fix="docs/kuscia.md, Settings",
        )
    if settings.ray:
        yield Problem(
            "a Ray cluster has no place here",
            where=found.file.where((*found.settings_loc, "ray")),
            value="mode: kuscia",
            fix="take `ray` out: Kuscia starts what a job needs",
        )
    if settings.kuscia and settings.kuscia.mariadb and settings.placement != "docker":
        yield Problem(
            "a database is made in a container only",
            where=found.file.where((*found.settings_loc, "kuscia", "mariadb")),
            value=f"placement: {settings.placement}",
            fix="a database that is there: kuscia.database",
        )
    for secret, fix in _needed(name, settings).items():
        if secret in found.absent:
            yield Problem(f"consortium:{secret} is missing", where=found.file.name, fix=fix)


def _needed(name: str, settings: StackSettings) -> dict[str, str]:
    """Secret → how it comes to be."""
    join = f"consortium join {name}"
    given = settings.kuscia
    needed = {KEY: join, CLIENT_KEY: join}
    if given and given.mariadb:
        needed[DATABASE_PASSWORD] = join
    if given and given.database:
        needed[DATABASE_PASSWORD] = f"consortium kuscia password database --party {name}"
    if given and given.registry and given.registry.username:
        needed[REGISTRY_PASSWORD] = f"consortium kuscia password registry --party {name}"
    return needed


def _is_ipv6(host: str) -> bool:
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        return False
    return True
