"""The private settings of one institution: `consortium:settings` in stacks/Pulumi.<party>.yaml."""

from __future__ import annotations

import ipaddress
from datetime import date
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

Name = Annotated[str, StringConstraints(pattern=r"^[a-z]([a-z0-9-]{0,30}[a-z0-9])?$")]
"""A DNS label of at most 32 characters: it becomes a part of host names, SNI and container names.
"""

Port = Annotated[int, Field(ge=1, le=65535, strict=True)]
PathText = Annotated[str, StringConstraints(min_length=1, max_length=4096, pattern=r"^[^\x00-\x1f\x7f]+$")]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Url = Annotated[str, StringConstraints(max_length=2048, pattern=r"^https?://[^\s]+$")]


def _bind(value: str) -> str:
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        raise ValueError("must be an IP address of the machine on which the engine runs") from None


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Listen(_Settings):
    """An address on which the engine publishes a port of the gateway."""

    bind: Annotated[str, AfterValidator(_bind)]
    port: Port


class DatasetPath(_Settings):
    """Where a dataset lies on the engine's machine."""

    path: PathText
    """Relative to the workspace, or absolute."""


class Resources(_Settings):
    """Limits of one node."""

    memory_mb: int = Field(ge=64, le=4_194_304)
    cpus: float = Field(gt=0, le=1024, allow_inf_nan=False)
    shm_mb: int = Field(64, ge=64, le=1_048_576)
    """Ray's object store lives in shared memory."""


class NodeResources(_Settings):
    """Limits per kind of node."""

    head: Resources = Resources(memory_mb=4096, cpus=2, shm_mb=1024)
    worker: Resources = Resources(memory_mb=4096, cpus=2, shm_mb=1024)
    gateway: Resources = Resources(memory_mb=256, cpus=1)

    def for_role(self, role: str) -> Resources:
        """The limits of a `head`, `worker` or `gateway`. KeyError for another role."""
        return {"head": self.head, "worker": self.worker, "gateway": self.gateway}[role]


Clock = Annotated[str, StringConstraints(pattern=r"^(?:[01]\d|2[0-3]):[0-5]\d$|^24:00$")]
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
Verdict = Literal["approve", "deny", "person"]
DatasetName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9](?:[a-z0-9_.-]{0,62}[a-z0-9])?$")]


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError("must be a time zone that this machine knows, for example Europe/Berlin, or UTC") from None
    return name


class Window(_Settings):
    """When a rule counts. `to` at or before `from`: it ends on the day after."""

    model_config = ConfigDict(serialize_by_alias=True)

    days: tuple[Day, ...] = Field(("mon", "tue", "wed", "thu", "fri", "sat", "sun"), min_length=1, max_length=7)
    from_: Clock = Field("00:00", alias="from")
    to: Clock = "24:00"
    timezone: Annotated[str, StringConstraints(max_length=100), AfterValidator(_known_zone)] = "UTC"

    @model_validator(mode="after")
    def _some_time(self) -> Self:
        if self.from_ == self.to or self.from_ == "24:00":
            raise ValueError(f"from {self.from_} to {self.to} is no time: leave both out for the whole day")
        return self


class Rule(_Settings):
    """One rule of the policy: what it leaves out is any. coordinator/policy.py applies it."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9](?:[a-z0-9 _.-]{0,58}[a-z0-9])?$")]
    verdict: Verdict
    programs: tuple[Digest, ...] | None = Field(None, min_length=1, max_length=1000)
    initiators: tuple[Name, ...] | None = Field(None, min_length=1, max_length=1000)
    datasets: Literal["any"] | tuple[DatasetName, ...] | None = Field(None, max_length=1000)
    parties: tuple[Name, ...] | None = Field(None, min_length=1, max_length=1000)
    window: Window | None = None
    until: date | None = Field(None, le=date(2999, 12, 31))

    @model_validator(mode="after")
    def _explicit(self) -> Self:
        if self.verdict == "approve" and self.datasets is None:
            raise ValueError("a rule that approves must say which datasets: a list, [] for none, or any")
        if self.verdict != "approve" and self.datasets == ():
            raise ValueError("an empty list of datasets fits no job: leave it out for any")
        return self


class Policy(_Settings):
    """Who says yes to a job at this party; handed to the coordinator as it is. Deny wins over person, person over
    approve; `default` counts where no rule fits.
    """

    default: Verdict = "person"
    rules: tuple[Rule, ...] = Field((), max_length=1000)

    @model_validator(mode="after")
    def _names_once(self) -> Self:
        names = [rule.name for rule in self.rules]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"rules with one name: {', '.join(twice)}; an approval says by which rule it was given")
        return self


class PackageMirror(_Settings):
    """Where packages come from while an image is baked; null = the distribution's and Python's own
    places.
    """

    apt: Url | None = None
    pip: Url | None = None


class LocalLimits(_Settings):
    """What this party's coordinator puts up with; handed to it as it is."""

    open_jobs: int = Field(5000, ge=1, le=1_000_000)
    """Jobs not yet ended that are kept at a time."""
    open_jobs_per_peer: int = Field(1000, ge=1, le=1_000_000)
    """Of these, proposed by any one party."""
    peer_requests_per_s: float = Field(300, gt=0, le=1_000_000)
    peer_burst: int = Field(3000, ge=1, le=1_000_000)
    """Requests of one peer at once, after a pause."""
    log_bytes: int = Field(1_000_000, ge=1000, le=100_000_000)
    """Characters of a program's output that are shown: its end."""
    keep_jobs_days: float = Field(90, gt=0, le=36500)
    """Folders of a job (program, output, result) are removed so long after its end."""
    min_free_bytes: int = Field(200_000_000, ge=0)
    """No new jobs with less room than this on the head."""


class StackSettings(_Settings):
    """What one institution decides alone."""

    placement: Literal["docker", "ssh"] = "docker"
    engine: Annotated[str, StringConstraints(max_length=500, pattern=r"^(unix|tcp|ssh|https?)://[^\s]+$")] = (
        "unix:///var/run/docker.sock"
    )
    image: Annotated[str, StringConstraints(min_length=1, max_length=500, pattern=r"^[^\s]+$")] | None = None
    """null = the image `consortium image bake` made for the current content."""
    workers: int = Field(1, ge=0, le=64, strict=True)
    datasets: dict[str, DatasetPath] = {}
    gateway: Listen
    operator: Listen = Listen(bind="127.0.0.1", port=18080)
    resources: NodeResources = NodeResources()
    policy: Policy = Policy()
    limits: LocalLimits = LocalLimits()
    ca_bundle: PathText | None = None
    package_mirror: PackageMirror = PackageMirror()

    @model_validator(mode="after")
    def _listens_apart(self) -> Self:
        if self.gateway.port == self.operator.port and self.gateway.bind == self.operator.bind:
            raise ValueError(
                f"gateway and operator both take {self.gateway.bind}:{self.gateway.port}: choose another port for one"
            )
        return self
