"""The keys of a Kuscia node in the stack's settings: made once, kept, and the client's renewed."""

from __future__ import annotations

from typing import Any

from consortium import trust
from consortium.errors import ConsortiumError
from consortium.keyring import Keyring
from consortium.kuscia import keys
from consortium.kuscia.names import CLIENT_CERTIFICATE, CLIENT_KEY, DATABASE_PASSWORD, KEY, REGISTRY_PASSWORD
from consortium.kuscia.node_config import NodeSecrets
from consortium.spec import Model, Party


def make(ring: Keyring, old: Party | None) -> str:
    """Make what is missing. Returns the node's certificate, for the party file; the one there if it is of this key."""
    if not ring.has(KEY):
        ring.set(KEY, keys.make_domain(ring.party).key)
    own = keys.domain(ring.party, ring.secret(KEY))
    if not (ring.has(CLIENT_KEY) and client_certificate(ring)):
        renew_client(ring)
    given = old.kuscia.certificate if old and old.kuscia else ""
    return given if given and trust.key_digest(given) == trust.key_digest(own.certificate) else own.certificate


def make_database_password(ring: Keyring) -> None:
    """For a database that is made; one that is there has its own."""
    if not ring.has(DATABASE_PASSWORD):
        ring.set(DATABASE_PASSWORD, trust.new_token())


def node_secrets(ring: Keyring, model: Model) -> NodeSecrets:
    """What goes into the node's own file. Raises ConsortiumError where the key is not that of the party file."""
    own = own_domain(model, ring.secret(KEY))
    known = {name: ring.secret(name) for name in (DATABASE_PASSWORD, REGISTRY_PASSWORD) if ring.has(name)}
    return NodeSecrets(own, known.get(DATABASE_PASSWORD, ""), known.get(REGISTRY_PASSWORD, ""))


def own_domain(model: Model, key: str) -> keys.Domain:
    """The party's domain, with the certificate that its peers hold. Raises ConsortiumError if it is of another key."""
    own, given = keys.domain(model.party, key), model.own.kuscia
    if given is None or trust.key_digest(given.certificate) != trust.key_digest(own.certificate):
        raise ConsortiumError(
            "the node's key is not the one of the certificate that the peers hold",
            where=f"parties/{model.party}.yaml: kuscia.certificate",
            value=trust.fingerprint(given.certificate) if given else "none",
            fix="put back the pair; or, to keep this key: consortium join, and send the new file to every member",
        )
    return keys.Domain(own.party, given.certificate, own.key)


def renew_client(ring: Keyring) -> str:
    """A new key and certificate with which the coordinator speaks to the node. Returns the certificate."""
    pair = keys.issue_client(keys.domain(ring.party, ring.secret(KEY)))
    # In this order a key is never mistaken for the one of another certificate.
    ring.stack.update(**{CLIENT_CERTIFICATE: None})
    ring.set(CLIENT_KEY, pair.key)
    ring.stack.update(**{CLIENT_CERTIFICATE: pair.certificate})
    ring.changed.append(CLIENT_CERTIFICATE)
    return pair.certificate


def client_certificate(ring: Keyring) -> str:
    """In PEM; empty if there is none."""
    found: Any = ring.stack.config().get(CLIENT_CERTIFICATE)
    return found if isinstance(found, str) else ""
