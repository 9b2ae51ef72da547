"""What `consortium join` does: keys made here, the public party file, the private stack settings.

Every step may be cut off and run again: what is there is kept, what is missing is made, nothing is rotated:
that is `consortium rotate` (rotation.py, ca_rotation.py).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from consortium import files, trust
from consortium.documents import NAMESPACE, load_consortium, load_party
from consortium.errors import ConsortiumError, DocumentErrors, UsageError
from consortium.keyring import Keyring
from consortium.kuscia import keyring as kuscia
from consortium.kuscia.names import KEY as KUSCIA_KEY
from consortium.partyfile import checked, write_party
from consortium.settings import StackSettings
from consortium.spec import Consortium, Mode, Party
from consortium.tables import described
from consortium.validation import did_you_mean, validate
from consortium.workspace import Workspace
from consortium.yamlfile import YamlFile


@dataclass(frozen=True)
class Wishes:
    """What the operator asked for; None = leave as it is, or the default."""

    endpoint: tuple[str, int] | None = None
    datasets: Mapping[str, str] = field(default_factory=dict)
    """Name → path relative to the workspace, or absolute."""
    workers: int | None = None
    bind: str | None = None
    operator_port: int | None = None
    policy: str | None = None
    """What becomes of a job that no rule fits."""


@dataclass(frozen=True)
class Joined:
    """What there is now, and what this run made or changed of it."""

    party: str
    party_file: Path
    stack_file: Path
    ca_fingerprint: str
    gateway_days_left: int
    changed: tuple[str, ...]
    kuscia_fingerprint: str = ""
    """Of the Kuscia node's certificate; empty without `mode: kuscia`."""


def join(workspace: Workspace, party: str, wishes: Wishes) -> Joined:
    """Make `party` a member's institution in this workspace.

    Raises DocumentErrors for wrong documents or wishes, UsageError for a party that is no member or a missing
    endpoint, PulumiFailed, ConsortiumError where the keys of an existing party file are not here.
    """
    consortium = load_consortium(workspace.root)
    if party not in consortium.members:
        raise UsageError(
            "not a member of the consortium",
            where=str(workspace.root / "consortium.yaml"),
            value=party,
            allowed=", ".join(consortium.members),
            fix=did_you_mean(party, consortium.members) or "all members add it at the end of `members` first",
        )
    return _Join(workspace, party, consortium, wishes).run()


