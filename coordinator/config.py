"""The coordinator's settings: the model of /etc/consortium/coordinator.json.

The file is rendered by the provisioning side; everything in it is decided there, nothing is computed here. Every
problem of a document is reported at once, with field, value and what is allowed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    model_validator,
)

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
    driver_resources: dict[str, float] = {}  # the same for drivers, where Ray's own head is another machine


class Kuscia(Model):
    """The party's own Kuscia node, in place of Ray and gateway: there is no other way to the peers."""

    url: Annotated[str, Field(pattern=r"^https://[^\s]+$", max_length=500)]  # of KusciaAPI
    ca_file: Path  # who may answer
    certificate_file: Path  # who asks
    key_file: Path
    token_file: Path
    signing_keys: dict[Party, str]  # the other members' coordinators: base64 of the raw ed25519 public key


class Secrets(Model):
    """Files that hold secrets; only their paths are settings."""

    signing_key_file: Path
    operator_token_file: Path
    gateway_token_file: Path | None = None  # needed in Ray mode


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


Clock = Annotated[str, Field(pattern=r"^(?:[01]\d|2[0-3]):[0-5]\d$|^24:00$")]  # HH:MM
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
Verdict = Literal["approve", "deny", "person"]


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ValueError, OSError) as e:  # ZoneInfoNotFoundError is a KeyError with a text for programmers
        raise ValueError(f"{name[:100]!r} is no time zone: {e}") from e
    except KeyError as e:
        raise ValueError(f"{name[:100]!r} is no time zone known here; for example Europe/Berlin, or UTC") from e
    return name


class Window(Model):
    """When a rule counts, on the clock of a time zone. `to` at or before `from`: it ends on the day after."""

    model_config = ConfigDict(serialize_by_alias=True)

    days: tuple[Day, ...] = Field(("mon", "tue", "wed", "thu", "fri", "sat", "sun"), min_length=1, max_length=7)
    from_: Clock = Field("00:00", alias="from")
    to: Clock = "24:00"
    timezone: Annotated[str, Field(max_length=100), AfterValidator(_known_zone)] = "UTC"

    @model_validator(mode="after")
    def _some_time(self) -> Window:
        if self.from_ == self.to:
            raise ValueError(f"from and to are both {self.to}: leave both out for the whole day")
        if self.from_ == "24:00":
            raise ValueError("from is 24:00: write 00:00 and name the day after")
        return self


