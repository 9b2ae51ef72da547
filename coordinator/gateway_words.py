"""What the own gateway's words about a connection that failed mean for a person (Envoy and BoringSSL write them)."""

from __future__ import annotations

import re

_CAUSES: tuple[tuple[str, str], ...] = (
    ("has_expired", "the certificate of {peer}'s gateway has expired"),
    ("unable_to_get_local_issuer|self.signed", "what answers there shows a certificate that is not from {peer}'s CA"),
    ("subtree_violation|SAN matcher", "what answers there shows a certificate that is not for {peer}'s name"),
    (
        "CERTIFICATE_VERIFY_FAILED",
        "what answers there shows a certificate that is not from {peer}'s CA, not for its name, or expired",
    ),
    (
        "CERTIFICATE_UNKNOWN|UNKNOWN_CA|CERTIFICATE_REQUIRED|BAD_CERTIFICATE",
        "{peer}'s gateway does not accept this party's certificate: it has another CA for us",
    ),
    ("CERTIFICATE_EXPIRED", "{peer}'s gateway finds this party's certificate expired"),
    ("CERTIFICATE_REVOKED", "{peer}'s gateway finds this party's certificate revoked"),
    ("WRONG_VERSION_NUMBER|HTTP_REQUEST", "what answers there does not speak TLS: it is no gateway"),
    ("PROTOCOL_VERSION|UNSUPPORTED_PROTOCOL", "what answers there does not speak TLS 1.3"),
    ("connect error: 111|connection.refused", "nobody listens there: {peer}'s gateway is down, or the port is wrong"),
    ("connect error: 113|connect error: 101|no.route|unreachable", "there is no way to {peer}'s address"),
    ("connection timeout", "{peer}'s address does not answer: a firewall, or a wrong address"),
    ("no healthy upstream", "the host name of {peer}'s gateway is not known"),
    (
        # With TLS 1.3 a server that refuses a client says so after the client has begun to send.
        "connection termination|remote connection failure",
        "{peer}'s gateway closes the connection: it does not know this party (any more), has another CA for it, or "
        "finds its certificate expired",
    ),
)


def cause_of(said: str, peer: str) -> str:
    """The cause in brackets, with a space before; empty when the words are not known."""
    for pattern, cause in _CAUSES:
        if re.search(pattern, said, re.IGNORECASE):
            return f" ({cause.format(peer=peer)})"
    return ""
