"""Certificates that do not fit: what a gateway shows, and whom it trusts.

The gateway whose files change is restarted, at the strike and at the undoing: a connection that stands keeps the trust
it was made with, and would hide the fault.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta

import yaml

from consortium import trust
from testing.consortium import Consortium
from testing.faults.fault import fault
from testing.faults.hands import changed, restart
from testing.nodes import Node
from testing.party import Party

FOLDER = "/etc/consortium/gateway/sds"


@fault("trust")
def wrong_ca(consortium: Consortium, party: str) -> Iterator[str]:
    """A gateway shows a certificate with the right name, issued by a CA that no peer trusts."""
    certificate = trust.issue_gateway(trust.make_ca(party, consortium.name), party, consortium.name)
    with _shown(consortium.party(party), certificate):
        yield f"{party}'s gateway shows a certificate of a CA that nobody knows"


@fault("trust")
def expired_certificate(consortium: Consortium, party: str, days: int = 3) -> Iterator[str]:
    """A gateway's certificate has expired; all else about it is right: the peers trust the CA that issued it."""
    then = datetime.now(UTC) - timedelta(days=days + trust.GATEWAY_DAYS)
    ca = trust.make_ca(party, consortium.name, now=then)
    certificate = trust.issue_gateway(ca, party, consortium.name, now=then)
    with ExitStack() as undo:
        for peer in consortium.parties.values():
            if peer.name != party:
                undo.enter_context(_trusting(peer, party, ca.certificate))
        undo.enter_context(_shown(consortium.party(party), certificate))
        yield f"{party}'s gateway shows a certificate that expired {days} days ago"


@fault("trust")
def revoked_peer(consortium: Consortium, party: str) -> Iterator[str]:
    """All peers have taken a party's CA away: they know another one under its name."""
    with ExitStack() as undo:
        for peer in consortium.parties.values():
            if peer.name != party:
                other = trust.make_ca(party, consortium.name).certificate
                undo.enter_context(_trusting(peer, party, other))
        yield f"no peer trusts {party}'s CA any more"


@contextmanager
def _shown(party: Party, certificate: trust.KeyPair) -> Iterator[None]:
    def change(text: str) -> str:
        document = yaml.safe_load(text)
        shown = document["resources"][0]["tls_certificate"]
        shown["certificate_chain"]["inline_string"] = certificate.certificate
        shown["private_key"]["inline_string"] = certificate.key
        return yaml.safe_dump(document, sort_keys=False)

    with _restarting(party.gateway), changed(party.gateway, f"{FOLDER}/own.yaml", change):
        restart(party.gateway, "gateway")
        yield


@contextmanager
def _trusting(party: Party, peer: str, ca: str) -> Iterator[None]:
    def change(text: str) -> str:
        document = yaml.safe_load(text)
        document["resources"][0]["validation_context"]["trusted_ca"]["inline_string"] = ca
        return yaml.safe_dump(document, sort_keys=False)

    with _restarting(party.gateway), changed(party.gateway, f"{FOLDER}/peer-{peer}.yaml", change):
        restart(party.gateway, "gateway")
        yield


@contextmanager
def _restarting(gateway: Node) -> Iterator[None]:
    """Restart it at the end, after its files were put back."""
    try:
        yield
    finally:
        restart(gateway, "gateway")
