"""What the Pulumi program starts from: the documents, this stack's secrets, and errors without tracebacks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pulumi
from pulumi.runtime.config import get_config

from consortium.documents import NAMESPACE, load_model
from consortium.errors import ConsortiumError
from consortium.kuscia.keyring import own_domain
from consortium.kuscia.names import CLIENT_CERTIFICATE, CLIENT_KEY, DATABASE_PASSWORD, KEY, REGISTRY_PASSWORD
from consortium.kuscia.node_config import NodeSecrets
from consortium.nodefiles import Secrets
from consortium.spec import Model
from consortium.ssh import public_key
from consortium.ssh_settings import SSH_KEY
from consortium.trust import KeyPair


def load_stack(config: pulumi.Config) -> tuple[Model, Secrets]:
    """The model of the stack's party, and its secrets. Raises DocumentErrors with every problem at once."""
    model = load_model(Path.cwd(), config.require("party"))
    if model.settings.placement == "ssh":
        public_key(_secret(SSH_KEY), model.party)  # a key that cannot be used is refused before anything is made
    return model, Secrets(
        gateway_certificate=config.require("gatewayCertificate"),
        gateway_key=_secret("gatewayKey"),
        signing_key=_secret("signingKey"),
        operator_token=_secret("operatorToken"),
        gateway_token=_secret("gatewayToken"),
        ssh_key=_secret(SSH_KEY) if model.settings.placement == "ssh" else "",
        kuscia=_kuscia(config, model) if model.kuscia else None,
    )


def _kuscia(config: pulumi.Config, model: Model) -> NodeSecrets:
    """Raises ConsortiumError where the node's key is not the one that the peers know."""
    database, registry = (str(get_config(f"{NAMESPACE}:{n}") or "") for n in (DATABASE_PASSWORD, REGISTRY_PASSWORD))
    client = KeyPair(config.require(CLIENT_CERTIFICATE), _secret(CLIENT_KEY))
    return NodeSecrets(own_domain(model, _secret(KEY)), database, registry, client)


def _secret(key: str) -> str:
    """The value in clear, for rendering files. It leaves this process only inside `Converge`'s secret input.

    Not by `pulumi.Config.get`, which warns that the value would not stay secret.
    """
    value = get_config(f"{NAMESPACE}:{key}")
    if not value:
        raise ConsortiumError(
            "a secret is missing from the stack", where=f"{NAMESPACE}:{key}", fix="consortium join PARTY makes it"
        )
    return str(value)


@contextmanager
def explained() -> Iterator[None]:
    """An error made for people is shown as it is; Pulumi prints no traceback of a RunError."""
    try:
        yield
    except ConsortiumError as error:
        raise pulumi.RunError(str(error)) from None
