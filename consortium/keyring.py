"""The keys of one institution: private halves encrypted in its stack file, certificates in clear beside them.

What is made or changed is kept in `changed`. A certificate's entry is removed before its new key is set, so that a key
without its certificate is never mistaken for a pair.
"""

from __future__ import annotations

import json

from consortium import trust
from consortium.documents import NAMESPACE, OPTIONAL_SECRET_KEYS, SECRET_KEYS
from consortium.errors import ConsortiumError
from consortium.spec import Party
from consortium.stackfile import StackFile
from consortium.trust_checks import issued_by
from consortium.workspace import Workspace

CA_KEYS = ("caKey", "nextCaKey")
"""The CA in force, and the one that is to follow it."""


class Keyring:
    """Reads and writes the keys in stacks/Pulumi.<party>.yaml. Raises PulumiFailed where Pulumi does."""

    def __init__(self, workspace: Workspace, party: str, consortium: str) -> None:
        self._workspace, self.party, self.consortium = workspace, party, consortium
        self.stack = StackFile(workspace.stack_file(party))
        self.changed: list[str] = []
        self._secrets: dict[str, str] = {}

    @property
    def certificate(self) -> str:
        """The gateway's certificate in PEM; empty while there is none, or none that is complete."""
        found = self.stack.config().get("gatewayCertificate")
        return found if isinstance(found, str) and self.has("gatewayKey") else ""

    def has(self, key: str) -> bool:
        """Whether there is a secret of this name."""
        return self.stack.has_secret(key)

    def secret(self, key: str) -> str:
        """A secret in clear. KeyError if there is none."""
        if key not in self._secrets:
            shown = json.loads(self._workspace.pulumi("config", "--show-secrets", "--json", party=self.party))
            names = [name for name in (*SECRET_KEYS, *OPTIONAL_SECRET_KEYS) if f"{NAMESPACE}:{name}" in shown]
            self._secrets = {name: shown[f"{NAMESPACE}:{name}"]["value"] for name in names}
        return self._secrets[key]

    def set(self, key: str, value: str) -> None:
        """Keep a secret, encrypted."""
        # The value goes through standard input: arguments are visible to every user of the machine.
        self._workspace.pulumi("config", "set", f"{NAMESPACE}:{key}", "--secret", party=self.party, stdin=value)
        self._secrets[key] = value.strip()
        self.changed.append(key)

    def succeed_ca(self) -> None:
        """`nextCaKey` takes the place of `caKey`, in one write: it is moved as it is, encrypted."""
        self.stack.update(caKey=self.stack.config()["nextCaKey"], nextCaKey=None)
        self._secrets = {}
        self.changed.append("caKey")

    def ca_of(self, key: str, party: Party) -> str | None:
        """The CA certificate of the party file that belongs to the secret `key`; None if it holds none."""
        wanted = trust.private_key_digest(self.secret(key))
        return next((ca for ca in party.ca_certificates if trust.key_digest(ca) == wanted), None)

    def ca(self, key: str, party: Party) -> trust.KeyPair:
        """The CA whose key is the secret `key`. Raises ConsortiumError where the party file has another one."""
        certificate = self.ca_of(key, party)
        if certificate is None:
            raise ConsortiumError(
                "no CA certificate of the party file belongs to the CA key held here",
                where=str(self._workspace.party_file(self.party)),
                value=", ".join(trust.fingerprint(ca) for ca in party.ca_certificates),
                fix="party file or stack file is an old copy: put back the pair",
            )
        return trust.KeyPair(certificate, self.secret(key))

    def issuer(self, party: Party) -> trust.KeyPair:
        """The CA that issued the gateway's present certificate, as far as its key is held here; else `caKey`'s."""
        for key in CA_KEYS:
            ca = self.ca_of(key, party) if self.certificate and self.has(key) else None
            if ca and issued_by(self.certificate, ca):
                return trust.KeyPair(ca, self.secret(key))
        return self.ca("caKey", party)

    def issue(self, ca: trust.KeyPair) -> str:
        """A new key and certificate for the gateway. Returns the certificate."""
        pair = trust.issue_gateway(ca, self.party, self.consortium)
        self.stack.update(gatewayCertificate=None)
        self.set("gatewayKey", pair.key)
        self.stack.update(gatewayCertificate=pair.certificate)
        self.changed.append("gatewayCertificate")
        return pair.certificate
