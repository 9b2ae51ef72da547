"""A job's program asks here for SecretFlow, ready for this party: `with session() as s:`.

Runs in the SecretFlow environment: standard library only, SecretFlow is imported late. Where CONSORTIUM_SESSION names
a file (docs/secretflow.md) this is production: own Ray, peers through the gateway. Without it all parties are
simulated here, from `job.yaml` beside the program and `<CONSORTIUM_DATA>/<party>/<dataset>.csv`.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NoReturn


class SessionError(Exception):
    """The session file cannot be used; the message names the file and the field."""


@dataclass(frozen=True)
class Service:
    """One service of this slot: where it listens, where each peer's is reached, which Ray node runs it."""

    listen: str  # host:port; rayfed keeps the port and binds [::] (fed/proxy/grpc/grpc_proxy.py)
    peers: dict[str, str]  # party -> host:port on this party's own gateway
    resources: dict[str, float] = field(default_factory=dict)  # Ray custom resources; empty = any node


@dataclass(frozen=True)
class Timeouts:
    """Derived from the consortium's one budget. The dicts are handed to SecretFlow as they are."""

    cross_silo_comm_options: dict[str, Any]  # fed/config.py GrpcCrossSiloMessageConfig; milliseconds, bytes
    link_desc: dict[str, Any]  # secretflow/device/device/spu.py _LINK_DESC_NAMES; milliseconds
    init_s: float  # sf.init, readiness barrier included
    shutdown_s: float  # sf.shutdown can wait for ever; then the process leaves
    job_s: float  # the driver ends itself even where nobody is left to end it
    go_s: float  # how long to wait for `go` at most
    lease_s: float  # a coordinator that has been gone for so long can no longer end this driver


@dataclass(frozen=True)
class Settings:
    """The session file: one per attempt and party, mode 0640."""

    consortium: str
    party: str
    parties: list[str]
    job_id: str
    attempt: int
    job_name: str  # equal at every party, unique per attempt: rayfed answers 417 to any other
    slot: int
    ray_address: str
    fed: Service
    spu: Service
    datasets: dict[str, dict[str, str | None]]  # party -> name -> path; null unless ours
    output_dir: str  # like the datasets, at the same path on every Ray node of this party
    timeouts: Timeouts
    go_file: str  # {"start_at": seconds since 1970, own clock}, written when all parties are ready; "" = start at once
    lease_file: str  # touched by the coordinator while it wants this attempt; "" = no coordinator
    parameters: dict[str, Any]
    spu_runtime: dict[str, Any] = field(default_factory=lambda: {"protocol": "SEMI2K", "field": "FM64"})


NESTED: dict[str, type[Any]] = {"fed": Service, "spu": Service, "timeouts": Timeouts}


def slot_ports(slot: int) -> tuple[int, int]:
    """(fed, spu) ports of a slot: above Ray's workers (10002-19999), below the kernel's own (32768)."""
    return 20000 + 2 * slot, 20001 + 2 * slot


def build(cls: type[Any], data: object, where: str) -> Any:
    """A dataclass from a JSON object; unknown and missing fields are errors."""
    if not isinstance(data, Mapping):
        raise SessionError(f"{where}: expected an object, got {type(data).__name__}")
    known = {item.name for item in fields(cls)}
    if wrong := sorted(set(data) - known):
        raise SessionError(f"{where}: unknown field {', '.join(wrong)}; allowed: {', '.join(sorted(known))}")
    values = {k: build(NESTED[k], v, f"{where}: {k}") if k in NESTED else v for k, v in data.items()}
    try:
        return cls(**values)
    except TypeError as error:
        raise SessionError(f"{where}: {error}") from error


def load(path: Path) -> Settings:
    """Read and check a session file."""
    try:
        settings: Settings = build(Settings, json.loads(path.read_text()), str(path))
    except (OSError, ValueError) as error:
        raise SessionError(f"{path}: {error}") from error
    if settings.party not in settings.parties:
        raise SessionError(f"{path}: party: {settings.party!r} is not one of parties {settings.parties}")
    others = sorted(set(settings.parties) - {settings.party})
    for name, service in (("fed", settings.fed), ("spu", settings.spu)):
        if sorted(service.peers) != others:
            raise SessionError(f"{path}: {name}.peers: has {sorted(service.peers)}, the peers are {others}")
    return settings


