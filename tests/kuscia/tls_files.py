"""The files with which KusciaAPI and its callers know each other, all of one node's key as Kuscia does it."""

from __future__ import annotations

import ipaddress
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID

from consortium.kuscia import keys


@dataclass(frozen=True)
class TlsFiles:
    ca: Path
    certificate: Path
    key: Path
    server_certificate: Path
    server_key: Path

    def server_context(self) -> ssl.SSLContext:
        """Lets in whoever has a certificate of this CA."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(self.ca))
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_cert_chain(self.server_certificate, self.server_key)
        return context


def tls_files(domain: keys.Domain, folder: Path) -> TlsFiles:
    """The client's as the product issues them; the server's as a node issues them to itself."""
    client, (certificate, key) = keys.issue_client(domain), _server(domain)
    texts = {
        "ca": domain.certificate, "certificate": client.certificate, "key": client.key,
        "server_certificate": certificate, "server_key": key,
    }  # fmt: skip
    for name, text in texts.items():
        (folder / name).write_text(text)
    return TlsFiles(**{name: folder / name for name in texts})


def _server(domain: keys.Domain) -> tuple[str, str]:
    ca = serialization.load_pem_private_key(domain.key.encode(), None)
    now = datetime.now(UTC)
    names: list[x509.GeneralName] = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    # A node names its own host too.
    names += [x509.DNSName(f"{domain.party}-kuscia")]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "KusciaAPI")]))
        .issuer_name(x509.load_pem_x509_certificate(domain.certificate.encode()).subject)
        .public_key(ca.public_key())  # type: ignore[arg-type]
        .serial_number(2)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(ca, hashes.SHA256())  # type: ignore[arg-type]
    )
    return certificate.public_bytes(serialization.Encoding.PEM).decode(), domain.key
