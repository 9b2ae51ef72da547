"""The public documents as models: what all members agreed on, and each party's public face.

Every model is frozen and refuses fields it does not know. Reading files and rules across documents:
`documents.py`. The private settings of one institution: `settings.py`.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from consortium import ports, trust
from consortium.kuscia.keys import public_key_problem
from consortium.kuscia.settings import KusciaSettings
from consortium.settings import Listen, Name, Port, Resources, StackSettings
from consortium.timeouts import TimeoutBudget, Timeouts, derive
from consortium.versions import Maintenance, Versions

__all__ = ["Consortium", "Gateway", "Listen", "Model", "Name", "Party", "Port", "StackSettings"]

_HOST = re.compile(r"(?=.{1,253}$)([a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?\.)*[a-zA-Z][a-zA-Z0-9-]{0,62}")


def _host(value: str) -> str:
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        if not _HOST.fullmatch(value) or value == "localhost":
            raise ValueError("must be an IP address or a host name that the peers can reach") from None
        return value
    # A zone (fe80::1%…) is a name on one machine, of any length and any characters.
    if getattr(address, "scope_id", None) or address.is_loopback or address.is_unspecified or address.is_multicast:
        raise ValueError("must be an address at which the peers reach this gateway")
    return value


def _signing_key(value: str) -> str:
    trust.load_signing_public_key(value)
    return value


def _kuscia_certificate(value: str) -> str:
    if problem := public_key_problem(value):
        raise ValueError(f"the certificate {problem}")
    return value


Mode = Literal["ray", "kuscia"]
Text = Annotated[str, StringConstraints(max_length=500, pattern=r"^[^\x00-\x1f\x7f]*$")]
Column = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f]+$")]
ColumnType = Literal["int", "float", "bool"]
DatasetName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,62}$")]


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Limits(_Document):
    """What no job may exceed."""

    max_attempts: int = Field(3, ge=1, le=10)
    """Tries of one job, whatever its job.yaml asks for."""
    clock_skew_ms: int = Field(250, ge=1, le=10_000)
    """The largest difference between two parties' clocks with which a job may start."""


class Consortium(_Document):
    """consortium.yaml: the public agreement of all members."""

    name: Name
    """Part of host names, SNI and container names: two consortiums on one engine need two names."""
    mode: Mode = "ray"
    """How SecretFlow runs: in Ray clusters joined by gateways, or by Kuscia nodes."""
    members: Annotated[tuple[Name, ...], Field(min_length=2, max_length=ports.MAX_MEMBERS)]
    """Append-only: a member's place in the list decides port numbers at every party."""
    left: Annotated[tuple[Name, ...], Field(max_length=ports.MAX_MEMBERS)] = ()
    """Members that have left. Each keeps its place, and its party file: what it signed stays verifiable."""
    slots: int = Field(2, ge=1, le=ports.MAX_SLOTS)
    """Jobs one party runs at the same time."""
    versions: Versions
    """What runs at every party."""
    maintenance: Maintenance | None = None
    """The window in which all go over to other versions; null = none is agreed."""
    timeouts: TimeoutBudget = TimeoutBudget()
    """The budget from which every other timeout follows: `consortium timeouts`."""
    limits: Limits = Limits()
    """What no job may exceed."""

    @property
    def present(self) -> tuple[Name, ...]:
        """The members that have not left, in their order."""
        return tuple(name for name in self.members if name not in self.left)

    @cached_property
    def derived_timeouts(self) -> Timeouts:
        """Every timeout that follows from the budget."""
        return derive(self.timeouts, self.slots)


class Gateway(_Document):
    """Where the peers reach a party."""

    host: Annotated[str, AfterValidator(_host)]
    """An IP address, or a host name that every peer can resolve."""
    port: Port
    """The one public port."""


class Dataset(_Document):
    """What a party tells the others about one of its datasets."""

    description: Text = ""
    """For the people who write jobs."""
    columns: Annotated[tuple[Column, ...], Field(max_length=2000)] = ()
    """Their names, in the order of the file."""
    types: Annotated[dict[Column, ColumnType], Field(max_length=2000)] = {}
    """Of the columns that hold no text: whole numbers, numbers, or true and false. Components of SecretFlow, in Kuscia
    mode, compute with nothing else."""


class Domain(_Document):
    """What the peers' Kuscia nodes know of this party's."""

    certificate: Annotated[str, StringConstraints(max_length=16_384), AfterValidator(_kuscia_certificate)]
    """PEM; of the RSA key that is the node's own."""


class Party(_Document):
    """parties/<party>.yaml: the public face of one party; only that party edits it."""

    party: Name
    """A member of the consortium, and the file's name."""
    gateway: Gateway
    """Where the peers reach this party."""
    ca_certificates: Annotated[
        tuple[Annotated[str, StringConstraints(max_length=16_384)], ...],
        Field(min_length=1, max_length=2),
    ]
    """PEM; two while the CA is being replaced."""
    signing_key: Annotated[str, StringConstraints(max_length=64), AfterValidator(_signing_key)]
    """Base64 of the raw ed25519 public key that signs this party's approvals, outcomes and audit
    records.
    """
    datasets: Annotated[dict[DatasetName, Dataset], Field(max_length=1000)] = {}
    """What the others may know of the datasets; where the files lie is in the stack settings."""
    kuscia: Domain | None = None
    """Needed with `mode: kuscia`; it may stand here before."""


class Model(_Document):
    """Everything public that one institution's program needs, and its own settings. Holds no
    secret. `consortium` is the agreement as it is for this release, `window` the maintenance that all agreed on.
    """

    consortium: Consortium
    window: Maintenance | None = None
    parties: Mapping[Name, Party]
    party: Name
    settings: StackSettings
    workspace: Path

    @property
    def own(self) -> Party:
        """The institution's own party file."""
        return self.parties[self.party]

    @property
    def peers(self) -> dict[str, Party]:
        """The other members that have neither left nor are revoked here, in the consortium's order."""
        gone = {self.party, *self.settings.revoked}
        return {name: self.parties[name] for name in self.consortium.present if name not in gone}

    @property
    def kuscia(self) -> KusciaSettings | None:
        """The settings of the Kuscia node; None in Ray mode."""
        return self.settings.kuscia

    def limits_of(self, role: str) -> Resources:
        """The limits of a node. KeyError for a role that is not known."""
        return self.settings.resources.for_role("coordinator" if self.kuscia and role == "head" else role)

    @property
    def timeouts(self) -> Timeouts:
        """Every derived timeout."""
        return self.consortium.derived_timeouts

    def digest(self) -> str:
        """What the coordinators compare before a job: equal only if all hold the same agreement."""
        return digest(self.consortium, self.parties)

    def dataset_paths(self) -> dict[str, Path]:
        """Dataset → absolute path on this machine."""
        return {name: (self.workspace / dataset.path).resolve() for name, dataset in self.settings.datasets.items()}


def canonical_json(value: Any) -> bytes:
    """One byte string per value: sorted keys, no spaces, ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()


def digest(consortium: Consortium, parties: Mapping[str, Party]) -> str:
    """SHA-256 of consortium.yaml and the members' party files. Comments, order of keys and spelt-
    out defaults make no difference.
    """
    public = {
        "consortium": consortium.model_dump(mode="json", exclude_none=True),
        "parties": {name: parties[name].model_dump(mode="json", exclude_none=True) for name in consortium.members},
    }
    return hashlib.sha256(canonical_json(public)).hexdigest()