def init_options(s: Settings) -> dict[str, Any]:
    """Arguments of sf.init (secretflow/device/driver.py); the own address is where to listen."""
    addresses = {**s.fed.peers, s.party: s.fed.listen}
    comm = {
        **s.timeouts.cross_silo_comm_options,
        "exit_on_sending_failure": True,  # a peer out of reach ends the driver
        "expose_error_trace": False,  # a peer must not read our stack
        "use_global_proxy": False,  # one pair of proxies per job, so slots run side by side
        "recv_resource_label": s.fed.resources or None,  # pins the receiver to the gateway's target
    }
    parties = {party: {"address": address} for party, address in sorted(addresses.items())}
    return {
        "address": s.ray_address,
        "cluster_config": {"parties": parties, "self_party": s.party},
        "job_name": s.job_name,
        "cross_silo_comm_options": comm,
    }


def spu_cluster(s: Settings) -> dict[str, Any]:
    """`cluster_def` of sf.SPU; ranks follow the sorted party names."""
    own = {"party": s.party, "address": s.spu.listen, "listen_address": s.spu.listen}
    peers = [{"party": party, "address": address} for party, address in s.spu.peers.items()]
    return {"nodes": sorted([own, *peers], key=lambda node: node["party"]), "runtime_config": s.spu_runtime}


def write_json(path: Path, value: object) -> None:
    """Whole or not at all; for the owner and its group, to which the coordinator belongs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o640), "w") as file:
        json.dump(value, file, indent=2, sort_keys=True)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def bound(seconds: float, late: Callable[[str], None], message: str) -> threading.Event:
    """Call `late(message)` unless the returned event is set in time."""
    done = threading.Event()

    def watch() -> None:
        if not done.wait(seconds):
            late(message)

    threading.Thread(target=watch, daemon=True).start()
    return done


def keep_lease(path: str, lease_s: float, late: Callable[[str], None]) -> None:
    """Call `late` when the file has not been touched for `lease_s`, by this process's own clock."""

    def watch() -> None:
        last, since = 0, time.monotonic()
        while time.monotonic() - since <= lease_s:
            time.sleep(min(1.0, lease_s / 5))
            with contextlib.suppress(OSError):  # a file that is gone is not touched either
                if (touched := Path(path).stat().st_mtime_ns) != last:
                    last, since = touched, time.monotonic()
        late(f"lease: the coordinator has not wanted this attempt for {lease_s:g} s")

    threading.Thread(target=watch, daemon=True).start()


