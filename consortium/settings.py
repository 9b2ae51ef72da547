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

from consortium.kuscia.settings import KusciaSettings
from consortium.ssh_settings import SshPlacement

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
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Listen(_Settings):
    """An address on which the engine publishes a port of the gateway."""

    bind: Annotated[str, AfterValidator(_bind)]
    """An IP address of the engine's machine; 0.0.0.0 = all of them."""
    port: Port
    """Free on that address."""


class DatasetPath(_Settings):
    """Where a dataset lies on the engine's machine."""

    path: PathText
    """Relative to the workspace, or absolute."""


class Resources(_Settings):
    """Limits of one node."""

    memory_mb: int = Field(ge=64, le=4_194_304)
    """A node that takes more is ended and starts again."""
    cpus: float = Field(gt=0, le=1024, allow_inf_nan=False)
    """Cores, in parts too."""
    shm_mb: int = Field(64, ge=64, le=1_048_576)
    """Ray's object store lives in shared memory."""
    gpus: int = Field(0, ge=0, le=64, strict=True)
    """Installs JAX with CUDA and gives Ray so many; `placement: ssh` only, head and workers only."""


class NodeResources(_Settings):
    """Limits per kind of node."""

    head: Resources = Resources(memory_mb=4096, cpus=2, shm_mb=1024)
    """Ray's head and the coordinator."""
    worker: Resources = Resources(memory_mb=4096, cpus=2, shm_mb=1024)
    """Each worker."""
    gateway: Resources = Resources(memory_mb=256, cpus=1)
    """Envoy."""
    kuscia: Resources = Resources(memory_mb=8192, cpus=4, shm_mb=1024)
    """The Kuscia node with its tasks, of `mode: kuscia`."""
    coordinator: Resources = Resources(memory_mb=512, cpus=1)
    """The head where it carries no Ray: `mode: kuscia`."""

    def for_role(self, role: str) -> Resources:
        """The limits of a node by the field's name. KeyError for another."""
        found: dict[str, Resources] = dict(self)
        return found[role]


class Drain(_Settings):
    """What becomes of a worker that goes, by fewer `workers`, while a job uses it."""

    wait_s: float = Field(600, ge=0, le=604_800, allow_inf_nan=False)
    """`consortium up` waits so long for it to finish. Then it stays, and `up` fails and says who uses it."""
    force: bool = False
    """It goes all the same then, and what runs there is lost."""


class ExternalRay(_Settings):
    """A Ray cluster that is there already. The head joins it as one of its nodes; no workers are made."""

    address: Annotated[
        str, StringConstraints(max_length=300, pattern=r"^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?:\d{1,5}$")
    ]
    """Where its GCS is reached from the head, host:port."""
    jobs_url: Url
    """Its Jobs API, as reached from the head."""
    network: Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$")] | None = None
    """A network of the engine on which the cluster is reached, and which the head is put on too; of containers only."""


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
    """On which the window begins."""
    from_: Clock = Field("00:00", alias="from")
    """Its beginning, HH:MM."""
    to: Clock = "24:00"
    """Its end, HH:MM; 24:00 = midnight."""
    timezone: Annotated[str, StringConstraints(max_length=100), AfterValidator(_known_zone)] = "UTC"
    """Of `from` and `to`."""

    @model_validator(mode="after")
    def _some_time(self) -> Self:
        if self.from_ == self.to or self.from_ == "24:00":
            raise ValueError(f"from {self.from_} to {self.to} is no time: leave both out for the whole day")
        return self


