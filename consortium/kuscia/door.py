"""A way from this machine to a KusciaAPI that no port of the outside leads to.

Each connection to a port of this machine's loopback goes on through a program that stands where the node is reached: in
the head's container, or over SSH on its host. Nothing is published for it, and mutual TLS goes through from end to end.
"""

from __future__ import annotations

import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlsplit

import docker
import docker.errors
import requests

from consortium import engine_socket, ssh
from consortium.errors import Unreachable
from consortium.ssh import Target

_PIECE = 65536
_HEADER = 8
_ERRORS = 2
_USER = "nobody"
_RELAY = """
import os, socket, sys, threading
far = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=10)
far.settimeout(None)
def there():
    while piece := os.read(0, 65536):
        far.sendall(piece)
    far.shutdown(socket.SHUT_WR)
threading.Thread(target=there, daemon=True).start()
while piece := far.recv(65536):
    sys.stdout.buffer.write(piece)
    sys.stdout.buffer.flush()
"""


@dataclass(frozen=True)
class Way:
    """Where to begin: a container of an engine, or a host; neither: the address is reached from here."""

    engine: str = ""
    container: str = ""
    target: Mapping[str, Any] = field(default_factory=dict)
    """ssh.Target.as_props()."""
    ssh_key: str = field(default="", repr=False)


class Stream(Protocol):
    """One connection on the far side. `receive` gives nothing at its end."""

    def receive(self) -> bytes: ...

    def send(self, data: bytes) -> None: ...

    def finish(self) -> None:
        """Nothing more will be sent."""

    def close(self) -> None: ...


@contextmanager
def door(way: Way, url: str) -> Iterator[str]:
    """`url` as it is reached from here while the context is open.

    Raises Unreachable with what the far side said, where something in the context failed and the far side said why.
    """
    parts = urlsplit(url)
    if not (way.engine or way.target):
        yield url
        return
    said: list[str] = []
    far = _container if way.engine else _host
    with far(way, str(parts.hostname), parts.port or 443, said) as connect, _listening(connect, said) as port:
        try:
            yield f"{parts.scheme}://127.0.0.1:{port}"
        except Exception as error:
            if not said:
                raise
            raise Unreachable("there is no way to the Kuscia node", where=url, value=said[-1]) from error


@contextmanager
def _container(way: Way, host: str, port: int, said: list[str]) -> Iterator[Callable[[], Stream]]:
    try:
        with engine_socket.local(way.engine) as address, closing(docker.DockerClient(base_url=address)) as client:
            yield lambda: _Exec(client, way.container, host, port, said)
    except (docker.errors.DockerException, requests.RequestException) as error:
        raise Unreachable("the container engine does not answer", where=way.engine, value=str(error)) from error


@contextmanager
def _host(way: Way, host: str, port: int, said: list[str]) -> Iterator[Callable[[], Stream]]:
    target = Target.from_props(way.target)
    with ssh.access(way.ssh_key, [target]) as folder:
        yield lambda: _Ssh(ssh.command(folder, target, "-W", f"{host}:{port}"), said)


class _Exec:
    """A relay in a container. Docker puts eight bytes before each piece: which of its outputs, and its length."""

    def __init__(self, client: docker.DockerClient, container: str, host: str, port: int, said: list[str]) -> None:
        command = ["/usr/bin/python3", "-I", "-c", _RELAY, host, str(port)]
        made = client.api.exec_create(container, command, stdin=True, user=_USER)
        answer: Any = client.api.exec_start(made["Id"], socket=True)
        self._said, self._answer = said, answer
        # docker-py gives the socket itself, or what it has made of it.
        self._socket: Any = getattr(answer, "_sock", answer)
        self._socket.settimeout(None)

    def receive(self) -> bytes:
        while header := self._exactly(_HEADER):
            kind, length = struct.unpack(">BxxxL", header)
            piece = self._exactly(length)
            if kind != _ERRORS:
                return piece
            self._said.append(piece.decode(errors="replace").strip()[-500:])
        return b""

    def _exactly(self, length: int) -> bytes:
        found = b""
        while len(found) < length and (piece := self._socket.recv(length - len(found))):
            found += piece
        return found if len(found) == length else b""

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def finish(self) -> None:
        self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        _hang_up(self._socket)
        self._answer.close()


class _Ssh:
    """`ssh -W`, which connects on the host and passes on what it hears."""

    def __init__(self, command: list[str], said: list[str]) -> None:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0)
        self._said = said

    def receive(self) -> bytes:
        assert self._process.stdout
        assert self._process.stderr
        piece = self._process.stdout.read(_PIECE)
        if not piece and (words := self._process.stderr.read()):
            self._said.append(words.decode(errors="replace").strip()[-500:])
        return piece or b""

    def send(self, data: bytes) -> None:
        assert self._process.stdin
        self._process.stdin.write(data)

    def finish(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


@contextmanager
def _listening(connect: Callable[[], Stream], said: list[str]) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener, ExitStack() as streams:
        threading.Thread(target=_accept, args=(listener, connect, streams, said), daemon=True).start()
        try:
            yield int(listener.getsockname()[1])
        finally:
            listener.shutdown(socket.SHUT_RDWR)


def _accept(listener: socket.socket, connect: Callable[[], Stream], streams: ExitStack, said: list[str]) -> None:
    while True:
        try:
            near, _ = listener.accept()
        except OSError:  # the door is shut
            return
        try:
            far = connect()
        except (docker.errors.DockerException, requests.RequestException, OSError) as error:
            said.append(str(error))
            near.close()
            continue
        streams.callback(_hang_up, near)
        streams.callback(far.close)
        threading.Thread(target=_there, args=(near, far), daemon=True).start()
        threading.Thread(target=_back, args=(near, far), daemon=True).start()


def _hang_up(connection: socket.socket) -> None:
    """Shut, then closed: a thread that still reads would keep a closed one open, and the far side would never end."""
    with suppress(OSError):  # the other side was first
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()


def _there(near: socket.socket, far: Stream) -> None:
    with suppress(OSError, ValueError):  # either side has closed
        while piece := near.recv(_PIECE):
            far.send(piece)
        far.finish()


def _back(near: socket.socket, far: Stream) -> None:
    with suppress(OSError, ValueError):
        while piece := far.receive():
            near.sendall(piece)
    with suppress(OSError):
        near.shutdown(socket.SHUT_RDWR)