class Session:
    """What a program sees. Every party runs the same program; a peer's path is only a label here."""

    def __init__(self, settings: Settings | None) -> None:
        job = {} if settings else _job_yaml()
        self.settings = settings
        self.times: dict[str, Any] = {"session_opened_at": time.time()}
        self.parties: list[str] = settings.parties if settings else job["parties"]
        self.parameters: dict[str, Any] = settings.parameters if settings else job.get("parameters", {})
        self.folder = Path(settings.output_dir if settings else "output")
        self._result: object = {}

    def dataset(self, party: str, name: str) -> str:
        """Path of a party's dataset; at any other party only a label."""
        if self.settings:
            return self.settings.datasets[party][name] or f"/{party}/{name}"
        return str(Path(os.environ.get("CONSORTIUM_DATA", "data"), party, f"{name}.csv").resolve())

    def output(self, party: str, name: str) -> str:
        """Path of an output file of a party; at any other party only a label."""
        if self.settings:
            return str(self.folder / name) if party == self.settings.party else f"/{party}/{name}"
        return str((self.folder / party / name).resolve())

    def result(self, value: object) -> None:
        """What this party learns from the job, as JSON; written when the program ends well."""
        self._result = value

    def pyu(self, party: str) -> Any:
        import secretflow

        return secretflow.PYU(party)

    def spu(self) -> Any:
        """SecretFlow's SPU over all parties; its runtime is pinned to the node the gateway forwards to."""
        import secretflow
        from secretflow.device.device.spu import SPU, SPURuntime

        if not self.settings:
            return SPU(secretflow.utils.testing.cluster_def(self.parties))
        resources = self.settings.spu.resources

        class Runtime(SPURuntime):  # type: ignore[misc]
            id = party = None  # its __repr__ needs them; without, a failed link is shown as AttributeError

        class PinnedSPU(SPU):  # type: ignore[misc]
            def init(self) -> None:
                for rank, node in enumerate(self.cluster_def["nodes"]):
                    remote = secretflow.distributed.remote(Runtime).party(node["party"])
                    self.actors[node["party"]] = remote.options(num_cpus=0, resources=resources).remote(
                        rank, self.cluster_def, self.link_desc, self.log_options, self.id
                    )

        return PinnedSPU(spu_cluster(self.settings), self.settings.timeouts.link_desc)

    def __enter__(self) -> Session:
        import secretflow  # seconds of work: before the agreed moment, so that parties enter sf.init together

        self.times["imports_done_at"] = time.time()
        if not (s := self.settings):
            secretflow.init(self.parties, address="local", log_to_driver=False)
            return self
        if s.lease_file:
            keep_lease(s.lease_file, s.timeouts.lease_s, self._fail)
        bound(s.timeouts.job_s, self._fail, f"the job took longer than job_s = {s.timeouts.job_s:g} s")
        start_at = self._await_go(s) if s.go_file else time.time()
        while (left := start_at - time.time()) > 0:
            time.sleep(left - 0.005 if left > 0.01 else 0)
        self.times |= {"start_at": start_at, "sf_init_entered_at": time.time()}
        write_json(self.folder / "session.json", self.times)
        # Ray's Jobs API starts drivers with SIGINT blocked; rayfed sends it to itself when a peer is out of reach.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        options = init_options(s)
        options["cross_silo_comm_options"]["sending_failure_handler"] = lambda error: self._fail(
            f"a message could not be delivered to a peer: {error or 'see SenderProxyActor in the log'}"
        )
        ready = bound(s.timeouts.init_s, self._fail, f"sf.init took longer than init_s = {s.timeouts.init_s:g} s")
        try:
            secretflow.init(**options)
        except BaseException as error:
            traceback.print_exception(error)
            self._fail(f"sf.init: {type(error).__name__}: {error}")
        ready.set()
        self.times["sf_init_done_at"] = time.time()
        write_json(self.folder / "session.json", self.times)
        return self

    def _await_go(self, s: Settings) -> float:
        """Say that this driver has loaded, and wait to be told the moment at which all parties begin."""
        self.times["ready_at"] = time.time()
        write_json(self.folder / "session.json", self.times)
        late = bound(s.timeouts.go_s, self._fail, f"sf.init: no go within go_s = {s.timeouts.go_s:g} s")
        go = Path(s.go_file)
        while not go.exists():
            time.sleep(0.005)
        late.set()
        try:
            return float(json.loads(go.read_text())["start_at"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            self._fail(f"sf.init: {go}: {error}")

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        import secretflow

        if error is not None:
            traceback.print_exception(error)
            self._fail(f"{type(error).__name__}: {error}")
        self.times["finished_at"] = time.time()
        write_json(self.folder / "result.json", self._result)
        done = bound(self.settings.timeouts.shutdown_s if self.settings else 60, self._leave, "bounded")
        try:
            secretflow.shutdown()
        except BaseException as failure:
            self._fail(f"sf.shutdown: {type(failure).__name__}: {failure}")
        done.set()
        self._leave("clean")

    def _leave(self, shutdown: str) -> NoReturn:
        """The result is written: nothing that SecretFlow still waits for may keep the process."""
        write_json(self.folder / "session.json", {**self.times, "shutdown": shutdown})
        _exit(0)

    def _fail(self, why: str) -> NoReturn:
        """Name the error and leave with code 1. No sf.shutdown: it waits for peers; Ray ends the job's actors."""
        write_json(self.folder / "error.json", {"error": why, "at": time.time()})
        print(f"session: {why}", file=sys.stderr)
        _exit(1)


def _exit(code: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _job_yaml() -> dict[str, Any]:
    import yaml

    job: dict[str, Any] = yaml.safe_load((Path(sys.argv[0]).parent / "job.yaml").read_text())
    return job


def session() -> Session:
    """This party's session; a session file that cannot be used ends the program with code 2."""
    path = os.environ.get("CONSORTIUM_SESSION")
    try:
        return Session(load(Path(path)) if path else None)
    except SessionError as error:
        print(f"session: {error}", file=sys.stderr)
        raise SystemExit(2) from error
