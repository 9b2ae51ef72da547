"""Parties for tests: real coordinators over loopback HTTP, a gateway that can be cut, a Ray that runs real processes.

Nothing here decides anything: the gateway only marks requests as the real one does, the Ray only runs what it is told.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tarfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path
from typing import Any, Self

import httpx
import uvicorn
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from coordinator.app import Coordinator
from coordinator.authorities import authorities
from coordinator.context import open_context

GATEWAY_TOKEN = "gateway-token-of-a-party"
OPERATOR_TOKEN = "operator-token-of-a-party"
VERSIONS = {"python": "3.11", "ray": "2.9.3", "secretflow": "1.11.0b1"}

# What a trivial driver does: as coordinator.session, but without SecretFlow.
MAIN = """
import json, os, sys, time
s = json.load(open(os.environ["CONSORTIUM_SESSION"]))
out, p = s["output_dir"], s["parameters"]
def keep(name, value):
    json.dump(value, open(out + "/." + name, "w"))
    os.replace(out + "/." + name, out + "/" + name)
from coordinator.session import keep_lease
def lost(why):
    keep("error.json", {"error": why}); os._exit(1)
keep_lease(s["lease_file"], s["timeouts"]["lease_s"], lost)
time.sleep(p.get("load_seconds", {}).get(s["party"], 0))
times = {"ready_at": time.time()}
keep("session.json", times)
while not os.path.exists(s["go_file"]):
    time.sleep(0.005)
start_at = json.load(open(s["go_file"]))["start_at"]
while (left := start_at - time.time()) > 0:
    time.sleep(left - 0.005 if left > 0.01 else 0)
keep("session.json", times | {"start_at": start_at, "sf_init_entered_at": time.time()})
print("driver of", s["party"], "attempt", s["attempt"], flush=True)
open(out + "/ran", "w").write(str(os.getpid()))
time.sleep(p.get("seconds", {}).get(s["party"], 0) if isinstance(p.get("seconds"), dict) else p.get("seconds", 0))
fails = p.get("fails", {}).get(s["party"])
if fails == "error":
    keep("error.json", {"error": "ValueError: as asked"}); sys.exit(1)
if fails == "crash" or (fails == "crash-once" and s["attempt"] == 1):
    os._exit(9)
if fails == "no-result":
    sys.exit(0)
keep("result.json", {"party": s["party"], "peers": s["fed"]["peers"]})
"""


def tar_of(files: dict[str, str | bytes]) -> bytes:
    """An uncompressed tar."""
    out = BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, BytesIO(data))
    return out.getvalue()


def job_folder(parties: list[str], main: str = MAIN, **fields: Any) -> bytes:
    """A job folder; keyword arguments become fields of job.yaml."""
    document = {"name": "probe", "parties": parties, "parameters": {}, **fields}
    return tar_of({"job.yaml": json.dumps(document), "main.py": main})


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on now, below those from which the kernel takes one for each outgoing connection."""
    end = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    found: list[int] = []
    for port in random.sample(range(10_000, end), end - 10_000):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            found.append(port)
        if len(found) == count:
            return found
    raise RuntimeError(f"{len(found)} free ports below {end}, {count} are needed")


