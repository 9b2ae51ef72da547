"""What follows from a node's one key must be what the node itself makes of it."""

from __future__ import annotations

import base64
import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

from consortium import trust
from consortium.kuscia import keys
from tests.kuscia.kuscia_builders import domain


def test_the_key_is_in_the_only_form_the_node_reads() -> None:
    assert domain("alice").key.startswith("-----BEGIN RSA PRIVATE KEY-----")
    assert base64.b64decode(keys.encoded(domain("alice").key)).decode() == domain("alice").key


def test_the_key_is_not_shown() -> None:
    assert "PRIVATE" not in repr(domain("alice"))


def test_a_certificate_made_anew_from_the_key_has_the_same_public_key() -> None:
    own = domain("alice")
    again = keys.domain("alice", own.key)
    assert trust.key_digest(again.certificate) == trust.key_digest(own.certificate)


def test_the_token_is_the_beginning_of_the_nodes_signature_of_its_name() -> None:
    own = domain("alice")
    token = keys.api_token(own)
    key = serialization.load_pem_private_key(own.key.encode(), None)
    assert isinstance(key, rsa.RSAPrivateKey)
    assert token == base64.b64encode(key.sign(b"alice", padding.PKCS1v15(), hashes.SHA256())).decode()[:32]
    assert token == keys.api_token(own) != keys.api_token(domain("bob"))


def test_a_server_that_trusts_the_nodes_ca_takes_the_client_and_no_other(tmp_path: Path) -> None:
    """The CA is made anew, as the node does when it starts: only key and name are the same."""
    own = domain("alice")
    ca = keys.domain("alice", own.key).certificate
    client = keys.issue_client(own)
    assert _handshake(tmp_path, ca, own, client)
    assert not _handshake(tmp_path, ca, own, keys.issue_client(domain("bob")))


@pytest.mark.parametrize(
    ("certificate", "says"),
    [
        ("nothing", "is not a certificate in PEM"),
        (trust.make_ca("alice", "demo").certificate, "has no RSA key"),
        (domain("alice").certificate, ""),
    ],
)
def test_a_peers_certificate_is_judged(certificate: str, says: str) -> None:
    found = keys.public_key_problem(certificate)
    assert says in found
    assert bool(says) == bool(found)


def test_another_kind_of_key_is_refused() -> None:
    with pytest.raises(ValueError, match="must be RSA"):
        keys.domain("alice", trust.make_signing_key().private)


def test_a_certificate_lasts_and_names_its_party() -> None:
    certificate = x509.load_pem_x509_certificate(domain("alice").certificate.encode())
    assert certificate.subject.rfc4514_string() == "CN=alice"
    assert trust.days_left(domain("alice").certificate) > 3600


def server_certificate(own: keys.Domain) -> str:
    """Key and certificate of KusciaAPI as the node makes them: of its CA, whose key Go names in the certificate."""
    ca = serialization.load_pem_private_key(own.key.encode(), None)
    assert isinstance(ca, rsa.RSAPrivateKey)
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "KusciaAPI")]))
        .issuer_name(x509.load_pem_x509_certificate(own.certificate.encode()).subject)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.public_key()), critical=False)
        .sign(ca, hashes.SHA256())
    )
    form = serialization.PrivateFormat.TraditionalOpenSSL
    secret = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    return certificate.public_bytes(serialization.Encoding.PEM).decode() + secret.decode()


def _handshake(folder: Path, ca: str, server: keys.Domain, client: trust.KeyPair) -> bool:
    """Whether a server with the node's own certificate, asking for one of its CA, takes the client."""
    files = {"ca": ca, "server": server_certificate(server), "client": client.certificate + client.key}
    for name, text in files.items():
        (folder / name).write_text(text)
    inside = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(folder / "ca"))
    inside.load_cert_chain(folder / "server")
    inside.verify_mode = ssl.CERT_REQUIRED
    outside = ssl.create_default_context(cafile=str(folder / "ca"))
    outside.load_cert_chain(folder / "client")
    outside.check_hostname = False  # the node's own name is tested with its KusciaAPI
    with socket.create_server(("127.0.0.1", 0)) as listener:
        taken: list[bool] = []
        thread = threading.Thread(target=_accept, args=(listener, inside, taken))
        thread.start()
        try:
            with (
                socket.create_connection(listener.getsockname(), timeout=10) as raw,
                outside.wrap_socket(raw) as stream,
            ):
                stream.sendall(b"x")
                stream.recv(1)
        except OSError:
            pass
        thread.join(10)
    return taken == [True]


def _accept(listener: socket.socket, context: ssl.SSLContext, taken: list[bool]) -> None:
    raw, _ = listener.accept()
    raw.settimeout(10)
    try:
        with context.wrap_socket(raw, server_side=True) as stream:
            taken.append(stream.recv(1) == b"x")
            stream.sendall(b"y")
    except OSError:
        taken.append(False)
