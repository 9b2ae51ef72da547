"""What one institution's certificate can vouch for decides whom the others let in."""

from __future__ import annotations

import ssl
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509 import verification
from cryptography.x509.oid import NameOID

from consortium import trust
from consortium.trust_checks import ca_problems, gateway_problems, issued_by

NOW = datetime.now(UTC)
CA = trust.make_ca("alice", "demo")
GATEWAY = trust.issue_gateway(CA, "alice", "demo")


def verify(leaf: str, ca: str, name: str, when: datetime = NOW) -> None:
    """As a TLS client does, by a verifier that is not ours."""
    store = verification.Store([x509.load_pem_x509_certificate(ca.encode())])
    builder = verification.PolicyBuilder().store(store).time(when)
    builder.build_server_verifier(x509.DNSName(name)).verify(x509.load_pem_x509_certificate(leaf.encode()), [])


@pytest.mark.parametrize("curve", ["P-256", "P-384"])
def test_the_gateway_s_certificate_verifies_under_its_own_ca_only(curve: trust.Curve) -> None:
    ca = trust.make_ca("alice", "demo", curve=curve)
    leaf = trust.issue_gateway(ca, "alice", "demo").certificate
    verify(leaf, ca.certificate, "alice.demo")
    assert list(ca_problems(ca.certificate, "alice", "demo")) == []
    assert list(gateway_problems(leaf, (CA.certificate, ca.certificate), "alice", "demo")) == []
    with pytest.raises(verification.VerificationError):
        verify(leaf, CA.certificate, "alice.demo")
    with pytest.raises(verification.VerificationError):
        verify(leaf, ca.certificate, "bob.demo")


def test_a_ca_cannot_vouch_for_another_party() -> None:
    forged = trust.issue_gateway(CA, "bob", "demo").certificate
    with pytest.raises(verification.VerificationError):
        verify(forged, CA.certificate, "bob.demo")
    assert "vouch for bob.demo, only for alice.demo" in " ".join(ca_problems(CA.certificate, "bob", "demo"))


def test_certificates_end_when_they_should_and_say_so() -> None:
    assert 396 <= trust.days_left(GATEWAY.certificate) <= 397
    assert trust.not_after(CA.certificate) > NOW + timedelta(days=3649)
    later = NOW + timedelta(days=398)
    with pytest.raises(verification.VerificationError):
        verify(GATEWAY.certificate, CA.certificate, "alice.demo", later)
    assert any(
        "expired on" in p for p in gateway_problems(GATEWAY.certificate, (CA.certificate,), "alice", "demo", now=later)
    )


def test_a_gateway_certificate_never_outlives_its_ca() -> None:
    old = trust.make_ca("alice", "demo", now=NOW - timedelta(days=trust.CA_DAYS - 10))
    leaf = trust.issue_gateway(old, "alice", "demo").certificate
    assert trust.not_after(leaf) == trust.not_after(old.certificate)


def test_a_rebuilt_ca_certificate_of_the_same_key_verifies_old_and_new_gateways() -> None:
    again = trust.make_ca("alice", "demo", key=CA.key)
    verify(GATEWAY.certificate, again.certificate, "alice.demo")
    verify(trust.issue_gateway(again, "alice", "demo").certificate, CA.certificate, "alice.demo")
    assert trust.key_digest(again.certificate) == trust.key_digest(CA.certificate)
    assert trust.fingerprint(again.certificate) != trust.fingerprint(CA.certificate)


def test_two_gateways_speak_tls_1_3_with_both_sides_verified(tmp_path: Path) -> None:
    bob = trust.make_ca("bob", "demo")
    files = {}
    for name, ca in (("alice", CA), ("bob", bob)):
        leaf = trust.issue_gateway(ca, name, "demo")
        files[name] = tmp_path / name
        files[name].write_text(leaf.certificate + leaf.key)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(files["alice"])
    server.verify_mode = ssl.CERT_REQUIRED
    server.load_verify_locations(cadata=bob.certificate)
    client = ssl.create_default_context(cadata=CA.certificate)
    client.load_cert_chain(files["bob"])
    a, b, c, d = (ssl.MemoryBIO() for _ in range(4))
    ends = [client.wrap_bio(a, b, server_hostname="alice.demo"), server.wrap_bio(c, d, server_side=True)]
    for _ in range(6):
        for end, source, sink in ((ends[0], b, c), (ends[1], d, a)):
            with suppress(ssl.SSLWantReadError):
                end.do_handshake()
            sink.write(source.read())
    assert ends[1].version() == "TLSv1.3"
    assert ends[1].getpeercert()["subjectAltName"] == (("DNS", "bob.demo"),)  # type: ignore[index]


