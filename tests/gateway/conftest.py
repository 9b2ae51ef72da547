"""Two real gateways on loopback, each in front of a stand-in for its party's head."""

from __future__ import annotations

import contextlib
import json
import socket
import socketserver
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from consortium import ports
from consortium.spec import Model
from tests import builders
from tests.gateway import loopback_gateways as loopback


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
class Gateway(loopback.Gateway):
    """A gateway, and behind it what stands for the head."""

    servers: list[Any] = field(default_factory=list)

    @property
    def fed(self) -> EchoServer:
        found: EchoServer = self.servers[0]
        return found

    def stop(self) -> None:
        super().stop()
        for server in self.servers:
            server.shutdown()
            server.server_close()


def start(server: Any) -> Any:
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    return server


def run(party: str, model: Model, folder: Path, addresses: dict[str, str]) -> Gateway:
    head = addresses[f"{party}-head"]
    fed = start(EchoServer((head, ports.fed_port(0)), Echo))
    http = [start(ThreadingHTTPServer((head, port), Coordinator)) for port in (8080, 8081)]
    gateway = Gateway(party, addresses[party], head, folder, servers=[fed, *http])
    loopback.lay_all(gateway, model, builders.secrets(party), addresses)
    gateway.start()
    return gateway


@pytest.fixture(scope="session")
def addresses() -> dict[str, str]:
    """Name → loopback address; carol is a member without a running gateway."""
    return loopback.loopback_addresses(("alice", "alice-head", "bob", "bob-head", "carol"))


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