class FakeRay:
    """Ray's documented Jobs API (2.9) with real subprocesses behind it."""

    def __init__(self) -> None:
        self.jobs: dict[str, dict[str, Any]] = {}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._running: set[str] = set()  # a long run has thousands of drivers, few of which are worth a look
        self.version, self.down, self.submits, self.refuse = "2.9.3", False, 0, ""
        self.logs = Path(os.environ.get("TMPDIR", "/tmp"))
        self.stops_at_launch = False
        """Stand still, as a stopped process does, from the next launch on until `goes_on` is set."""
        self.goes_on = asyncio.Event()
        self.goes_on.set()

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/api/version", self._version),
                Route("/api/jobs/", self._submit, methods=["POST"]),
                Route("/api/jobs/", self._list),
                Route("/api/jobs/{id}", self._get),
                Route("/api/jobs/{id}/logs", self._logs),
                Route("/api/jobs/{id}/stop", self._stop, methods=["POST"]),
            ]
        )

    async def _version(self, _: Request) -> Response:
        return Response(status_code=503) if self.down else JSONResponse({"version": "4", "ray_version": self.version})

    async def _submit(self, request: Request) -> Response:
        if self.down:
            return Response(status_code=503)
        if self.stops_at_launch:
            self.goes_on.clear()
        await self.goes_on.wait()
        body = await request.json()
        name = body["submission_id"]
        if self.refuse:
            return PlainTextResponse(f"RuntimeError: Request failed with status code 400: {self.refuse}.", 500)
        if name in self.jobs:
            text = f"ValueError: Job with submission_id {name} already exists."  # word for word from Ray 2.9.3
            return PlainTextResponse(f"RuntimeError: Request failed with status code 400: {text}", 500)
        self.submits += 1
        log = self.logs / f"{name}-{os.getpid()}-{id(self)}.log"
        with log.open("wb") as out:
            self.processes[name] = subprocess.Popen(
                body["entrypoint"], shell=True, stdout=out, stderr=out, start_new_session=True
            )
        self._running.add(name)
        self.jobs[name] = {"status": "RUNNING", "submission_id": name, "message": "", "log": log}
        return JSONResponse({"job_id": name, "submission_id": name})

    def look(self) -> None:
        for name in [n for n in self._running if n in self.jobs]:
            code = self.processes[name].poll()
            if code is not None:
                self._running.discard(name)
            if code is not None and self.jobs[name]["status"] == "RUNNING":
                self.jobs[name]["status"] = "SUCCEEDED" if code == 0 else "FAILED"
                self.jobs[name]["message"] = "" if code == 0 else f"failed with exit code {code}"

    def _public(self, name: str) -> dict[str, Any]:
        return {k: v for k, v in self.jobs[name].items() if k != "log"} | {"type": "SUBMISSION"}

    async def _list(self, _: Request) -> Response:
        self.look()
        return Response(status_code=503) if self.down else JSONResponse([self._public(n) for n in self.jobs])

    async def _get(self, request: Request) -> Response:
        await self.goes_on.wait()
        self.look()
        name = request.path_params["id"]
        if self.down:
            return Response(status_code=503)
        if name not in self.jobs:
            return PlainTextResponse(f"Job {name} does not exist", 404)
        return JSONResponse(self._public(name))

    async def _logs(self, request: Request) -> Response:
        name = request.path_params["id"]
        if name not in self.jobs:
            return PlainTextResponse(f"Job {name} does not exist", 404)
        return JSONResponse({"logs": self.jobs[name]["log"].read_text()})

    async def _stop(self, request: Request) -> Response:
        self.look()
        name = request.path_params["id"]
        if self.down:
            return Response(status_code=503)
        if name not in self.jobs:
            return PlainTextResponse(f"Job {name} does not exist", 404)
        running = self.jobs[name]["status"] == "RUNNING"
        if running:
            self.jobs[name]["status"] = "STOPPED"
            self.kill(name)
        return JSONResponse({"stopped": running})

    def kill(self, name: str) -> None:
        """End a process group at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.processes[name].pid, signal.SIGKILL)
        self.processes[name].wait()

    def alive(self) -> list[str]:
        """Ids of drivers that live."""
        return [n for n, p in self.processes.items() if p.poll() is None]

    def forget(self) -> None:
        """Ray restarted: processes gone, nothing known."""
        for name in self.alive():
            self.kill(name)
        self.jobs.clear()
        self.processes.clear()
        self._running.clear()


def _client() -> httpx.AsyncClient:
    return httpx.AsyncClient(
        timeout=20, trust_env=False, verify=authorities(), limits=httpx.Limits(keepalive_expiry=60)
    )


HASTY = {"peer_lost_after_s": 2, "promise_s": 5, "start_window_s": 5, "peer_request_s": 1.5}
"""Timeouts for what is about the loss of a party, which would else be waited for."""


class Rig:
    """Some parties. `cut` holds directions (from, to) that the network drops."""

    up_s = 20.0  # how long a coordinator may take to answer after its start

    def __init__(self, folder: Path, parties: list[str], **overrides: Any) -> None:
        self.folder, self.parties, self.overrides = folder, parties, overrides
        self.cut: set[tuple[str, str]] = set()
        self.answers: dict[tuple[str, str], int] = {}  # direction -> what a wrong gateway answers
        self.clocks: dict[str, float] = {}  # seconds that a party's clock seems ahead of the true time
        self.lose: dict[tuple[str, str], int] = {}  # direction -> every n-th answer is lost
        self._count = 0
        self.messages: Counter[str] = Counter()  # requests between parties, by the first part of their path
        self.rays = {p: FakeRay() for p in parties}
        self.running: dict[str, Coordinator] = {}
        self.children: dict[str, subprocess.Popen[bytes]] = {}
        self.slots = overrides.pop("slots", 1)
        ports = iter(free_ports(1 + len(parties) * (3 + 2 * self.slots)))
        self.gateway_port = next(ports)
        self.ray_ports = {p: next(ports) for p in parties}
        self.ports = {p: (next(ports), next(ports)) for p in parties}
        self.own = {
            p: {s: {str(k): f"0.0.0.0:{next(ports)}" for k in range(self.slots)} for s in ("fed", "spu")}
            for p in parties
        }
        self._servers: list[tuple[uvicorn.Server, asyncio.Task[None]]] = []
        self._keys = {p: self.make_key(p) for p in parties}
        self.http = _client()
        # one pool per receiver: httpx looks through a whole pool at each request, and 24 parties fill one with hundreds
        self._onward = {p: _client() for p in parties}
        for p in parties:
            self._write(p)

    def make_key(self, _party: str) -> Ed25519PrivateKey:
        """The party's signing key."""
        return Ed25519PrivateKey.generate()

    def host(self, _party: str) -> str:
        """The address at which a party's coordinator and Ray listen."""
        return "127.0.0.1"

    def environment(self, _party: str) -> dict[str, str]:
        """What the process of a party's coordinator finds in its environment beside the tests' own."""
        return {}

    def public(self, party: str) -> str:
        import base64

        raw = self._keys[party].public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return base64.b64encode(raw).decode()

    def config_path(self, party: str) -> Path:
        return self.folder / party / "coordinator.json"

    def _write(self, party: str) -> None:
        home = self.folder / party
        for sub in ("state", "jobs", "secrets"):
            (home / sub).mkdir(parents=True, exist_ok=True)
        pem = self._keys[party].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (home / "secrets" / "signing.key").write_bytes(pem)
        (home / "secrets" / "operator.token").write_text(OPERATOR_TOKEN)
        (home / "secrets" / "gateway.token").write_text(GATEWAY_TOKEN)
        (home / "data.csv").write_text("id\n1\n")
        config = self.document(party)
        for key, value in self.overrides.items():
            value = value(party) if callable(value) else value
            config[key] = config[key] | value if isinstance(config.get(key), dict) else value
        self.config_path(party).write_text(json.dumps(config, indent=1))

    def document(self, party: str) -> dict[str, Any]:
        home = self.folder / party
        slots = [str(k) for k in range(self.slots)]
        return {
            "consortium": "demo",
            "party": party,
            "members": self.parties,
            "consortium_digest": "c" * 64,
            "versions": dict(VERSIONS),
            "slots": self.slots,
            "ports": {"operator": self.ports[party][0], "peer": self.ports[party][1]},
            "bind": "127.0.0.1",
            "peers": {
                p: {
                    "url": f"http://127.0.0.1:{self.gateway_port}/{party}/{p}",
                    "signing_key": self.public(p),
                    **{s: {k: self.way(p, s, k) for k in slots} for s in ("fed", "spu")},
                }
                for p in self.parties
                if p != party
            },
            "own": self.own[party],
            "datasets": {"table": str(home / "data.csv")},
            "ray": {
                "jobs_url": f"http://127.0.0.1:{self.ray_ports[party]}",
                "address": "head:6379",
                "python": sys.executable,
            },
            "state_dir": str(home / "state"),
            "jobs_dir": str(home / "jobs"),
            "secrets": {
                "signing_key_file": str(home / "secrets" / "signing.key"),
                "operator_token_file": str(home / "secrets" / "operator.token"),
                "gateway_token_file": str(home / "secrets" / "gateway.token"),
            },
            "timeouts": {
                "heartbeat_s": 0.2,
                # all parties share one process, and a busy machine may stop it for seconds: see HASTY
                "peer_lost_after_s": 8,
                "promise_s": 12,
                "start_lead_s": 0.1,
                "start_window_s": 15,
                "job_s": 60,
                "shutdown_s": 5,
                "peer_request_s": 4,
                "peer_transfer_s": 5,
                "rayfed_barrier_s": 60,
            },
            "limits": {"proposal_s": 600},
            "policy": {"default": "approve"},
        }

    def way(self, party: str, service: str, slot: str) -> str:
        """Where the others reach a service of a party; the gateways that lie between do not matter here."""
        return f"127.0.0.1:{self.own[party][service][slot].rpartition(':')[2]}"

    async def _serve(self, app: Starlette, port: int, host: str = "127.0.0.1") -> None:
        server = uvicorn.Server(
            uvicorn.Config(
                app,
                host=host,
                port=port,
                log_level="error",
                lifespan="off",
                access_log=False,
                timeout_keep_alive=600,  # a busy loop must not close what a client is about to use
            )
        )
        server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]
        task = asyncio.create_task(server.serve())
        self._servers.append((server, task))
        while not server.started:
            await asyncio.sleep(0.01)

    async def _forward(self, request: Request) -> Response:
        sender, receiver = request.path_params["sender"], request.path_params["receiver"]
        self.messages[request.path_params["path"].split("/")[2]] += 1  # peer/v1/<kind>…
        if (sender, receiver) in self.cut:
            return PlainTextResponse("upstream connect error", 503)
        if status := self.answers.get((sender, receiver)):
            return PlainTextResponse("this is another gateway", status)
        headers = {k: v for k, v in request.headers.items() if not k.startswith("x-consortium") and k != "host"}
        headers |= {"x-consortium-party": sender, "x-consortium-gateway-token": GATEWAY_TOKEN}
        url = f"http://127.0.0.1:{self.ports[receiver][1]}/{request.path_params['path']}"
        try:
            answer = await self._onward[receiver].request(
                request.method, url, content=await request.body(), headers=headers, params=request.query_params
            )
        except httpx.HTTPError as e:
            return PlainTextResponse(f"upstream connect error: {e!r}", 503)
        self._count += 1
        every = self.lose.get((sender, receiver), 0)
        if (every and self._count % every == 0) or (receiver, sender) in self.cut:
            return PlainTextResponse("connection terminated", 503)  # the request arrived, its answer did not
        content = answer.content
        if (ahead := self.clocks.get(receiver, 0) - self.clocks.get(sender, 0)) and b"received_at" in content:
            times = json.loads(content)
            content = json.dumps(times | {k: times[k] + ahead for k in ("received_at", "sent_at")}).encode()
        return Response(content, answer.status_code, media_type=answer.headers.get("content-type"))

    async def open_gateway(self) -> None:
        """Listen as the gateway of every party."""
        route = Route("/{sender}/{receiver}/{path:path}", self._forward, methods=["GET", "POST"])
        await self._serve(Starlette(routes=[route]), self.gateway_port)

    async def __aenter__(self) -> Self:
        await self.open_gateway()
        for p in self.parties:
            await self._serve(self.rays[p].app(), self.ray_ports[p], self.host(p))
        return self

    async def __aexit__(self, *_: object) -> None:
        for ray in self.rays.values():
            ray.goes_on.set()
        for p in list(self.running):
            await self.stop(p)
        for child in self.children.values():
            child.kill()
            child.wait()
        for server, _task in self._servers:
            server.should_exit = True
        await asyncio.gather(*(task for _, task in self._servers))
        for ray in self.rays.values():
            ray.forget()
        for client in (self.http, *self._onward.values()):
            await client.aclose()

    async def start(self, *parties: str) -> None:
        """Run coordinators in this process; all when none is named."""
        for p in parties or self.parties:
            self.running[p] = Coordinator(open_context(self.config_path(p)))
            await self.running[p].start()
        await self.wait_up(*(parties or self.parties))

    async def stop(self, party: str) -> None:
        await self.running.pop(party).stop()

    def spawn(self, party: str, failpoint: str = "") -> subprocess.Popen[bytes]:
        """Run a coordinator in a process of its own, to be killed at a failpoint."""
        env = os.environ | self.environment(party) | {"CONSORTIUM_FAILPOINT": failpoint}
        with (self.folder / party / "coordinator.log").open("ab") as out:
            self.children[party] = subprocess.Popen(
                [sys.executable, "-m", "coordinator", "serve", "--config", str(self.config_path(party))],
                env=env,
                stdout=out,
                stderr=out,
            )
        return self.children[party]

    async def wait_up(self, *parties: str) -> None:
        for p in parties:
            end = time.monotonic() + self.up_s
            while time.monotonic() < end:
                with contextlib.suppress(httpx.HTTPError):
                    if (await self.http.get(f"{self.operator_url(p)}/healthz")).status_code == 200:
                        break
                await asyncio.sleep(0.05)
            else:
                raise AssertionError(f"{p} does not come up")

    def operator_url(self, party: str) -> str:
        """Where a party's operator reaches its coordinator."""
        return f"http://{self.host(party)}:{self.ports[party][0]}"

    async def call(self, party: str, method: str, path: str, **more: Any) -> httpx.Response:
        """The operator API with the token."""
        headers = {"authorization": f"Bearer {OPERATOR_TOKEN}"} | more.pop("headers", {})
        url = f"{self.operator_url(party)}/api/v1/{path}"
        return await self.http.request(method, url, headers=headers, **more)

    async def submit(self, party: str, folder: bytes | None = None, **fields: Any) -> str:
        """Submit a job folder; returns the job id."""
        files = {"bundle": ("job.tar", folder or job_folder(self.parties, **fields))}
        answer = await self.call(party, "POST", "jobs", files=files)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["job_id"])

    async def submit_refused(self, party: str, folder: bytes) -> str:
        """Submit what is refused; returns why."""
        answer = await self.call(party, "POST", "jobs", files={"bundle": ("job.tar", folder)})
        assert answer.status_code == 422, answer.text
        return str(answer.json()["detail"])

    async def job(self, party: str, job_id: str) -> dict[str, Any]:
        answer = await self.call(party, "GET", f"jobs/{job_id}")
        return answer.json() if answer.status_code == 200 else {"phase": "unknown", "settled": False, "terminal": False}

    async def until(self, job_id: str, phases: set[str] | str, *parties: str, limit_s: float = 20) -> dict[str, Any]:
        """Wait until the parties (all) are in one of the phases; returns the last one's view."""
        wanted = {phases} if isinstance(phases, str) else phases
        end = time.monotonic() + limit_s
        for p in parties or self.parties:
            while (seen := await self.job(p, job_id))["phase"] not in wanted:
                if time.monotonic() > end:
                    events = [f"{e['to']}: {e['reason']}" for e in seen.get("events", [])]
                    raise AssertionError(f"{p}: {job_id} is {seen['phase']}, wanted {wanted}:\n" + "\n".join(events))
                await asyncio.sleep(0.03)
        return seen

    async def end(self, job_id: str, *parties: str, limit_s: float = 25) -> str:
        """Wait until the job has ended with all signatures everywhere; returns the one label."""
        end = time.monotonic() + limit_s
        while True:
            views = {p: await self.job(p, job_id) for p in parties or self.parties}
            if all(v["terminal"] and v["settled"] for v in views.values()):
                labels = {v["phase"] for v in views.values()}
                assert len(labels) == 1, {p: (v["phase"], v["reason"]) for p, v in views.items()}
                return str(labels.pop())
            if time.monotonic() > end:
                text = {p: [(e["to"], e["reason"]) for e in v.get("events", [])][-6:] for p, v in views.items()}
                raise AssertionError(f"{job_id} did not end: {json.dumps(text, indent=1)}")
            await asyncio.sleep(0.03)


@contextlib.asynccontextmanager
async def rig(folder: Path, parties: list[str] | None = None, **overrides: Any) -> AsyncIterator[Rig]:
    """A rig with its coordinators running."""
    async with Rig(folder, parties or ["alice", "bob"], **overrides) as made:
        await made.start()
        yield made
