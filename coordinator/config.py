"""The coordinator's settings: the model of /etc/consortium/coordinator.json.

The file is rendered by the provisioning side; everything in it is decided there, nothing is computed here. Every
problem of a document is reported at once, with field, value and what is allowed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

PARTY_PATTERN = r"^[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?$"
DIGEST_PATTERN = r"^[0-9a-f]{64}$"

Party = Annotated[str, Field(pattern=PARTY_PATTERN)]
Digest = Annotated[str, Field(pattern=DIGEST_PATTERN)]
DatasetName = Annotated[str, Field(pattern=r"^[a-z0-9](?:[a-z0-9_.-]{0,62}[a-z0-9])?$")]
SlotName = Annotated[str, Field(pattern=r"^\d{1,2}$")]
Address = Annotated[str, Field(pattern=r"^[A-Za-z0-9._\[\]:-]+:\d{1,5}$", max_length=255)]
HttpUrl = Annotated[str, Field(pattern=r"^https?://[^\s]+$", max_length=500)]


class ConfigError(Exception):
    """The configuration cannot be used; the message lists every problem with its field and value."""


class Model(BaseModel):
    """Base of all settings: frozen, and a misspelt field is an error instead of a silent default."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Ports(Model):
    """Where the two HTTP interfaces listen. 0 = any free port (tests)."""

    operator: int = Field(8080, ge=0, le=65535)
    peer: int = Field(8081, ge=0, le=65535)


class Peer(Model):
    """One other party as this coordinator sees it, through its own gateway."""

    url: HttpUrl  # the own gateway's outbound listener towards the peer's coordinator
    signing_key: str  # base64 of the raw ed25519 public key
    fed: dict[SlotName, Address]  # slot of the peer -> address that reaches its fed receiver
    spu: dict[SlotName, Address]


class Own(Model):
    """Listen addresses of this party, by slot."""

    fed: dict[SlotName, Address]
    spu: dict[SlotName, Address]


class Ray(Model):
    """The party's own Ray: where jobs are submitted and which Python runs a driver."""

    jobs_url: HttpUrl
    address: Address
    python: str
    head_resources: dict[str, float] = {}  # Ray custom resources that pin receivers to the node the gateway reaches


class Secrets(Model):
    """Files that hold secrets; only their paths are settings."""

    signing_key_file: Path
    operator_token_file: Path
    gateway_token_file: Path


