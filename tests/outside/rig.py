"""bob's institution as strangers and malicious members meet it: his real gateway and, behind it, his real coordinator.

Both run on exactly the files of his nodes; only addresses and folders are replaced. alice and carol are members whose
keys are all in the attacker's hands.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from consortium import node_paths, ports, trust
from consortium.nodefiles import files_for, hosts_of
from coordinator.model import Draft
from coordinator.signing import Signer
from coordinator.statements import Kind, ProposalBody, Statement
from tests import builders
from tests.gateway.conftest import Gateway
from tests.gateway.loopback_gateways import relocate, wait_for

MEMBERS = ("alice", "bob", "carol")
COORDINATOR = "coordinator.{}.bob.demo"


@dataclass
class Answer:
    """An HTTP answer, or what a closed connection leaves: status 0."""

    status: int
    text: str = ""
    headers: Mapping[str, str] | None = None


def signer(party: str) -> Signer:
    """A party's signing key."""
    key: Any = load_pem_private_key(builders.signing_key(party).private.encode(), None)
    return Signer(builders.CONSORTIUM, party, key)


def statement(party: str, job_id: str = "20261124-probe-abcdef", **changes: Any) -> Statement:
    """A good proposal of a job of `party` and bob."""
    now = time.time()
    fields: dict[str, Any] = {
        "name": "probe",
        "program": "main.py",
        "program_digest": "a" * 64,
        "bundle_bytes": 100,
        "parties": (party, "bob"),
        "datasets": {},
        "parameters": {},
        "versions": {},
        "consortium_digest": "c" * 64,
        "max_attempts": 1,
        "created_at": now,
        "deadline": now + 1000,
    } | changes
    return signer(party).statement(job_id, Draft(Kind.PROPOSAL, 0, ProposalBody.model_validate(fields)))


def batch(*statements: Statement) -> bytes:
    """The body in which statements travel."""
    return json.dumps({"statements": [s.model_dump(mode="json") for s in statements]}).encode()


@dataclass
class Attacked:
    """bob, and ways to speak to him."""

    gateway: Gateway
    folder: Path
    head: str
    process: subprocess.Popen[bytes]

    def tls(self, party: str | None = "alice") -> ssl.SSLContext:
        """A client with this party's good certificate, or with none."""
        made = ssl.create_default_context(cadata=builders.authority("bob").certificate)
        made.check_hostname = False  # the name asked for is a service; the certificate's is the party
        if party:
            pair = trust.issue_gateway(builders.authority(party), party, builders.CONSORTIUM)
            chain = self.folder / f"{party}.pem"
            chain.write_text(pair.certificate + pair.key)
            made.load_cert_chain(chain)
        return made

    @contextlib.contextmanager
    def connection(self, party: str = "alice", timeout_s: float = 20) -> Iterator[ssl.SSLSocket]:
        """A TLS connection of a member to bob's coordinator."""
        plain = socket.create_connection((self.gateway.address, ports.GATEWAY_PUBLIC_PORT), timeout=timeout_s)
        with plain, self.tls(party).wrap_socket(plain, server_hostname=COORDINATOR.format(party)) as secure:
            yield secure

    def ask(self, method: str, path: str, body: bytes | None = None, *, party: str = "alice", **headers: str) -> Answer:
        """One request of a member."""
        with self.connection(party) as secure:
            connection = http.client.HTTPConnection("peer")
            connection.sock = secure
            given = {"content-type": "application/json"} if body is not None else {}
            connection.request(method, path, body=body, headers=given | headers)
            answer = connection.getresponse()
            return Answer(answer.status, answer.read().decode(errors="replace"), dict(answer.getheaders()))

    def send(self, *statements: Statement, party: str = "alice") -> Answer:
        """Statements, from the gateway of `party`."""
        return self.ask("POST", f"/peer/v1/{statements[0].kind}", batch(*statements), party=party)

    def bundle(self, tar: bytes, job_id: str, party: str = "alice") -> Answer:
        """A job folder, from the gateway of `party`."""
        return self.ask("POST", f"/peer/v1/bundle/{job_id}", tar, party=party)

    def raw(self, content: bytes, party: str = "alice") -> bytes:
        """What comes back for these bytes until the connection is closed or the answer is there; may be nothing."""
        with self.connection(party) as secure:
            secure.sendall(content)
            return read_some(secure)

    def operator(self, method: str, path: str, **more: Any) -> httpx.Response:
        """The operator's own door, past the gateway's listener for operators."""
        headers = {"authorization": "Bearer operator-token-of-bob"}
        url = f"http://{self.gateway.address}:{ports.GATEWAY_OPERATOR_PORT}{path}"
        return httpx.request(method, url, headers=headers, timeout=30, trust_env=False, **more)

    def records(self, job_id: str = "") -> list[dict[str, Any]]:
        """bob's audit log, or what it says of one job."""
        lines = self.operator("GET", "/api/v1/audit").text.splitlines()
        contents = [json.loads(line).get("content") for line in lines]
        records = [json.loads(c) if isinstance(c, str) else c for c in contents if c]
        return [r for r in records if job_id in json.dumps(r)]

    def refusals(self) -> list[dict[str, Any]]:
        """What bob's audit log says of refused messages."""
        return [r for r in self.records() if r.get("kind") == "refused"]

    def peer_requests(self) -> int:
        """How many requests of peers bob's coordinator has answered, well or not."""
        lines = self.operator("GET", "/metrics").text.splitlines()
        mark = "consortium_http_request_seconds_count{"
        return sum(int(float(x.split()[-1])) for x in lines if x.startswith(mark) and 'interface="peer"' in x)

    def alive(self) -> bool:
        """The coordinator answers a good peer, and has not ended."""
        return self.process.poll() is None and self.ask("GET", "/peer/v1/time", party="carol").status == 200

    @property
    def log(self) -> str:
        """What the coordinator printed."""
        return (self.folder / "coordinator.log").read_text(errors="replace")


