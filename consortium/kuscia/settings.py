"""The private settings of one institution's Kuscia node. Passwords are no settings: they are the stack's secrets."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from consortium.ssh_settings import Port

_WORD = StringConstraints(max_length=200, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
Word = Annotated[str, _WORD]
HostName = Annotated[str, StringConstraints(max_length=253, pattern=r"^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$")]
ImageByDigest = Annotated[str, StringConstraints(max_length=500, pattern=r"^[a-z0-9][^\s@]*@sha256:[0-9a-f]{64}$")]
ImageName = Annotated[str, StringConstraints(max_length=400, pattern=r"^[a-z0-9][a-z0-9._/:-]*$")]
PathText = Annotated[str, StringConstraints(min_length=1, max_length=4096, pattern=r"^[^\x00-\x1f\x7f]+$")]
ImageId = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
Quantity = Annotated[str, StringConstraints(max_length=20, pattern=r"^[0-9]+(\.[0-9]+)?([kMGT]i?|m)?$")]
"""An amount as Kubernetes writes it: 4, 500m, 8Gi."""


def _address(value: str) -> str:
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        raise ValueError("must be an IP address") from None


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Image(_Settings):
    """An image of the container engine, and how it gets there where there is no registry."""

    image: ImageByDigest
    """Name and digest in its registry."""
    image_id: ImageId | None = None
    """What the engine calls it, where it was brought by `docker load`, which keeps no digest of a registry."""
    archive: PathText | None = None
    """A file of `docker save` with the image of `image_id`, relative to the workspace: loaded if it is not there."""

    @property
    def reference(self) -> str:
        """How the engine is asked for it."""
        return self.image_id or self.image

    @model_validator(mode="after")
    def _checked(self) -> Self:
        if self.archive and not self.image_id:
            raise ValueError("`archive` needs `image_id`: what is loaded is compared with it")
        return self


class MariaDb(Image):
    """A database in a container beside the node. Its password is the secret `kusciaDatabasePassword`."""

    memory_mb: int = Field(1024, ge=256, le=1_048_576)
    """More, and it is ended and starts again."""
    cpus: float = Field(1, gt=0, le=1024, allow_inf_nan=False)
    """Cores, in parts too."""


class Engine(_Settings):
    """The image in which SecretFlow runs a task."""

    name: ImageName
    """Without tag."""
    tag: Annotated[str, StringConstraints(max_length=128, pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")]
    """The version that all members run."""
    id: ImageId
    """The node compares it with the image it has before a task starts: a tag can be moved."""


class Registry(_Settings):
    """Where images come from: the node's own, if it lies there, and those of tasks. Its password is the secret
    `kusciaRegistryPassword`.
    """

    endpoint: ImageName
    """Host, and a path where the registry has one."""
    username: Word | None = None
    """null = anybody may read there."""


class MySql(_Settings):
    """A database in place of SQLite. Its password is the secret `kusciaDatabasePassword`."""

    host: HostName
    """As reached from the node."""
    port: Port = 3306
    """Its port."""
    database: Word
    """Must be there; Kuscia makes its table if it may."""
    user: Word
    """Who reads and writes that table."""


class Amounts(_Settings):
    """Room for tasks; null = what the node's machine has."""

    cpu: Quantity | None = None
    """Cores."""
    memory: Quantity | None = None
    """Main memory."""
    bandwidth: int | None = Field(None, ge=1, le=1_000_000)
    """Of the network, Mbit/s."""
    pods: int | None = Field(None, ge=1, le=10_000)
    """Tasks at a time."""
    storage: Quantity | None = None
    """Disk that stays."""
    ephemeral_storage: Quantity | None = None
    """Disk that goes with the task."""


class Reserved(_Settings):
    """What tasks do not get: it is the node's own."""

    cpu: Quantity = "500m"
    """Cores."""
    memory: Quantity = "500Mi"
    """Main memory."""
    bandwidth: int = Field(10, ge=0, le=1_000_000)
    """Of the network, Mbit/s."""


class Rotation(_Settings):
    """Log files."""

    max_files: int = Field(5, ge=2, le=1000)
    """Of one kind. From 2: with fewer Kuscia goes back to its own number."""
    max_file_mb: int = Field(512, ge=1, le=100_000)
    """A longer file is put aside."""
    max_age_days: int = Field(30, ge=1, le=3650)
    """Older ones are removed."""


class Runk(_Settings):
    """Tasks as pods of a Kubernetes cluster; for `runtime: runk` only."""

    namespace: Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
    """In which the pods are made."""
    dns_servers: Annotated[tuple[HostName, ...], Field(min_length=1, max_length=3)]
    """Cluster address of the node's service: what resolves tasks' names."""
    logs: bool = False
    """Keep the pods' output on the node; its role must allow pods/log."""


class KusciaSettings(Image):
    """What one institution decides about its Kuscia node. For `runtime: runp` its image must hold the engine too
    (kuscia-secretflow).
    """

    engine: Engine
    """The image of tasks."""
    runtime: Literal["runp", "runk", "runc"] = "runp"
    """Tasks as processes, as pods of a cluster, or as containers in the node (which then is privileged)."""
    runk: Runk | None = None
    """For `runtime: runk` only."""
    registry: Registry | None = None
    """null = images are loaded by hand."""
    http_proxy: Annotated[str, StringConstraints(max_length=300, pattern=r"^https?://[^\s@]+$")] | None = None
    """On the way to the registry."""
    database: MySql | None = None
    """null = SQLite on the node's own disk, or `mariadb`."""
    mariadb: MariaDb | None = None
    """A database that is made too; of `placement: docker` only."""
    log_level: Literal["INFO", "DEBUG", "WARN"] = "INFO"
    """Of the node."""
    logs: Rotation = Rotation()
    """How they are rotated."""
    capacity: Amounts = Amounts()
    """Room for tasks; must be given with `runtime: runk`."""
    reserved: Reserved = Reserved()
    """What tasks do not get."""
    token_hours: int = Field(24, ge=1, le=8760)
    """How long the token of a route counts before both nodes agree on a new one."""
    keep_jobs_hours: int = Field(720, ge=1, le=87_600)
    """Jobs that ended are removed after that."""
    api_names: Annotated[tuple[HostName, ...], Field(max_length=20)] = ()
    """More names and addresses for the certificate of KusciaAPI."""
    cluster_dns: Annotated[str, AfterValidator(_address)] | None = None
    """Address of the cluster's name service; needed where the node is a pod."""
    storage_gi: int = Field(50, ge=1, le=65_536)
    """Size of the node's volume, in Gi: data, results, database."""

    @model_validator(mode="after")
    def _one_database(self) -> Self:
        if self.database and self.mariadb:
            raise ValueError("`database` is one that is there, `mariadb` one that is made: take one out")
        return self

    @model_validator(mode="after")
    def _of_one_runtime(self) -> Self:
        if (self.runtime == "runk") != (self.runk is not None):
            raise ValueError("`runk` goes with runtime: runk, and with no other")
        if self.runtime == "runk" and not (self.capacity.cpu and self.capacity.memory):
            raise ValueError(
                "with runtime: runk the node cannot see what the cluster has: give capacity.cpu and .memory"
            )
        return self