class _Join:
    def __init__(self, workspace: Workspace, party: str, consortium: Consortium, wishes: Wishes) -> None:
        self.workspace = workspace
        self.party = party
        self.consortium = consortium
        self.wishes = wishes
        self.keys = Keyring(workspace, party, consortium.name)
        self.stack = self.keys.stack
        self.party_file = workspace.party_file(party)
        self.changed = self.keys.changed

    def run(self) -> Joined:
        old = load_party(self.workspace.root, self.party) if self.party_file.exists() else None
        self._refuse_foreign_keys(old)
        # All is checked before anything is made, so a wrong option leaves nothing behind.
        endpoint = self._endpoint(old)
        settings = self._settings(endpoint[1])
        public = self._public(old, endpoint)
        self._make_stack()
        self._note(self.stack.update(party=self.party, settings=settings), "stack settings")
        ca = self._ca(old)
        signing_key = self._signing_key(old)
        self._gateway_certificate(ca)
        self._tokens()
        if not old:
            public |= {"ca_certificates": [ca], "signing_key": signing_key}
        if self.consortium.mode == "kuscia":
            public["kuscia"] = {"certificate": kuscia.make(self.keys, old)}
            if (settings.get("kuscia") or {}).get("mariadb"):
                kuscia.make_database_password(self.keys)
        self._note(write_party(self.party_file, public, old), "party file")
        return Joined(
            party=self.party,
            party_file=self.party_file,
            stack_file=self.workspace.stack_file(self.party),
            ca_fingerprint=trust.fingerprint(ca),
            gateway_days_left=trust.days_left(self.keys.certificate),
            changed=tuple(self.changed),
            kuscia_fingerprint=trust.fingerprint(public["kuscia"]["certificate"]) if "kuscia" in public else "",
        )

    def _refuse_foreign_keys(self, old: Party | None) -> None:
        lost = [] if not old else ["caKey", *([KUSCIA_KEY] if old.kuscia else [])]
        if missing := next((key for key in lost if not self.keys.has(key)), ""):
            raise ConsortiumError(
                "the party file is there, but not the keys it speaks of",
                where=str(self.party_file),
                value=f"no {NAMESPACE}:{missing} in {self.workspace.stack_file(self.party).name}",
                fix="put back the stack file; or remove the party file to make new keys, and send the new "
                "file to every member",
            )

    def _endpoint(self, old: Party | None) -> tuple[str, int]:
        if self.wishes.endpoint:
            return self.wishes.endpoint
        if old:
            return old.gateway.host, old.gateway.port
        raise UsageError("where do the peers reach this gateway?", value=self.party, fix="--endpoint HOST:PORT")

    def _settings(self, public_port: int) -> dict[str, Any]:
        wishes = self.wishes
        old = self.stack.config().get("settings")
        settings: dict[str, Any] = (
            json.loads(json.dumps(old)) if isinstance(old, dict) else default_settings(self.consortium.mode)
        )
        gateway = settings.setdefault("gateway", {"bind": "0.0.0.0"})
        if wishes.endpoint or "port" not in gateway:
            gateway["port"] = public_port
        if wishes.bind is not None:
            gateway["bind"] = wishes.bind
        if wishes.operator_port is not None:
            settings.setdefault("operator", {"bind": "127.0.0.1"})["port"] = wishes.operator_port
        if wishes.workers is not None:
            settings["workers"] = wishes.workers
        if wishes.policy is not None:
            settings.setdefault("policy", {})["default"] = wishes.policy
        if wishes.datasets:
            settings.setdefault("datasets", {}).update({n: {"path": p} for n, p in wishes.datasets.items()})
        file = YamlFile(f"stacks/{self.workspace.stack_file(self.party).name}")
        if validate(StackSettings, settings, file, (f"{NAMESPACE}:settings",)) is None:
            raise DocumentErrors(file.problems)
        return settings

    def _make_stack(self) -> None:
        self._note(self.workspace.make_passphrase(), "passphrase")
        if self._known_stack():
            return
        self.workspace.pulumi("stack", "init", self.party, "--secrets-provider", "passphrase", "--no-select")
        self.changed.append("stack")

    def _known_stack(self) -> bool:
        listed = json.loads(self.workspace.pulumi("stack", "ls", "--json"))
        return any(entry["name"].split("/")[-1] == self.party for entry in listed)

    def _ca(self, old: Party | None) -> str:
        if not self.keys.has("caKey"):
            pair = trust.make_ca(self.party, self.consortium.name)
            self.keys.set("caKey", pair.key)
            return pair.certificate
        if old:
            return self.keys.ca("caKey", old).certificate
        # The party file was lost, or never written: the same key gives a certificate that peers with the old one
        # accept.
        return trust.make_ca(self.party, self.consortium.name, key=self.keys.secret("caKey")).certificate

    def _signing_key(self, old: Party | None) -> str:
        if not self.keys.has("signingKey"):
            made = trust.make_signing_key()
            self.keys.set("signingKey", made.private)
            return made.public
        return old.signing_key if old else trust.signing_public_key(self.keys.secret("signingKey"))

    def _gateway_certificate(self, ca: str) -> None:
        if not self.keys.certificate:
            self.keys.issue(trust.KeyPair(ca, self.keys.secret("caKey")))

    def _tokens(self) -> None:
        for name in ("operatorToken", "gatewayToken"):
            if not self.keys.has(name):
                self.keys.set(name, trust.new_token())
        file = self.workspace.token_file(self.party)
        if not file.exists() or "operatorToken" in self.changed:
            self._note(files.write(file, self.keys.secret("operatorToken") + "\n", private=True), "token file")

    def _public(self, old: Party | None, endpoint: tuple[str, int]) -> dict[str, Any]:
        """The party file; a new one lacks the keys that are still to be made."""
        public: dict[str, Any] = old.model_dump(mode="json", exclude_none=True) if old else {"party": self.party}
        public["gateway"] = {"host": endpoint[0], "port": endpoint[1]}
        public.setdefault("ca_certificates", ["to be made"])
        public.setdefault("signing_key", base64.b64encode(bytes(32)).decode())
        datasets = public.setdefault("datasets", {})
        for name, path in self.wishes.datasets.items():
            datasets.setdefault(name, {"description": "", **described(self.workspace.root / path)})
        checked(public, self.party)
        return public

    def _note(self, happened: bool, what: str) -> None:
        if happened:
            self.changed.append(what)


_OF_MODE = {"ray": ("head", "worker", "gateway"), "kuscia": ("kuscia", "coordinator")}


def default_settings(mode: Mode) -> dict[str, Any]:
    """The settings a new institution begins with, spelt out so that an operator sees what there is."""
    template = StackSettings.model_validate({"gateway": {"bind": "0.0.0.0", "port": 1}})
    settings = template.model_dump(mode="json", exclude_none=True)
    del settings["gateway"], settings["package_mirror"]
    settings["resources"] = {role: settings["resources"][role] for role in _OF_MODE[mode]}
    if mode == "kuscia":
        del settings["workers"], settings["drain"]
    return settings
