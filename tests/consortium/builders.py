"""Valid documents of a workspace; a test overrides the one thing it is about."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from consortium import trust
from consortium.stackfile import dump
from tests.builders import CONSORTIUM, VERSIONS, authority, party, signing_key

SECRET = {"secure": "v1:AAAA:BBBB"}

__all__ = ["CONSORTIUM", "VERSIONS", "authority", "party", "signing_key"]


def consortium(**overrides: Any) -> dict[str, Any]:
    return {"name": CONSORTIUM, "members": ["alice", "bob"], "versions": VERSIONS, **overrides}


def settings(**overrides: Any) -> dict[str, Any]:
    return {"gateway": {"bind": "172.17.0.1", "port": 18443}, **overrides}


def stack(name: str = "alice", **config: Any) -> dict[str, Any]:
    """`config` overrides entries by their name without prefix; None removes one."""
    whole = {
        "party": name,
        "settings": settings(),
        "gatewayCertificate": trust.issue_gateway(authority(name), name, CONSORTIUM).certificate,
        **dict.fromkeys(("gatewayKey", "signingKey", "caKey", "operatorToken", "gatewayToken"), SECRET),
        **config,
    }
    return {
        "encryptionsalt": "v1:AAAA:v1:BBBB:CCCC",
        "config": {f"consortium:{key}": value for key, value in whole.items() if value is not None},
    }


def write(folder: Path, **documents: Any) -> Path:
    """A workspace of alice and bob with alice's stack. `consortium`, `alice`, `bob`, `stack` replace a document
    (a str or bytes is written as it is, None leaves the file out)."""
    whole = {"consortium": consortium(), "alice": party("alice"), "bob": party("bob"), "stack": stack(), **documents}
    paths = {"consortium": "consortium.yaml", "stack": "stacks/Pulumi.alice.yaml"}
    for name, document in whole.items():
        path = folder / paths.get(name, f"parties/{name}.yaml")
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(document, bytes):
            path.write_bytes(document)
        elif document is not None:
            path.write_text(document if isinstance(document, str) else dump(document))
    return folder
