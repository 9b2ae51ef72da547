"""Certificates, keys and tokens of one institution, made by the institution itself.

Every party is its own CA. Its name constraint lets the CA vouch for `<party>.<consortium>` only, so
that a peer that trusts it trusts it for nobody else. Functions return PEM text and write nothing:
secrets go from here into Pulumi's encrypted configuration.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CA_DAYS = 3650
GATEWAY_DAYS = 397
BACKDATE = timedelta(hours=1)
"""A certificate must be valid at a peer whose clock is a little behind."""

Curve = Literal["P-256", "P-384"]
_CURVES: dict[str, ec.EllipticCurve] = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1()}


@dataclass(frozen=True)
class KeyPair:
    """A certificate and its private key, both PEM."""

    certificate: str
    key: str = field(repr=False)


@dataclass(frozen=True)
class SigningKey:
    """An ed25519 pair: the private key as PKCS8 PEM, the public key as base64 of its 32 bytes."""

    private: str = field(repr=False)
    public: str


def server_name(party: str, consortium: str) -> str:
    """The one name a party's gateway has: `<party>.<consortium>`."""
    return f"{party}.{consortium}"


def make_ca(
    party: str,
    consortium: str,
    *,
    now: datetime | None = None,
    curve: Curve = "P-256",
    key: str | None = None,
) -> KeyPair:
    """A self-signed CA for 10 years that can vouch for this party's gateway and nothing else.

    With `key` (PEM) the certificate is for that key in place of a new one. ValueError if it is no EC key.
    """
    now = now or datetime.now(UTC)
    private = _load_ec(key) if key else ec.generate_private_key(_CURVES[curve])
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, consortium),
            x509.NameAttribute(NameOID.COMMON_NAME, f"{server_name(party, consortium)} CA"),
        ]
    )
    constraint = x509.NameConstraints([x509.DNSName(server_name(party, consortium))], None)
    identifier = x509.SubjectKeyIdentifier.from_public_key(private.public_key())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + timedelta(days=CA_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(key_usage(certificates=True, revocations=True), critical=True)
        .add_extension(constraint, critical=True)
        .add_extension(identifier, critical=False)
        .sign(private, hashes.SHA256())
    )
    return KeyPair(_pem(certificate), _private_pem(private))


def issue_gateway(ca: KeyPair, party: str, consortium: str, *, now: datetime | None = None) -> KeyPair:
    """A new key and certificate for the party's gateway, valid for 397 days as client and server.

    Raises ValueError if the CA's key is not the one of its certificate.
    """
    now = now or datetime.now(UTC)
    issuer = _load(ca.certificate)
    ca_key = _load_ec(ca.key)
    if ca_key.public_key() != issuer.public_key():
        raise ValueError("the CA's private key does not belong to its certificate")
    key = ec.generate_private_key(ec.SECP256R1())
    name = server_name(party, consortium)
    # A certificate that outlives its CA would fail without anybody having been warned of its own
    # date.
    end = min(now + timedelta(days=GATEWAY_DAYS), issuer.not_valid_after_utc)
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(key_usage(data=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    return KeyPair(_pem(certificate), _private_pem(key))


def make_signing_key() -> SigningKey:
    """A new ed25519 key for approvals, outcomes and audit records."""
    key = Ed25519PrivateKey.generate()
    return SigningKey(_private_pem(key), _raw_public(key.public_key()))


def signing_public_key(private_pem: str) -> str:
    """Base64 of the public half of an ed25519 private key in PEM. ValueError if it is none."""
    key = serialization.load_pem_private_key(private_pem.encode(), password=None)
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError(  # noqa: TRY004 what is wrong is the text we were given
            "not an ed25519 private key"
        )
    return _raw_public(key.public_key())


def load_signing_public_key(text: str) -> Ed25519PublicKey:
    """The key behind a party file's `signing_key`. Raises ValueError with the reason."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("must be base64 of a raw ed25519 public key") from None
    if len(raw) != 32:
        raise ValueError(f"must be base64 of 32 bytes, a raw ed25519 public key; these are {len(raw)}")
    return Ed25519PublicKey.from_public_bytes(raw)


def new_token() -> str:
    """A bearer token with 256 bits of randomness."""
    return secrets.token_urlsafe(32)


def fingerprint(certificate: str) -> str:
    """SHA-256 of the certificate, the way two operators read it to one another over the telephone."""
    return _load(certificate).fingerprint(hashes.SHA256()).hex(":").upper()


def key_digest(certificate: str) -> str:
    """SHA-256 of the public key: equal for two certificates of one key."""
    return _public_digest(_load(certificate).public_key())


def private_key_digest(key: str) -> str:
    """The same for the public half of an EC private key in PEM. ValueError if it is none."""
    return _public_digest(_load_ec(key).public_key())


def not_after(certificate: str) -> datetime:
    """When the (first) certificate ends, in UTC. ValueError if there is none."""
    return _load(certificate).not_valid_after_utc


def days_left(certificate: str, now: datetime | None = None) -> int:
    """Whole days until the certificate ends; negative when it has."""
    return (not_after(certificate) - (now or datetime.now(UTC))).days


def _public_digest(public: CertificatePublicKeyTypes) -> str:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return hashlib.sha256(public.public_bytes(serialization.Encoding.DER, form)).hexdigest()


def _load_ec(pem: str) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(pem.encode(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("the CA's private key is not an EC key")  # noqa: TRY004 the text is wrong, not a type
    return key


def _load(pem: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem.encode())


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _private_pem(key: ec.EllipticCurvePrivateKey | Ed25519PrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


def _raw_public(key: Ed25519PublicKey) -> str:
    return base64.b64encode(key.public_bytes_raw()).decode()


def key_usage(*, data: bool = False, certificates: bool = False, revocations: bool = False) -> x509.KeyUsage:
    """What a key may sign, and nothing else. `data`: what TLS and statements need (RFC 5280, 4.2.1.3)."""
    return x509.KeyUsage(
        digital_signature=data,
        key_cert_sign=certificates,
        crl_sign=revocations,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