def custom(*, ca: bool = True, key: object = None, name: bool = True, sign: bool = True, issuer: str = "x") -> str:
    private = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")] if name else [])
    parent = subject if issuer == "x" else x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)])
    usage = dict.fromkeys(
        ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
         "crl_sign", "encipher_only", "decipher_only"), False,
    )  # fmt: skip
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(parent)
        .public_key(private.public_key())  # type: ignore[attr-defined]
        .serial_number(7)
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(key_cert_sign=sign, **usage), critical=True)
        .sign(private, hashes.SHA256())  # type: ignore[arg-type]
        .public_bytes(serialization.Encoding.PEM)
        .decode()
    )


@pytest.mark.parametrize(
    ("pem", "said"),
    [
        (custom(ca=False), "is not a CA"),
        (custom(sign=False), "may not sign certificates"),
        (custom(name=False), "no common name"),
        (custom(issuer="y"), "not signed by itself"),
        (custom(key=rsa.generate_private_key(65537, 2048)), "neither EC P-256 nor P-384"),
        (custom(key=ec.generate_private_key(ec.SECP521R1())), "neither EC P-256 nor P-384"),
        (CA.certificate * 2, "holds 2 certificates"),
        (CA.key, "holds a private key"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "not a certificate"),
        ("", "not a certificate"),
    ],
)
def test_what_cannot_be_a_party_s_ca_says_why(pem: str, said: str) -> None:
    assert any(said in problem for problem in ca_problems(pem, "alice", "demo"))


def test_an_own_ca_without_name_constraints_is_accepted() -> None:
    assert list(ca_problems(custom(), "alice", "demo")) == []


@pytest.mark.parametrize(
    ("pem", "said"),
    [
        (CA.certificate, "is for nobody, not for alice.demo"),
        (CA.certificate, "server and client authentication"),
        (trust.issue_gateway(CA, "bob", "demo").certificate, "is for bob.demo, not for alice.demo"),
        ("", "not a certificate"),
    ],
)
def test_what_cannot_be_a_gateway_certificate_says_why(pem: str, said: str) -> None:
    assert any(said in problem for problem in gateway_problems(pem, ("nonsense", CA.certificate), "alice", "demo"))


def test_keys_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(ValueError, match="does not belong"):
        trust.issue_gateway(trust.KeyPair(CA.certificate, trust.make_ca("alice", "demo").key), "alice", "demo")
    with pytest.raises(ValueError, match="not an EC key"):
        trust.issue_gateway(trust.KeyPair(CA.certificate, trust.make_signing_key().private), "alice", "demo")


def test_signing_keys_and_tokens() -> None:
    key = trust.make_signing_key()
    assert trust.signing_public_key(key.private) == key.public
    trust.load_signing_public_key(key.public)
    with pytest.raises(ValueError, match="not an ed25519"):
        trust.signing_public_key(CA.key)
    assert len({trust.new_token() for _ in range(50)}) == 50
    assert len(trust.new_token()) >= 43


def test_who_issued_a_certificate_is_told_from_pem_too() -> None:
    other = trust.make_ca("alice", "demo")
    assert issued_by(GATEWAY.certificate, CA.certificate)
    assert issued_by(x509.load_pem_x509_certificate(GATEWAY.certificate.encode()), CA.certificate)
    assert not issued_by(GATEWAY.certificate, other.certificate)
    assert not issued_by("no certificate", CA.certificate)
    assert trust.private_key_digest(CA.key) == trust.key_digest(CA.certificate) != trust.key_digest(other.certificate)


def test_no_private_key_shows_in_a_repr() -> None:
    assert "PRIVATE" not in repr(CA) + repr(trust.make_signing_key())
