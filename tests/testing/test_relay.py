"""The relay that makes links slow, lossy, narrow and half-open: real connections through a real process."""

from __future__ import annotations

import json
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from testing.faults import relay as module

RESEND_S = 0.02
PROGRAM = Path(module.__file__).read_text().replace("RESEND_S = 0.2", f"RESEND_S = {RESEND_S}")


class Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        while data := self.request.recv(65536):
            self.request.sendall(data)


class Relay:
    def __init__(self, port: int, settings: Path) -> None:
        self.port, self._settings = port, settings

    def set(self, **values: float | str) -> None:
        draft = self._settings.with_suffix(".new")
        draft.write_text(json.dumps(values))
        draft.replace(self._settings)
        time.sleep(0.3)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), 5)


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Relay]:
    settings = tmp_path / "settings.json"
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo) as echo:
        echo.daemon_threads = True
        threading.Thread(target=echo.serve_forever, daemon=True).start()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        program = PROGRAM.replace('Path("/tmp/settings.json")', f"Path({str(settings)!r})")
        command = [sys.executable, "-I", "-c", program, str(port), f"127.0.0.1:{echo.server_address[1]}"]
        with subprocess.Popen(command) as process:
            made = Relay(port, settings)
            end = time.monotonic() + 20
            while True:
                try:
                    made.connect().close()
                    break
                except OSError:
                    assert time.monotonic() < end, "the relay did not start"
                    time.sleep(0.1)
            yield made
            process.kill()
        echo.shutdown()


def turn(connection: socket.socket, data: bytes = b"hello") -> tuple[bytes, float]:
    """What comes back, and after how many seconds."""
    began, found = time.monotonic(), b""
    connection.sendall(data)
    while len(found) < len(data):
        part = connection.recv(65536)
        assert part, "closed"
        found += part
    return found, time.monotonic() - began


def test_by_itself_it_changes_nothing(relay: Relay) -> None:
    data = bytes(range(256)) * 2000
    with relay.connect() as connection:
        assert turn(connection, data)[0] == data


def test_latency_counts_in_each_direction_and_on_connections_that_stand(relay: Relay) -> None:
    with relay.connect() as connection:
        turn(connection)
        relay.set(delay_s=0.3)
        assert turn(connection)[1] >= 0.6


def test_bandwidth_is_bounded(relay: Relay) -> None:
    relay.set(bytes_per_s=50_000)
    with relay.connect() as connection:
        found, took_s = turn(connection, bytes(40_000))
    assert len(found) == 40_000
    assert took_s >= 0.8


def test_what_is_lost_comes_late_and_whole(relay: Relay) -> None:
    relay.set(loss=1.0)
    with relay.connect() as connection:
        found, took_s = turn(connection)
    assert found == b"hello"
    assert took_s >= 2 * RESEND_S * (2**module.MOST_RESENDS - 1)


def test_a_half_open_connection_stands_and_says_nothing_until_it_is_closed(relay: Relay) -> None:
    with relay.connect() as old:
        turn(old)
        relay.set(mode="deaf")
        with relay.connect() as new:
            for connection in (old, new):
                connection.sendall(b"hello")
                connection.settimeout(0.5)
                with pytest.raises(TimeoutError):
                    connection.recv(10)
            relay.set(mode="pass")
            for connection in (old, new):
                connection.settimeout(5)
                with suppress(ConnectionResetError):
                    assert connection.recv(10) == b""
    with relay.connect() as connection:
        assert turn(connection)[0] == b"hello"


def test_it_answers_a_status_to_whoever_speaks(relay: Relay) -> None:
    relay.set(mode="answer", status=404)
    with relay.connect() as connection:
        connection.sendall(b"GET /consortium-way HTTP/1.0\r\n\r\n")
        assert connection.recv(1000).startswith(b"HTTP/1.1 404 ")