class Rule(Model):
    """One rule of the policy. It fits a proposal when everything it names fits; what it leaves out is any.

    `approve` fits when all that the job names is listed; `deny` and `person` fit when any of it is.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9](?:[a-z0-9 _.-]{0,58}[a-z0-9])?$")]
    verdict: Verdict
    programs: tuple[Digest, ...] | None = Field(None, min_length=1, max_length=1000)
    initiators: tuple[Party, ...] | None = Field(None, min_length=1, max_length=1000)
    datasets: Literal["any"] | tuple[DatasetName, ...] | None = Field(None, max_length=1000)  # the own ones asked for
    parties: tuple[Party, ...] | None = Field(None, min_length=1, max_length=1000)  # the job's others
    window: Window | None = None
    until: date | None = Field(
        None, le=date(2999, 12, 31)
    )  # the last day on which it counts, in the window's time zone

    @model_validator(mode="after")
    def _explicit(self) -> Rule:
        if self.verdict == "approve" and self.datasets is None:
            raise ValueError(f"rule {self.name!r} approves: say which datasets: a list, [] for none, or any")
        if self.verdict != "approve" and self.datasets == ():
            raise ValueError(f"rule {self.name!r}: an empty list of datasets fits no job; leave it out for any")
        return self


class Policy(Model):
    """What becomes of proposals of others: deny wins over person, person over approve; `default` without a rule.

    An own proposal is always approved.
    """

    default: Verdict = "person"
    rules: tuple[Rule, ...] = Field((), max_length=1000)

    @model_validator(mode="after")
    def _names_once(self) -> Policy:
        names = [rule.name for rule in self.rules]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"rules named twice: {twice}; an approval says by which rule it was given")
        return self


class Maintenance(Model):
    """The window in which all parties go over to other versions: one that cannot be reached is waited for."""

    model_config = ConfigDict(serialize_by_alias=True)

    from_: AwareDatetime = Field(alias="from")
    to: AwareDatetime

    def open(self, now: float) -> bool:
        """`now`: seconds since 1970, own clock."""
        return self.from_ <= datetime.fromtimestamp(now, UTC) < self.to


class Config(Model):
    """Everything one coordinator knows before it starts."""

    consortium: Party
    party: Party
    members: tuple[Party, ...] = Field(min_length=2)
    left: dict[Party, str] = {}  # members that have left -> signing key: what they signed stays verifiable
    revoked: dict[Party, str] = {}  # the same of members whom this party alone trusts no more
    consortium_digest: str = Field(min_length=1, max_length=128)
    versions: dict[str, str]
    release: Digest | None = None  # of the coordinator that was agreed; None: nothing was
    maintenance: Maintenance | None = None
    slots: int = Field(0, ge=0, le=20)  # in Ray mode at least 1
    ports: Ports = Ports()
    bind: str = "0.0.0.0"
    peers: dict[Party, Peer] = {}  # in Ray mode all other members
    own: Own = Own(fed={}, spu={})
    datasets: dict[DatasetName, Path] = {}
    ray: Ray | None = None  # exactly one of these two: it is the mode
    kuscia: Kuscia | None = None
    state_dir: Path
    jobs_dir: Path
    secrets: Secrets
    timeouts: Timeouts
    limits: Limits = Limits()
    policy: Policy = Policy()
    audit_heads_s: float = Field(60, gt=0)  # a peer is shown the own audit head every so many seconds
    access_log: Path | None = None  # of the own gateway; None: its digests are not in the audit log
    certificate_file: Path | None = None  # the gateway's public certificate, for "days left"

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        if self.party not in self.members:
            raise ValueError(f"party is {self.party!r}, members are {list(self.members)}: it must be one of them")
        for field, named in (("left", self.left), ("revoked", self.revoked)):
            if strangers := set(named) - set(self.members):
                raise ValueError(f"{field} names {sorted(strangers)}: members are {list(self.members)}")
        if self.party in self.left:
            raise ValueError(f"{self.party} has left the consortium: its own coordinator serves nobody")
        if self.party in self.revoked:
            raise ValueError(f"revoked names {self.party} itself: a party revokes others")
        self._of_one_mode()
        field, known = ("kuscia.signing_keys", self.kuscia.signing_keys) if self.kuscia else ("peers", self.peers)
        if set(known) != (others := set(self.members) - {self.party, *self.gone}):
            raise ValueError(f"{field} are {sorted(known)}: they must be the other members {sorted(others)}")
        wanted = {str(k) for k in range(self.slots)}
        tables = {f"own.{s}": set(getattr(self.own, s)) for s in ("fed", "spu")}
        tables |= {f"peers.{n}.{s}": set(getattr(p, s)) for n, p in self.peers.items() for s in ("fed", "spu")}
        for where, have in tables.items():
            if not wanted <= have:
                raise ValueError(
                    f"{where} has slots {sorted(have)}: slots is {self.slots}: {sorted(wanted)} are needed"
                )
        for rule in self.policy.rules:  # a misspelt name would keep a rule that denies from ever fitting
            listed = () if rule.datasets == "any" else rule.datasets or ()
            strangers = {*(rule.initiators or ()), *(rule.parties or ())} - set(self.members)
            if unknown := sorted(strangers | (set(listed) - set(self.datasets))):
                raise ValueError(
                    f"policy: rule {rule.name!r} names {unknown}: "
                    f"members are {list(self.members)}, own datasets {sorted(self.datasets)}"
                )
        return self

    def _of_one_mode(self) -> None:
        if (self.ray is None) is (self.kuscia is None):
            raise ValueError("ray, kuscia: exactly one of them says what carries jobs here")
        if self.kuscia and (self.peers or self.slots):
            raise ValueError("peers, slots: with kuscia there are none: coordinators do not speak to one another")
        if self.ray and not (self.slots and self.secrets.gateway_token_file):
            raise ValueError("slots, secrets.gateway_token_file: with ray there is at least one slot, and a gateway")

    @property
    def keys(self) -> dict[Party, str]:
        """Other members of now -> signing key."""
        if self.kuscia:
            return self.kuscia.signing_keys
        return {name: peer.signing_key for name, peer in self.peers.items()}

    @property
    def present(self) -> tuple[Party, ...]:
        """The members that have not left, this party included."""
        return tuple(name for name in self.members if name not in self.left)

    @property
    def gone(self) -> dict[Party, str]:
        """Members that are no peers any more, because they left or are revoked here -> signing key."""
        return self.revoked | self.left

    def departed(self, parties: Iterable[Party]) -> frozenset[Party]:
        """Those of `parties` that have left."""
        return frozenset(parties) & frozenset(self.left)

    def shut_out(self, parties: Iterable[Party]) -> frozenset[Party]:
        """Those of `parties` that are revoked here."""
        return frozenset(parties) & frozenset(self.revoked)


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


def settings_digest(config: Config) -> str:
    """SHA-256 of all settings, as sorted JSON; secrets are not among them, only their paths."""
    text = json.dumps(config.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
