"""Whole models for tests, each test changing the one thing it is about."""

from __future__ import annotations

import base64
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from consortium import trust
from consortium.nodefiles import Secrets
from consortium.spec import Consortium, Model, Party, StackSettings

CONSORTIUM = "demo"
VERSIONS = {"python": "3.11", "secretflow": "1.11.0b1", "ray": "2.9.3", "rayfed": "0.2.1a2", "spu": "0.9.3b0"}


@functools.cache
def authority(party: str, consortium: str = CONSORTIUM) -> trust.KeyPair:
    """One CA per party and test run: making keys is the slow part."""
    return trust.make_ca(party, consortium)


@functools.cache
def signing_key(party: str) -> trust.SigningKey:
    return trust.make_signing_key()


def party(name: str, **overrides: Any) -> dict[str, Any]:
    return {
        "party": name,
        "gateway": {"host": f"gateway.{name}.example", "port": 8443},
        "ca_certificates": [authority(name).certificate],
        "signing_key": signing_key(name).public,
        **overrides,
    }


def model(
    *names: str,
    own: str = "",
    slots: int = 1,
    left: Sequence[str] = (),
    settings: Mapping[str, Any] | None = None,
    parties: Mapping[str, Mapping[str, Any]] | None = None,
    consortium: Mapping[str, Any] | None = None,
) -> Model:
    """The institution `own` (default: the first) of a consortium of `names` (default: alice and bob)."""
    members = names or ("alice", "bob")
    documents = {name: party(name, **(parties or {}).get(name, {})) for name in members}
    return Model(
        consortium=Consortium.model_validate(
            {
                "name": CONSORTIUM,
                "members": members,
                "left": left,
                "slots": slots,
                "versions": VERSIONS,
                **(consortium or {}),
            }
        ),
        parties={name: Party.model_validate(document) for name, document in documents.items()},
        party=own or members[0],
        settings=StackSettings.model_validate({"gateway": {"bind": "127.0.0.1", "port": 18443}, **(settings or {})}),
        workspace=Path("/workspace"),
    )


HOST_KEY = "ssh-ed25519 " + base64.b64encode(b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + b"x" * 32).decode()


def machine(address: str, **more: Any) -> dict[str, Any]:
    """A host of `placement: ssh`."""
    return {"address": address, "host_keys": [HOST_KEY], **more}


def on_hosts(workers: int = 0, **overrides: Any) -> dict[str, Any]:
    """Stack settings of `placement: ssh`: head 10.0.0.5, gateway 10.0.0.4, workers from 10.0.0.10; `ssh` adds."""
    ssh = {
        "head": machine("10.0.0.5"),
        "gateway": machine("gateway.example", inside="10.0.0.4"),
        "workers": [machine(f"10.0.0.{10 + k}") for k in range(workers)],
        **overrides.pop("ssh", {}),
    }
    return {"placement": "ssh", "workers": workers, "ssh": ssh, **overrides}


def secrets(own: str = "alice") -> Secrets:
    pair = trust.issue_gateway(authority(own), own, CONSORTIUM)
    return Secrets(
        gateway_certificate=pair.certificate,
        gateway_key=pair.key,
        signing_key=signing_key(own).private,
        operator_token=f"operator-token-of-{own}",
        gateway_token=f"gateway-token-of-{own}",
    )