class Timeouts(Model):
    """Seconds, all derived from one budget by the provisioning side.

    The document also holds values for the gateway and others; what is not named here is not for us.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    heartbeat_s: float = Field(gt=0)  # one heartbeat to every peer each so many seconds
    peer_lost_after_s: float = Field(gt=0)  # silence that ends an attempt
    promise_s: float = Field(gt=0)  # how long the initiator waits for promises
    start_lead_s: float = Field(ge=0)  # from `go` to the agreed moment, beside four ways of the slowest peer
    start_window_s: float = Field(gt=0)  # from the decision to `go`; and a driver may be told `go` so long after it
    job_s: float = Field(gt=0)  # the longest an attempt may run
    shutdown_s: float = Field(gt=0)  # a driver gets so long to leave after its result is written
    peer_request_s: float = Field(gt=0)  # one small HTTP request to a peer
    peer_transfer_s: float = Field(gt=0)  # bringing a job folder to a peer
    rayfed_barrier_s: float = Field(gt=0)  # a driver's sf.init
    cross_silo_comm_options: dict[str, JsonValue] = {}  # for the driver, as they are
    spu_link_desc: dict[str, JsonValue] = {}

    @model_validator(mode="after")
    def _ordered(self) -> Timeouts:
        if self.heartbeat_s * 2 > self.peer_lost_after_s:
            raise ValueError(
                f"peer_lost_after_s is {self.peer_lost_after_s}, heartbeat_s {self.heartbeat_s}: "
                "at least two heartbeats must fit before a peer counts as lost"
            )
        return self


class Limits(Model):
    """Bounds on what strangers may send and on what this party puts up with."""

    clock_skew_ms: float = Field(250, gt=0)
    max_attempts: int = Field(3, ge=1, le=20)
    prepare_rounds: int = Field(3, ge=1, le=100)  # rounds without a promise before the job is given up
    bundle_bytes: int = Field(10_000_000, ge=1)
    message_bytes: int = Field(1_000_000, ge=1000)
    proposal_s: float = Field(7 * 86400, gt=0)  # a job that has not started so long after its proposal is given up
    open_jobs: int = Field(5000, ge=1)  # jobs not yet ended that this party keeps at a time
    open_jobs_per_peer: int = Field(1000, ge=1)  # of these, proposed by any one party
    peer_requests_per_s: float = Field(300, gt=0)  # of each peer; more is answered 429
    peer_burst: int = Field(3000, ge=1)  # so many at once, after a pause
    log_bytes: int = Field(1_000_000, ge=1000)  # characters of a driver's output that are kept to be shown: its end
    keep_jobs_days: float = Field(90, gt=0)  # folders of a job that ended so long ago are removed
    min_free_bytes: int = Field(200_000_000, ge=0)  # no new jobs with less room than this for state and jobs


class Policy(Model):
    """Who approves proposals of others: a person, nobody (all pass), or a list. An own proposal is always approved."""

    approve: Literal["person", "all", "list"] = "person"
    programs: tuple[Digest, ...] | None = None  # None: any; a list with `approve: list` allows only these
    initiators: tuple[Party, ...] | None = None
    datasets: tuple[DatasetName, ...] | None = None

    @model_validator(mode="after")
    def _list_names_something(self) -> Policy:
        named = (self.programs, self.initiators, self.datasets)
        if self.approve == "list" and all(v is None for v in named):
            raise ValueError("approve is 'list' but name at least one of programs, initiators, datasets")
        if self.approve != "list" and any(v is not None for v in named):
            raise ValueError(f"approve is {self.approve!r}: programs, initiators and datasets are only for 'list'")
        return self


class Config(Model):
    """Everything one coordinator knows before it starts."""

    consortium: Party
    party: Party
    members: tuple[Party, ...] = Field(min_length=2)
    consortium_digest: str = Field(min_length=1, max_length=128)
    versions: dict[str, str]
    slots: int = Field(ge=1, le=20)
    ports: Ports = Ports()
    bind: str = "0.0.0.0"
    peers: dict[Party, Peer]
    own: Own
    datasets: dict[DatasetName, Path] = {}
    ray: Ray
    state_dir: Path
    jobs_dir: Path
    secrets: Secrets
    timeouts: Timeouts
    limits: Limits = Limits()
    policy: Policy = Policy()
    certificate_file: Path | None = None  # the gateway's public certificate, for "days left"

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        others = set(self.members) - {self.party}
        if self.party not in self.members:
            raise ValueError(f"party is {self.party!r}, members are {list(self.members)}: it must be one of them")
        if set(self.peers) != others:
            raise ValueError(f"peers are {sorted(self.peers)}: they must be the other members {sorted(others)}")
        wanted = {str(k) for k in range(self.slots)}
        tables = {f"own.{s}": set(getattr(self.own, s)) for s in ("fed", "spu")}
        tables |= {f"peers.{n}.{s}": set(getattr(p, s)) for n, p in self.peers.items() for s in ("fed", "spu")}
        for where, have in tables.items():
            if not wanted <= have:
                raise ValueError(
                    f"{where} has slots {sorted(have)}: slots is {self.slots}: {sorted(wanted)} are needed"
                )
        return self


def load_config(path: Path) -> Config:
    """Read and check the configuration file.

    Raises ConfigError naming the file and every wrong field with its value.
    """
    try:
        raw = json.loads(path.read_text("utf-8"))
    except OSError as e:
        raise ConfigError(f"{path}: cannot be read: {e.strerror}") from e
    except ValueError as e:
        raise ConfigError(f"{path}: is not JSON: {e}") from e
    try:
        return Config.model_validate(raw)
    except ValidationError as e:
        lines = [
            f"  {'.'.join(map(str, p['loc'])) or '(document)'}: {p['msg']}; value: {str(p['input'])[:200]}"
            for p in e.errors(include_url=False)
        ]
        raise ConfigError(f"{path}: {len(lines)} problem(s):\n" + "\n".join(lines)) from e
