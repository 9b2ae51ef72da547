"""The way to a KusciaAPI that nobody publishes: through a container of a real engine, or a real host over SSH."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

import docker
import httpx
import pytest
from docker.models.containers import Container

from consortium.base_image import DEFAULT_BASE, ensure_base
from consortium.errors import Unreachable
from consortium.kuscia.door import Way, door
from coordinator.kuscia.channel import tls
from tests.kuscia.kuscia_builders import domain
from tests.kuscia.tls_files import TlsFiles, tls_files

pytestmark = pytest.mark.docker

ENGINE = "unix:///var/run/docker.sock"
URL = "https://alice-kuscia:8082"
SERVER = """
import http.server, ssl
class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))[::-1]
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile="/tls/ca")
context.load_cert_chain("/tls/server_certificate", "/tls/server_key"); context.verify_mode = ssl.CERT_REQUIRED
server = http.server.ThreadingHTTPServer(("0.0.0.0", 8082), Answer)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""
"""It turns a body round, for who shows a certificate of the node's CA."""


@dataclass(frozen=True)
class Inside:
    """A node and a head beside it, on a network that leads nowhere."""

    head: Container
    node: Container
    files: TlsFiles

    @property
    def way(self) -> Way:
        return Way(engine=ENGINE, container=str(self.head.id))


@pytest.fixture(scope="module")
def inside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    client = docker.from_env()
    base = ensure_base(client, DEFAULT_BASE, None, print)
    files = tls_files(domain("alice"), tmp_path_factory.mktemp("tls"))
    files.ca.parent.chmod(0o755)
    name = f"consortium-door-{uuid.uuid4().hex[:8]}"
    network = client.networks.create(name, internal=True)
    made: list[Container] = []
    try:
        common = {"network": name, "detach": True, "init": True}
        mounts = {str(files.ca.parent): {"bind": "/tls", "mode": "ro"}}
        node = client.containers.run(
            base, ["python3", "-c", SERVER], name=f"{name}-node", hostname="alice-kuscia", volumes=mounts, **common
        )
        made.append(node)
        network.disconnect(node)
        network.connect(node, aliases=["alice-kuscia"])
        made.append(client.containers.run(base, ["sleep", "600"], name=f"{name}-head", **common))
        listens = "import socket; socket.create_connection(('127.0.0.1', 8082)).close()"
        assert soon(lambda: node.exec_run(["python3", "-c", listens])[0] == 0), node.logs()
        yield Inside(made[1], node, files)
    finally:
        for container in made:
            container.remove(force=True)
        network.remove()
        client.close()


def asking(files: TlsFiles, url: str) -> httpx.Client:
    context = tls(files.ca, files.certificate, files.key)
    return httpx.Client(base_url=url, verify=context, timeout=20, trust_env=False)


def test_mutual_tls_goes_through_and_large_bodies_stay_whole(inside: Inside) -> None:
    with door(inside.way, URL) as url, asking(inside.files, url) as client:
        assert url.startswith("https://127.0.0.1:")
        for body in (b"ab", bytes(range(256)) * 8000, b"again"):
            assert client.post("/", content=body).content == body[::-1]


def test_several_connections_at_a_time_are_kept_apart(inside: Inside) -> None:
    def ask(number: int) -> bool:
        with asking(inside.files, url) as client:
            return client.post("/", content=b"%05d" % number).content == (b"%05d" % number)[::-1]

    with door(inside.way, URL) as url, ThreadPoolExecutor(4) as pool:
        assert all(pool.map(ask, range(8)))


def test_a_door_is_shut_again_and_leaves_nothing_in_the_container(inside: Inside) -> None:
    with door(inside.way, URL) as url, asking(inside.files, url) as client:
        client.post("/", content=b"x")
        assert relays(inside.head) == 1
    with pytest.raises(httpx.ConnectError), asking(inside.files, url) as client:
        client.post("/", content=b"x")
    assert soon(lambda: relays(inside.head) == 0)


def test_a_door_is_shut_before_those_who_went_through_have_left(inside: Inside) -> None:
    with ExitStack() as later:
        with door(inside.way, URL) as url:
            client = later.enter_context(asking(inside.files, url))
            client.post("/", content=b"x")
            assert relays(inside.head) == 1
        with pytest.raises(httpx.TransportError):
            client.post("/", content=b"x")
        assert soon(lambda: relays(inside.head) == 0)


def relays(head: Container) -> int:
    return sum("python3" in process[-1] for process in head.top()["Processes"])


def soon(true: Callable[[], bool]) -> bool:
    end = time.monotonic() + 20
    while not (found := true()) and time.monotonic() < end:
        time.sleep(0.1)
    return found


def test_who_is_not_there_is_named_with_what_the_far_side_said(inside: Inside) -> None:
    closed = "https://alice-kuscia:9"
    with pytest.raises(Unreachable) as caught, door(inside.way, closed) as url, asking(inside.files, url) as client:
        client.post("/", content=b"x")
    assert "no way to the Kuscia node" in str(caught.value)
    assert "refused" in str(caught.value)


def test_a_container_that_is_gone_is_named(inside: Inside) -> None:
    gone = Way(engine=ENGINE, container="f" * 64)
    with pytest.raises(Unreachable) as caught, door(gone, URL) as url, asking(inside.files, url) as client:
        client.post("/", content=b"x")
    assert "f" * 64 in str(caught.value)


def test_without_a_way_the_address_is_reached_from_here() -> None:
    with door(Way(), URL) as url:
        assert url == URL
