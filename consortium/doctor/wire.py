"""What a gateway shows to this machine: name, connection, TLS, certificate. Looking and judging are apart.

No certificate of ours is shown: with TLS 1.3 a server shows its own first, and the keys stay where they are. Whether a
peer's gateway lets us in is what the own coordinator tries through the own gateway (check `peer`).
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from consortium.doctor.finding import Finding
from consortium.gateway_view import sni
from consortium.ports import COORDINATOR
from consortium.spec import Model, Party
from consortium.trust_checks import gateway_problems, issued_by

CONNECT_S = 5.0


@dataclass(frozen=True)
class Shown:
    """What was seen at one address; the first of `dns`, `tcp`, `tls` that is not empty says how far it went."""

    host: str
    port: int
    addresses: tuple[str, ...] = ()
    dns: str = ""
    tcp: str = ""
    tls: str = ""
    certificate: str = ""
    """PEM of what was shown; it proves nothing before it is judged."""


def look(host: str, port: int, server_name: str = "", timeout_s: float = CONNECT_S) -> Shown:
    """Connect as far as it goes; without a name as far as TCP. Raises nothing: a failure is part of what is seen."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        return Shown(host, port, dns=str(error))
    addresses = tuple(dict.fromkeys(str(one[4][0]) for one in found))
    try:
        plain = socket.create_connection((host, port), timeout=timeout_s)
    except OSError as error:
        return Shown(host, port, addresses, tcp=error.strerror or str(error) or type(error).__name__)
    with plain:
        if not server_name:
            return Shown(host, port, addresses)
        try:
            with _context().wrap_socket(plain, server_hostname=server_name) as secured:
                der = secured.getpeercert(binary_form=True) or b""
        except OSError as error:  # ssl.SSLError is one
            return Shown(host, port, addresses, tls=_tls_words(error))
    return Shown(host, port, addresses, certificate=ssl.DER_cert_to_PEM_cert(der))


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # What is shown is judged afterwards, in words; nothing is sent over this connection.
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _tls_words(error: OSError) -> str:
    if isinstance(error, ssl.SSLEOFError | ConnectionResetError):
        return "closed"
    if isinstance(error, TimeoutError):
        return "silent"
    return getattr(error, "reason", None) or str(error)


def judge(seen: Shown, model: Model, owner: str, visitor: str) -> Iterator[Finding]:
    """How far the way to `owner`'s gateway goes, in its steps, for somebody who asks as `visitor`. Pure."""
    party, at = model.parties[owner], f"{seen.host}:{seen.port}"
    if seen.dns:
        fix = f"correct gateway.host in parties/{owner}.yaml ({owner} does), or this machine's name service"
        yield Finding("dns", owner, False, "the host name of the gateway is not known", f"{seen.host}: {seen.dns}", fix)
        return
    yield Finding("dns", owner, True, f"{seen.host} is {', '.join(seen.addresses)}")
    if seen.tcp:
        fix = (
            f"is {owner} up (consortium up there)? Are gateway.host and gateway.port in parties/{owner}.yaml right? "
            "Does a firewall stand between?"
        )
        yield Finding("tcp", owner, False, "nothing answers at the gateway's address", f"{at}: {seen.tcp}", fix)
        return
    yield Finding("tcp", owner, True, f"{at} takes connections")
    if model.consortium.mode == "kuscia":
        return
    if seen.tls:
        yield Finding("tls", owner, False, *_tls_fault(seen, owner, visitor))
        return
    yield Finding("tls", owner, True, "TLS 1.3")
    yield _identity(seen, model, owner, party)


def _tls_fault(seen: Shown, owner: str, visitor: str) -> tuple[str, str, str]:
    at = f"{seen.host}:{seen.port}"
    if seen.tls == "closed":
        return (
            f"what listens there closes at once: it has no door for {visitor}",
            at,
            f"{owner} runs `consortium up` with the files in which {visitor} is a member, not left and not revoked; "
            f"if it did: this is another party's gateway, compare the address in parties/{owner}.yaml",
        )
    if seen.tls == "silent":
        what = "what listens there says nothing"
        return what, at, f"a proxy or another program holds the port: {owner} looks with `ss -ltnp`"
    if any(word in seen.tls for word in ("WRONG_VERSION", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "UNEXPECTED_MESSAGE")):
        what = "what listens there does not speak TLS"
        return what, f"{at}: {seen.tls}", f"another port or program: compare gateway.port in parties/{owner}.yaml"
    what = "TLS with what listens there fails"
    return what, f"{at}: {seen.tls}", "a gateway speaks TLS 1.3; is something in between that ends TLS?"


def _identity(seen: Shown, model: Model, owner: str, party: Party) -> Finding:
    problems = list(gateway_problems(seen.certificate, party.ca_certificates, owner, model.consortium.name))
    if not problems:
        return Finding("identity", owner, True, f"the certificate is {owner}'s")
    issuer = _issuer(seen.certificate, model.parties)
    if issuer and issuer != owner:
        what = f"the certificate shown is from {issuer}'s CA, not from {owner}'s"
        fix = f"the address in parties/{owner}.yaml leads to {issuer}, or {owner}'s file holds the wrong CA"
    elif not issuer:
        what = f"the certificate shown is from no CA that parties/{owner}.yaml names"
        fix = (
            f"take {owner}'s newest party file (it may have a new CA); if it is the newest: {owner} runs "
            f"`consortium rotate certificate`, then `consortium up`"
        )
    else:
        what = "the certificate shown cannot be used"
        fix = f"{owner} runs `consortium rotate certificate`, then `consortium up`"
    return Finding("identity", owner, False, what, "; ".join(f"it {problem}" for problem in problems), fix)


def _issuer(certificate: str, parties: Mapping[str, Party]) -> str:
    """The party one of whose CAs issued it; empty for a stranger's."""
    return next((n for n, p in parties.items() if any(issued_by(certificate, ca) for ca in p.ca_certificates)), "")


def way_to(model: Model, owner: str, visitor: str) -> Iterator[Finding]:
    """Look at `owner`'s gateway as `visitor` would ask for its coordinator, and judge.

    A Kuscia node's door shows nothing to a stranger by which it could be judged: whether the nodes know one another the
    own one tells.
    """
    gateway = model.parties[owner].gateway
    name = "" if model.consortium.mode == "kuscia" else sni(COORDINATOR, visitor, owner, model.consortium.name)
    yield from judge(look(gateway.host, gateway.port, name), model, owner, visitor)
