"""What the Pulumi program starts from: the documents, this stack's secrets, and errors without tracebacks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pulumi
from pulumi.runtime.config import get_config

from consortium.documents import NAMESPACE, load_model
from consortium.errors import ConsortiumError
from consortium.nodefiles import Secrets
from consortium.spec import Model


def load_stack(config: pulumi.Config) -> tuple[Model, Secrets]:
    """The model of the stack's party, and its secrets. Raises DocumentErrors with every problem at once."""
    model = load_model(Path.cwd(), config.require("party"))
    return model, Secrets(
        gateway_certificate=config.require("gatewayCertificate"),
        gateway_key=_secret("gatewayKey"),
        signing_key=_secret("signingKey"),
        operator_token=_secret("operatorToken"),
        gateway_token=_secret("gatewayToken"),
    )


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