class Rule(_Settings):
    """One rule of the policy: what it leaves out is any. coordinator/policy.py applies it."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9](?:[a-z0-9 _.-]{0,58}[a-z0-9])?$")]
    """Stands in the signed approval."""
    verdict: Verdict
    """What becomes of a job that fits."""
    programs: tuple[Digest, ...] | None = Field(None, min_length=1, max_length=1000)
    """Digests of job folders."""
    initiators: tuple[Name, ...] | None = Field(None, min_length=1, max_length=1000)
    """Parties that may have submitted the job."""
    datasets: Literal["any"] | tuple[DatasetName, ...] | None = Field(None, max_length=1000)
    """Own datasets that the job may ask for; [] = it asks for none. Needed for `approve`."""
    parties: tuple[Name, ...] | None = Field(None, min_length=1, max_length=1000)
    """Other parties that may take part."""
    window: Window | None = None
    """When the rule counts."""
    until: date | None = Field(None, le=date(2999, 12, 31))
    """The last day on which it counts."""

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
    """What becomes of a job that no rule fits."""
    rules: tuple[Rule, ...] = Field((), max_length=1000)
    """Their order has no meaning."""

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
    """A mirror of Debian."""
    pip: Url | None = None
    """A package index in place of PyPI."""


class LocalLimits(_Settings):
    """What this party's coordinator puts up with; handed to it as it is."""

    open_jobs: int = Field(5000, ge=1, le=1_000_000)
    """Jobs not yet ended that are kept at a time."""
    open_jobs_per_peer: int = Field(1000, ge=1, le=1_000_000)
    """Of these, proposed by any one party."""
    peer_requests_per_s: float = Field(300, gt=0, le=1_000_000)
    """Of each peer, in the long run; beyond it is answered 429."""
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
    """Nodes as containers of one engine, or on machines that are there already."""
    ssh: SshPlacement | None = None
    """The hosts; for `placement: ssh` only."""
    engine: Annotated[str, StringConstraints(max_length=500, pattern=r"^(unix|tcp|ssh|https?)://[^\s]+$")] = (
        "unix:///var/run/docker.sock"
    )
    """The container engine; over tcp only with TLS."""
    image: Annotated[str, StringConstraints(min_length=1, max_length=500, pattern=r"^[^\s]+$")] | None = None
    """null = the image `consortium image bake` made for the current content."""
    workers: int = Field(1, ge=0, le=64, strict=True)
    """Worker nodes beside the head; with `mode: kuscia` none is made."""
    drain: Drain = Drain()
    """What becomes of workers that go."""
    ray: ExternalRay | None = None
    """Use a Ray cluster that is there already; of `mode: ray` only."""
    kuscia: KusciaSettings | None = None
    """The Kuscia node; needed with `mode: kuscia`, and only there."""
    datasets: dict[str, DatasetPath] = {}
    """Dataset of the own party file → its file."""
    gateway: Listen
    """Where the engine publishes the public port."""
    operator: Listen = Listen(bind="127.0.0.1", port=18080)
    """Where it publishes the status page and the operator's interface; it has no TLS."""
    resources: NodeResources = NodeResources()
    """Limits of each node."""
    revoked: Annotated[tuple[Name, ...], Field(max_length=100)] = ()
    """Members whom this party trusts no more: `consortium revoke`. The others are not told."""
    policy: Policy = Policy()
    """Who says yes to jobs of others."""
    limits: LocalLimits = LocalLimits()
    """What the coordinator puts up with."""
    ca_bundle: PathText | None = None
    """PEM, relative to the workspace: trusted while an image is baked."""
    package_mirror: PackageMirror = PackageMirror()
    """Where packages come from while an image is baked."""

    @model_validator(mode="after")
    def _placed(self) -> Self:
        if (self.placement == "ssh") != (self.ssh is not None):
            raise ValueError(
                "placement: ssh needs the hosts under `ssh`"
                if self.ssh is None
                else "hosts under `ssh` are for placement: ssh"
            )
        if self.ssh and self.kuscia and (self.ssh.workers or self.ssh.gateway):
            raise ValueError("with `kuscia` there is one host, ssh.head: take ssh.gateway and ssh.workers out")
        if self.ssh and not self.kuscia and not self.ssh.gateway:
            raise ValueError("ssh.gateway is missing: the host of the gateway")
        if self.ssh and not self.kuscia and len(self.ssh.workers) != self.workers:
            raise ValueError(
                f"workers is {self.workers}, and ssh.workers names {len(self.ssh.workers)} hosts: make them equal"
            )
        gpus = [getattr(self.resources, role).gpus for role in ("gateway", "kuscia", "coordinator", "head", "worker")]
        if any(gpus) and (not self.ssh or any(gpus[:3])):
            raise ValueError("resources.*.gpus is for head and worker of placement: ssh")
        return self

    @model_validator(mode="after")
    def _one_ray(self) -> Self:
        if self.ray and self.workers:
            raise ValueError(f"workers is {self.workers}: with a Ray of your own (`ray`) it must be 0")
        if self.ray and (self.ray.network is None) != (self.placement == "ssh"):
            raise ValueError("ray.network is needed where nodes are containers, and only there")
        return self

    @model_validator(mode="after")
    def _listens_apart(self) -> Self:
        if self.gateway.port == self.operator.port and self.gateway.bind == self.operator.bind:
            raise ValueError(
                f"gateway and operator both take {self.gateway.bind}:{self.gateway.port}: choose another port for one"
            )
        return self