def read_some(secure: socket.socket) -> bytes:
    """What is received at once, and until the other side closes when it does."""
    try:
        return secure.recv(65536)
    except (ssl.SSLError, ConnectionError):
        return b""


def run_coordinator(gateway: Gateway, folder: Path, head: str) -> subprocess.Popen[bytes]:
    """bob's coordinator, on the files of his head."""
    model = builders.model(*MEMBERS, own="bob")
    places = {node_paths.JOBS_DIR: "jobs", node_paths.STATE_DIR: "state", node_paths.SECRETS_DIR: "secrets"}
    moved = {str(place): str(folder / name) for place, name in places.items()}
    moved |= {
        str(node_paths.ACCESS_LOG): str(gateway.folder / "access.log"),
        str(node_paths.GATEWAY_CERTIFICATE): str(folder / "gateway.crt"),
        "0.0.0.0": head,
        "bob-gateway": gateway.address,
    }
    for name in places.values():
        (folder / name).mkdir(parents=True)
    for file in files_for(model, builders.secrets("bob"), hosts_of(model)[0]):
        if file.secret:
            (folder / "secrets" / Path(file.path).name).write_text(file.content)
        elif file.path == str(node_paths.COORDINATOR_CONFIG):
            (folder / "coordinator.json").write_text(relocate(file.content, folder, moved))
        elif file.path == str(node_paths.GATEWAY_CERTIFICATE):
            (folder / "gateway.crt").write_text(file.content)
    with (folder / "coordinator.log").open("ab") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "coordinator", "serve", "--config", str(folder / "coordinator.json")],
            env=dict(os.environ),
            stdout=out,
            stderr=out,
        )
    url = f"http://{head}:{ports.COORDINATOR_OPERATOR_PORT}/healthz"
    wait_for(
        lambda: _answers(url),
        lambda: (folder / "coordinator.log").read_text()[-3000:],
        timeout_s=60,
    )
    return process


def _answers(url: str) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(url, trust_env=False).status_code == 200
    return False
