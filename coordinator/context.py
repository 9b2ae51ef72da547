"""Everything a running coordinator holds, made once at start and handed to the parts that need it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

from coordinator.audit_exchange import HeadExchange
from coordinator.buckets import Guard, Refusals
from coordinator.check import check_state
from coordinator.config import Config, ConfigError, Ray, load_config
from coordinator.hold import Hold, last_hold
from coordinator.kuscia.node import Node, open_node
from coordinator.kuscia.phases import KUSCIA_TRANSITIONS
from coordinator.launcher import Launcher, RayLauncher
from coordinator.metrics import Metrics
from coordinator.model import TRANSITIONS, Checks, Job, Phase
from coordinator.peers import Peers
from coordinator.signing import Signer, Verifier
from coordinator.store import Store
from coordinator.ways import Ways


@dataclass
class Context:
    """One coordinator's parts. The mutable fields are lost in a crash, by design."""

    path: Path  # of the configuration file
    config: Config
    signer: Signer
    verifier: Verifier
    store: Store
    peers: Peers
    ray: Launcher | None  # None in Kuscia mode
    kuscia: Node | None  # None in Ray mode
    ways: Ways
    operator_token: str
    gateway_token: str
    heads: HeadExchange
    metrics: Metrics = field(default_factory=Metrics)
    checks: dict[str, Checks] = field(default_factory=dict)  # job -> result of the newest checks
    ways_proved: dict[str, Checks] = field(default_factory=dict)  # job -> whether its ways were gone, newest attempt
    watched_since: dict[tuple[str, int], float] = field(default_factory=dict)  # attempt -> monotonic seconds
    undelivered: dict[tuple[str, str], str] = field(default_factory=dict)  # (job, peer) -> why the last try failed
    terms: dict[str, tuple[int, Config]] = field(default_factory=dict)  # job -> attempt under way, what it began with
    hold: Hold | None = None  # begin no attempt; it may be over: `held`
    ray_failing_since: float | None = None  # monotonic seconds; None while the own Ray answers
    started: float = field(default_factory=time.monotonic)
    refusals: Refusals = field(init=False)
    guard: Guard = field(init=False)

    def __post_init__(self) -> None:
        self.refusals = Refusals(self.store)
        self.guard = Guard(self.operator_token)

    @property
    def launcher(self) -> Launcher:
        """The own Ray; only where there is one."""
        assert self.ray is not None, "no Ray in Kuscia mode"
        return self.ray

    @property
    def node(self) -> Node:
        """The own Kuscia node; only where there is one."""
        assert self.kuscia is not None, "no Kuscia in Ray mode"
        return self.kuscia

    def adopt(self, config: Config, verifier: Verifier) -> None:
        """Put another configuration in force, everywhere at once: nothing here awaits."""
        self.config, self.verifier = config, verifier
        self.peers.adopt(config)
        self.ways.adopt(config)
        self.heads.adopt(config, verifier)
        if self.ray:
            self.ray.log_bytes = config.limits.log_bytes

    def terms_of(self, job: Job) -> Config:
        """The configuration that counts for a job: of an attempt under way the one with which it began here."""
        known = self.terms.get(job.job_id)
        return known[1] if known and known[0] == job.attempt else self.config

    def keep_terms(self, job: Job) -> None:
        """Hold on to the present configuration for the job's attempt, or let go of it when none is under way."""
        if not job.phase.active:
            self.terms.pop(job.job_id, None)
        elif self.terms.get(job.job_id, (0, None))[0] != job.attempt:
            self.terms[job.job_id] = (job.attempt, self.config)

    def held(self, now: float) -> Hold | None:
        """The hold that counts at this time."""
        return self.hold if self.hold and now < self.hold.until else None

    def bundle_path(self, program_digest: str) -> Path:
        """Where a job folder is kept."""
        return self.config.state_dir / "bundles" / f"{program_digest}.tar"

    def attempt_dir(self, job_id: str, attempt: int) -> Path:
        """Where an attempt's program, session file and output are."""
        return self.config.jobs_dir / job_id / str(attempt)

    def forget(self, job: Job) -> None:
        """Let go of what was seen of an attempt whose slot is given back."""
        attempt = (job.job_id, job.attempt)
        self.ways.release(job.job_id)
        self.watched_since.pop(attempt, None)
        for state in self.peers.state.values():
            state.alive.pop(attempt, None)
        self.checks.pop(job.job_id, None)
        self.ways_proved.pop(job.job_id, None)

    def free_slot(self, asking: Job | None = None) -> int | None:
        """Lowest slot nobody holds; the one for `asking`, a job that waits for its turn, if that has come.

        Jobs that are being checked count as holders then, so that an initiator asks for no more attempts than it has
        slots; and so do the jobs before it in the queue: higher priority first, then the older one.
        """
        used = self.store.used_slots()
        free = [k for k in range(self.config.slots) if k not in used]
        if asking is None or not free:
            return free[0] if free else None
        ahead = self.store.phase_counts().get(Phase.PREPARING, 0) + self.store.ahead_of(asking, time.time())
        return free[ahead] if ahead < len(free) else None


def read_secret(path: Path) -> str:
    """A token from its file. Raises ConfigError naming the file when it is missing or too short to be one."""
    try:
        token = path.read_text("utf-8").strip()
    except OSError as e:
        raise ConfigError(f"{path}: cannot be read: {e.strerror}") from e
    if len(token) < 16:
        raise ConfigError(f"{path}: holds {len(token)} characters, a token needs at least 16")
    return token


def load_signer(config: Config) -> tuple[Signer, Verifier]:
    """Own key and everyone's public keys. Raises SigningError naming the key that cannot be read."""
    signer = Signer.load(config.consortium, config.party, config.secrets.signing_key_file)
    return signer, verifier_of(config, signer)


def verifier_of(config: Config, signer: Signer) -> Verifier:
    """Everyone's public keys, of those too that are gone. Raises SigningError naming a key that is none."""
    return Verifier(config.consortium, config.gone | config.keys | {config.party: signer.public})


def _ray_of(config: Config, ray: Ray) -> RayLauncher:
    return RayLauncher(ray.jobs_url, log_bytes=config.limits.log_bytes, driver_resources=ray.driver_resources)


def open_context(path: Path, launcher: Launcher | None = None) -> Context:
    """Read the configuration and open everything it names."""
    config = load_config(path)
    signer, verifier = load_signer(config)
    (config.state_dir / "bundles").mkdir(parents=True, exist_ok=True)
    gateway_token = read_secret(config.secrets.gateway_token_file) if config.secrets.gateway_token_file else ""
    node = open_node(config.kuscia, read_secret(config.kuscia.token_file)) if config.kuscia else None
    transitions = KUSCIA_TRANSITIONS if node else TRANSITIONS
    store = Store(config.state_dir / "coordinator.db", signer, config.party, transitions)
    check_state(store, verifier)
    return Context(
        path=path,
        config=config,
        signer=signer,
        verifier=verifier,
        operator_token=read_secret(config.secrets.operator_token_file),
        gateway_token=gateway_token,
        store=store,
        heads=HeadExchange(config, store, signer, verifier),
        hold=last_hold(store),
        peers=Peers(config, gateway_token),
        ray=(launcher or _ray_of(config, config.ray)) if config.ray else None,
        kuscia=node,
        ways=Ways(config),
    )
