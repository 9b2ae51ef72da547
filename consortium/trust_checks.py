"""What is wrong with a certificate, in words an operator can act on. Strangers' certificates pass
through here.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from consortium.trust import server_name

_Extension = TypeVar("_Extension", bound=x509.ExtensionType)
PARSE_ERRORS = (ValueError, UnsupportedAlgorithm, x509.DuplicateExtension, x509.InvalidVersion)
"""What cryptography raises on malformed certificates, extensions and keys."""

_CURVES = ("secp256r1", "secp384r1")


def ca_problems(pem: str, party: str, consortium: str, *, now: datetime | None = None) -> Iterator[str]:
    """Why `pem` cannot be the CA of `party`; nothing when it can."""
    certificate = single(pem)
    if isinstance(certificate, str):
        yield certificate
        return
    try:
        yield from _dates(certificate, now)
        yield from _ca_extensions(certificate, server_name(party, consortium))
        yield from _ca_key(certificate)
        if not certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME):
            yield "has no common name, so nobody can tell whose it is"
    except PARSE_ERRORS as error:
        # Extensions and keys are parsed only when they are asked for.
        yield f"cannot be parsed: {error}"


def gateway_problems(
    pem: str, ca_pems: tuple[str, ...], party: str, consortium: str, *, now: datetime | None = None
) -> Iterator[str]:
    """Why `pem` cannot be the gateway certificate of `party` under any of its CAs."""
    certificate = single(pem)
    if isinstance(certificate, str):
        yield certificate
        return
    try:
        yield from _dates(certificate, now)
        yield from _gateway_extensions(certificate, server_name(party, consortium))
        if not any(issued_by(certificate, ca) for ca in ca_pems):
            yield "is not issued by a CA of the party file"
    except PARSE_ERRORS as error:
        yield f"cannot be parsed: {error}"


def issued_by(certificate: x509.Certificate | str, ca: x509.Certificate | str) -> bool:
    """Whether the CA signed the certificate; each may be PEM, which is nobody's if it cannot be parsed."""
    try:
        signed, signer = (_certificate(one) for one in (certificate, ca))
        signed.verify_directly_issued_by(signer)
    except (*PARSE_ERRORS, TypeError, InvalidSignature):
        return False
    return True


def _certificate(given: x509.Certificate | str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(given.encode()) if isinstance(given, str) else given


def single(pem: str) -> x509.Certificate | str:
    """The one certificate that a text is; else why it is none, as the end of a sentence."""
    if "PRIVATE KEY" in pem:
        return "holds a private key; a party file is public"
    try:
        found = x509.load_pem_x509_certificates(pem.encode())
    except PARSE_ERRORS as error:
        return f"is not a certificate in PEM: {error}"
    if len(found) != 1:
        return f"holds {len(found)} certificates; one entry is one certificate"
    # Envoy reads blocks under other labels (TRUSTED CERTIFICATE) that do not count here: a second CA beside the one
    # whose fingerprint two people compare.
    if pem.split() != found[0].public_bytes(Encoding.PEM).decode().split():
        return "holds more than one certificate in PEM; remove all before, between and after"
    return found[0]


def _dates(certificate: x509.Certificate, now: datetime | None) -> Iterator[str]:
    now = now or datetime.now(UTC)
    if certificate.not_valid_after_utc <= now:
        yield f"expired on {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
    if certificate.not_valid_before_utc > now:
        yield f"is not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"


def _ca_extensions(certificate: x509.Certificate, name: str) -> Iterator[str]:
    basic = _extension(certificate, x509.BasicConstraints)
    if basic is None or not basic.ca:
        yield "is not a CA (basicConstraints)"
    usage = _extension(certificate, x509.KeyUsage)
    if usage is not None and not usage.key_cert_sign:
        yield "may not sign certificates (keyUsage)"
    constraints = _extension(certificate, x509.NameConstraints)
    if constraints is None:
        return
    permitted = [n.value for n in constraints.permitted_subtrees or [] if isinstance(n, x509.DNSName)]
    if permitted and not any(_within(name, subtree) for subtree in permitted):
        yield f"may not vouch for {name}, only for {', '.join(permitted)} (nameConstraints)"


def _ca_key(certificate: x509.Certificate) -> Iterator[str]:
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in _CURVES:
        yield "has a key that is neither EC P-256 nor P-384"
        return
    try:
        certificate.verify_directly_issued_by(certificate)
    except (ValueError, TypeError, InvalidSignature):
        yield "is not signed by itself; an intermediate CA cannot be pinned"


def _gateway_extensions(certificate: x509.Certificate, name: str) -> Iterator[str]:
    alternative = _extension(certificate, x509.SubjectAlternativeName)
    names = alternative.get_values_for_type(x509.DNSName) if alternative else []
    if names != [name]:
        yield f"is for {', '.join(names) or 'nobody'}, not for {name} (subjectAltName)"
    usage = _extension(certificate, x509.ExtendedKeyUsage)
    needed = {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    if usage is None or not needed <= set(usage):
        yield "must be for server and client authentication (extendedKeyUsage)"


def _within(name: str, subtree: str) -> bool:
    subtree = subtree.lstrip(".")
    return name == subtree or name.endswith(f".{subtree}")


def _extension(certificate: x509.Certificate, kind: type[_Extension]) -> _Extension | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None
