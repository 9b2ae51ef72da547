"""A node of an institution, and a file on it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Role = Literal["head", "worker", "gateway"]
Action = Literal["restart", "reload", "nothing"]


@dataclass(frozen=True)
class Host:
    """One node: `name` is its host name, `index` counts the nodes of one role from 0."""

    name: str
    role: Role
    index: int


@dataclass(frozen=True)
class NodeFile:
    """One file on a node.

    `on_change`: what `service` needs when the file changes. `nothing`: whoever reads it notices by itself, as Envoy
    does, or reads it at each use.
    """

    path: str
    content: str = field(repr=False)
    mode: str = "0644"
    owner: str = "root"
    group: str = "root"
    service: str | None = None
    on_change: Action = "nothing"
    secret: bool = False

    def __post_init__(self) -> None:
        if (self.service is None) != (self.on_change == "nothing"):
            raise ValueError(f"{self.path}: {self.on_change} of {self.service}: an action and its service go together")

    @property
    def digest(self) -> str:
        """SHA-256 over everything the node would notice."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    def as_variables(self) -> dict[str, Any]:
        """The entry of `base_files` (roles/base)."""
        return {key: value for key, value in asdict(self).items() if value is not None}
