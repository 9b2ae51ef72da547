"""Everything that is not the right peer is turned away before anything inside hears of it."""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from consortium import ports, trust
from consortium.render import render
from tests import builders
from tests.gateway.conftest import Gateway, connect
from tests.gateway.loopback_gateways import wait_for

FED = "fed-0.alice.bob.demo"
COORDINATOR = "coordinator.alice.bob.demo"


def pair(ca: trust.KeyPair, name: str) -> trust.KeyPair:
    return trust.issue_gateway(ca, name, builders.CONSORTIUM)


def unconstrained_ca(name: str) -> trust.KeyPair:
    """A party's CA as a hostile party would make it: nothing in it limits for whom it vouches."""
    from cryptography import x509

    kept = x509.CertificateBuilder.add_extension

    def skip_constraint(self: x509.CertificateBuilder, extension: x509.ExtensionType, critical: bool) -> object:
        return self if isinstance(extension, x509.NameConstraints) else kept(self, extension, critical)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(x509.CertificateBuilder, "add_extension", skip_constraint)
        return trust.make_ca(name, builders.CONSORTIUM)


def context(folder: Path, certificate: trust.KeyPair | None) -> ssl.SSLContext:
    made = ssl.create_default_context(cadata=builders.authority("bob").certificate)
    made.check_hostname = False  # the name asked for is a service; the certificate's is the party
    if certificate:
        chain = folder / "chain.pem"
        chain.write_text(certificate.certificate + certificate.key)
        made.load_cert_chain(chain)
    return made


def exchange(gateway: Gateway, tls: ssl.SSLContext, name: str | None, payload: bytes = b"hello") -> bytes:
    """What comes back, empty when the connection is closed. With TLS 1.3 a client learns only then of its refusal."""
    try:
        with (
            connect(gateway.address, ports.GATEWAY_PUBLIC_PORT) as plain,
            tls.wrap_socket(plain, server_hostname=name) as secure,
        ):
            secure.sendall(payload)
            return secure.recv(65536)
    except (ssl.SSLError, ConnectionError):
        return b""


def right(folder: Path) -> ssl.SSLContext:
    return context(folder, pair(builders.authority("alice"), "alice"))


def no_certificate(folder: Path) -> ssl.SSLContext:
    return context(folder, None)


def unknown_ca(folder: Path) -> ssl.SSLContext:
    return context(folder, pair(trust.make_ca("alice", builders.CONSORTIUM), "alice"))


def other_partys_certificate(folder: Path) -> ssl.SSLContext:
    return context(folder, pair(builders.authority("carol"), "carol"))


def other_partys_ca_vouching_for_alice(folder: Path) -> ssl.SSLContext:
    return context(folder, pair(builders.authority("carol"), "alice"))


def old_tls(folder: Path) -> ssl.SSLContext:
    made = right(folder)
    made.maximum_version = ssl.TLSVersion.TLSv1_2
    return made


def test_the_probe_itself_can_succeed(bob: Gateway, tmp_path: Path) -> None:
    assert exchange(bob, right(tmp_path), FED) == b"hello"


@pytest.mark.parametrize(
    "client", [no_certificate, unknown_ca, other_partys_certificate, other_partys_ca_vouching_for_alice, old_tls]
)
def test_the_wrong_client_is_closed_out_logged_and_unheard_inside(
    bob: Gateway, tmp_path: Path, client: Callable[[Path], ssl.SSLContext]
) -> None:
    before, lines = bob.fed.connections, len(bob.log)
    assert exchange(bob, client(tmp_path), FED) == b""
    logged = bob.log[lines:]
    assert [line["service"] for line in logged] == ["rejected"], logged
    assert logged[0]["sni"] == FED
    assert logged[0]["failure"]
    assert bob.fed.connections == before


@pytest.mark.parametrize(
    "name",
    [
        "fed-0.carol.bob.demo",  # the service of another peer: its chain trusts carol's CA only
        "fed-0.bob.alice.demo",  # the right words in the wrong order
        "fed-1.alice.bob.demo",  # a slot that does not exist
        "fed-0.alice.bob.other",
        "bob.demo",
        None,
    ],
)
def test_the_right_peer_under_a_wrong_name_is_closed_out_and_logged(
    bob: Gateway, tmp_path: Path, name: str | None
) -> None:
    before, lines = bob.fed.connections, len(bob.log)
    assert exchange(bob, right(tmp_path), name) == b""
    logged = bob.log[lines:]
    assert [(line["service"], line["sni"]) for line in logged] == [("rejected", name)], logged
    assert bob.fed.connections == before


def test_a_peers_ca_cannot_vouch_for_another_name(bob: Gateway, tmp_path: Path) -> None:
    """A hostile CA carries no name constraint, so the name that the chain pins must do it alone."""
    ca = unconstrained_ca("alice")
    before = (bob.folder / "sds/peer-alice.yaml").read_text()
    trusted = {"secret": "peer-alice", "ca_certificates": [ca.certificate]}
    bob.lay("sds/peer-alice.yaml", render("etc/consortium/gateway/sds/peer.yaml.j2", {"peer": trusted}))
    try:
        wait_for(lambda: exchange(bob, context(tmp_path, pair(ca, "alice")), FED) == b"hello")
        lines = len(bob.log)
        assert exchange(bob, context(tmp_path, pair(ca, "carol")), FED) == b""
        assert "SAN" in bob.log[lines:][0]["failure"]
    finally:
        bob.lay("sds/peer-alice.yaml", before)
        wait_for(lambda: exchange(bob, right(tmp_path), FED) == b"hello")


def test_plaintext_is_closed_and_logged(bob: Gateway) -> None:
    lines = len(bob.log)
    with connect(bob.address, ports.GATEWAY_PUBLIC_PORT) as connection:
        connection.sendall(b"GET /peer/ HTTP/1.1\r\nhost: x\r\n\r\n")
        assert received(connection) == b""
    assert [line["service"] for line in bob.log[lines:]] == ["rejected"]


def received(connection: socket.socket) -> bytes:
    try:
        return connection.recv(1000)
    except ConnectionError:
        return b""


@pytest.mark.parametrize(
    "forged",
    [
        {"x-consortium-party": "carol"},
        {"X-CONSORTIUM-PARTY": "carol", "X-Consortium-Gateway-Token": "guess"},
        {"x-consortium-anything-else": "1"},
    ],
)
def test_a_peer_cannot_choose_who_it_is(bob: Gateway, tmp_path: Path, forged: dict[str, str]) -> None:
    status, body = request(bob, right(tmp_path), "/peer/v1/hello", forged)
    assert status == 200
    ours = [line for line in body.splitlines() if "x-consortium" in line.lower()]
    assert "carol" not in body
    assert "guess" not in body
    assert "anything-else" not in body
    assert len(ours) == 1  # the whole answer is one line of JSON
    assert '["x-consortium-party", "alice"]' in body
    assert '["x-consortium-gateway-token", "gateway-token-of-bob"]' in body


def test_an_underscore_does_not_make_a_header_another(bob: Gateway, tmp_path: Path) -> None:
    assert request(bob, right(tmp_path), "/peer/v1/hello", {"x_consortium_party": "carol"})[0] == 400


def request(gateway: Gateway, tls: ssl.SSLContext, path: str, headers: dict[str, str]) -> tuple[int, str]:
    with (
        connect(gateway.address, ports.GATEWAY_PUBLIC_PORT) as plain,
        tls.wrap_socket(plain, server_hostname=COORDINATOR) as secure,
    ):
        connection = http.client.HTTPConnection("peer")
        connection.sock = secure
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
