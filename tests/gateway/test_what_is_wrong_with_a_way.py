"""Faults of the way to a peer, in words: as this machine sees them, and as the own gateway tells its coordinator."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from consortium import ports, trust
from consortium.doctor.finding import Finding
from consortium.doctor.wire import judge, look
from consortium.gateway_view import sni
from coordinator.gateway_words import cause_of
from tests import builders
from tests.gateway.conftest import Gateway
from tests.gateway.test_between_gateways import as_coordinator, outbound

MODEL = builders.model("alice", "bob", "carol")
Serve = Callable[[socket.socket], None]


@contextlib.contextmanager
def listening(address: str, serve: Serve, port: int = 0) -> Iterator[int]:
    """Every connection is given to `serve`, in turn."""
    with socket.create_server((address, port)) as listener:

        def run() -> None:
            while True:
                try:
                    connection = listener.accept()[0]
                except OSError:
                    return
                with connection, contextlib.suppress(OSError):
                    serve(connection)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)


def shows(pair: trust.KeyPair, folder: Path, trusted: str = "", newest: ssl.TLSVersion | None = None) -> Serve:
    """A TLS server with this certificate; `trusted`: the CA it asks a client's certificate of."""
    (folder / "chain.pem").write_text(pair.certificate + pair.key)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(folder / "chain.pem")
    if newest:
        tls.maximum_version = newest
    if trusted:
        tls.load_verify_locations(cadata=trusted)
        tls.verify_mode = ssl.CERT_REQUIRED

    def serve(connection: socket.socket) -> None:
        with tls.wrap_socket(connection, server_side=True) as secured:
            secured.recv(1000)

    return serve


def leaf(party: str, name: str = "", **more: datetime) -> trust.KeyPair:
    return trust.issue_gateway(builders.authority(party), name or party, builders.CONSORTIUM, **more)


def plain(connection: socket.socket) -> None:
    connection.recv(1000)
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")


def closing(connection: socket.socket) -> None:
    connection.recv(1)


def found(address: str, port: int, owner: str = "bob", visitor: str = "alice") -> list[Finding]:
    name = sni("coordinator", visitor, owner, builders.CONSORTIUM)
    return list(judge(look(address, port, name, timeout_s=3), MODEL, owner, visitor))


def test_a_gateway_that_is_right_shows_itself_without_any_key_of_ours(bob: Gateway) -> None:
    seen = found(bob.address, ports.GATEWAY_PUBLIC_PORT)
    assert [(one.check, one.ok) for one in seen] == [("dns", True), ("tcp", True), ("tls", True), ("identity", True)]


def test_a_gateway_that_does_not_know_us_is_named(bob: Gateway) -> None:
    last = found(bob.address, ports.GATEWAY_PUBLIC_PORT, visitor="mallory")[-1]
    assert (last.check, last.ok) == ("tls", False)
    assert "no door for mallory" in last.what
    assert "bob runs `consortium up`" in last.fix


def test_another_partys_gateway_is_not_taken_for_the_peers(alice: Gateway) -> None:
    last = found(alice.address, ports.GATEWAY_PUBLIC_PORT)[-1]
    assert (last.check, last.ok) == ("tls", False)
    assert "another party's gateway" in last.fix


def test_a_name_that_nobody_knows() -> None:
    (only,) = found("no-such-gateway.invalid", 8443)
    assert (only.check, only.ok) == ("dns", False)
    assert "gateway.host in parties/bob.yaml" in only.fix


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    last = found("127.0.0.1", port)[-1]
    assert (last.check, last.ok, "refused" in last.value) == ("tcp", False, True)


@pytest.mark.parametrize(
    ("serve", "words"),
    [
        (plain, "does not speak TLS"),
        (closing, "closes at once"),
        (lambda connection: threading.Event().wait(4), "says nothing"),
    ],
    ids=["plaintext", "closed", "silent"],
)
def test_what_listens_is_no_gateway(serve: Serve, words: str) -> None:
    with listening("127.0.0.1", serve) as port:
        last = found("127.0.0.1", port)[-1]
    assert (last.check, last.ok) == ("tls", False)
    assert words in last.what


LONG_AGO = datetime.now(UTC) - timedelta(days=800)


@pytest.mark.parametrize(
    ("pair", "words"),
    [
        (leaf("alice"), "from alice's CA, not from bob's"),
        (trust.issue_gateway(trust.make_ca("bob", "demo"), "bob", "demo"), "from no CA that parties/bob.yaml names"),
        (leaf("bob", "carol"), "is for carol.demo, not for bob.demo"),
        (leaf("bob", now=LONG_AGO), "expired on"),
    ],
    ids=["own CA in place of the peer's", "stranger's CA", "wrong name", "expired"],
)
def test_a_certificate_that_is_not_the_peers(tmp_path: Path, pair: trust.KeyPair, words: str) -> None:
    with listening("127.0.0.1", shows(pair, tmp_path)) as port:
        last = found("127.0.0.1", port)[-1]
    assert (last.check, last.ok) == ("identity", False)
    assert words in f"{last.what}; {last.value}"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: None, "nobody listens there"),
        (lambda folder: plain, "does not speak TLS"),
        (lambda folder: closing, "closes the connection"),
        (lambda folder: shows(leaf("bob"), folder), "certificate that is not from carol's CA)"),
        (lambda folder: shows(leaf("carol", now=LONG_AGO), folder), "the certificate of carol's gateway has expired"),
        (lambda folder: shows(leaf("carol", "bob"), folder), "not for carol's name"),
        (
            lambda folder: shows(leaf("carol"), folder, trusted=builders.authority("bob").certificate),
            "has another CA for it",
        ),
        (lambda folder: shows(leaf("carol"), folder, newest=ssl.TLSVersion.TLSv1_2), "does not speak TLS 1.3"),
    ],
    ids=["nobody", "plaintext", "closed", "another's CA", "expired", "another's name", "our CA unknown", "TLS 1.2"],
)
def test_the_own_gateways_words_are_told_as_a_cause(
    alice: Gateway, addresses: dict[str, str], tmp_path: Path, make: Callable[[Path], Serve | None], words: str
) -> None:
    serve = make(tmp_path)
    at_carols = listening(addresses["carol"], serve, ports.GATEWAY_PUBLIC_PORT) if serve else contextlib.nullcontext()
    with at_carols:
        connection = http.client.HTTPConnection(*outbound(alice, "carol", "coordinator"), timeout=10)
        try:
            connection.request("GET", "/peer/v1/time", headers=as_coordinator("alice"))
            answer = connection.getresponse()
            said = answer.read().decode()
        finally:
            connection.close()
    assert answer.status == 503
    assert words in cause_of(said, "carol"), said
