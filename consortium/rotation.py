"""What `consortium rotate certificate` does: a new key and certificate for the gateway, from the own CA.

With `mode: kuscia` the one with which the coordinator speaks to its node is renewed too.
"""

from __future__ import annotations

from dataclasses import dataclass

from consortium import trust
from consortium.documents import load_consortium, load_party
from consortium.errors import ConsortiumError
from consortium.keyring import Keyring
from consortium.kuscia import keyring as kuscia
from consortium.kuscia.names import KEY as KUSCIA_KEY
from consortium.workspace import Workspace


@dataclass(frozen=True)
class NewCertificate:
    """A gateway certificate just made; in force after `consortium up`."""

    party: str
    fingerprint: str
    days_left: int


def rotate_certificate(workspace: Workspace, party: str) -> NewCertificate:
    """Make a new key and certificate for the gateway, of the CA that issued the present one.

    Raises DocumentErrors, PulumiFailed, ConsortiumError where the CA's key is not here or the CA has expired.
    """
    public = load_party(workspace.root, party)
    consortium = load_consortium(workspace.root)
    keys = Keyring(workspace, party, consortium.name)
    ca = keys.issuer(public)
    if trust.days_left(ca.certificate) < 0:
        raise ConsortiumError(
            "the CA that would issue the certificate has expired",
            where=str(workspace.party_file(party)),
            value=f"it ended on {trust.not_after(ca.certificate):%Y-%m-%d}",
            fix="consortium rotate ca begin",
        )
    made = keys.issue(ca)
    if consortium.mode == "kuscia" and keys.has(KUSCIA_KEY):
        kuscia.renew_client(keys)
    return NewCertificate(party, trust.fingerprint(made), trust.days_left(made))
