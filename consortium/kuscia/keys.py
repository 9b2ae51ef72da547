"""The keys of a Kuscia node. Its one RSA key is node key and CA in one; all else follows from it, unasked.

A node whose `kuscia.yaml` holds the key makes these same things for itself: certificate of the domain (any certificate
of that key will do for a peer, who reads only the public key in it), CA of KusciaAPI, and the token of KusciaAPI. So
nothing has to be copied out of a running node.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from consortium.trust import BACKDATE, KeyPair, key_usage
from consortium.trust_checks import PARSE_ERRORS, single

KEY_BITS = 2048
"""What Kuscia makes for its own keys."""
DOMAIN_DAYS = 3650
CLIENT_DAYS = 397
TOKEN_LENGTH = 32
"""Characters of the signature that are the token."""


@dataclass(frozen=True)
class Domain:
    """A party's key and the certificate that its peers get. The key is PKCS#1, the only form the node reads."""

    party: str
    certificate: str
    key: str = field(repr=False)


def make_domain(party: str, *, now: datetime | None = None) -> Domain:
    """A new key for a party's node, with its certificate for 10 years."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)
    return domain(party, _pem(key), now=now)


def domain(party: str, key: str, *, now: datetime | None = None) -> Domain:
    """The party's domain with a key that is there. ValueError if it is no RSA key of at least 2048 bits."""
    private, now = _load(key), now or datetime.now(UTC)
    name = _name(party)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(1)
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + timedelta(days=DOMAIN_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(key_usage(data=True, certificates=True), critical=True)
        .sign(private, hashes.SHA256())
    )
    return Domain(party, certificate.public_bytes(serialization.Encoding.PEM).decode(), _pem(private))


def issue_client(own: Domain, *, now: datetime | None = None) -> KeyPair:
    """Key and certificate with which the operator's tools speak to the node's KusciaAPI."""
    ca, now = _load(own.key), now or datetime.now(UTC)
    key = rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(_name("consortium"))
        .issuer_name(_name(own.party))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + timedelta(days=CLIENT_DAYS))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(key_usage(data=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .sign(ca, hashes.SHA256())
    )
    return KeyPair(certificate.public_bytes(serialization.Encoding.PEM).decode(), _pem(key))


def api_token(own: Domain) -> str:
    """The token that the node asks of callers of KusciaAPI: the beginning of its signature of its own name."""
    signature = _load(own.key).sign(own.party.encode(), padding.PKCS1v15(), hashes.SHA256())
    return base64.b64encode(signature).decode()[:TOKEN_LENGTH]


def encoded(pem: str) -> str:
    """PEM the way Kuscia's files and objects carry it: base64 once more."""
    return base64.b64encode(pem.encode()).decode()


def public_key_problem(certificate: str) -> str:
    """What keeps a peer's certificate from being used, as the end of a sentence; empty if nothing does."""
    found = single(certificate)
    if isinstance(found, str):
        return found
    try:
        key = found.public_key()
    except PARSE_ERRORS as error:
        return f"cannot be read: {error}"
    if not isinstance(key, rsa.RSAPublicKey):
        return "has no RSA key, and Kuscia knows no other"
    return "" if key.key_size >= KEY_BITS else f"has a key of {key.key_size} bits, fewer than {KEY_BITS}"


def _load(key: str) -> rsa.RSAPrivateKey:
    private = serialization.load_pem_private_key(key.encode(), password=None)
    if not isinstance(private, rsa.RSAPrivateKey) or private.key_size < KEY_BITS:
        raise ValueError(f"the key of a Kuscia node must be RSA with at least {KEY_BITS} bits")
    return private


def _pem(key: rsa.RSAPrivateKey) -> str:
    form = serialization.PrivateFormat.TraditionalOpenSSL
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])
