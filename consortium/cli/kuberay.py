"""`consortium kuberay`: the institution as Kubernetes objects, its Ray run by KubeRay."""

from __future__ import annotations

import re
import sys
from typing import Annotated

import typer
import yaml

from consortium.cli._common import JsonOption, PartyOption, WorkspaceOption, emit, open_workspace
from consortium.documents import load_model
from consortium.errors import UsageError

_BY_DIGEST = re.compile(r"[^\s@]+@sha256:[0-9a-f]{64}")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(kuberay)


def kuberay(
    image: Annotated[str, typer.Option(help="The node image in your registry, by digest: HOST/NAME@sha256:….")],
    secrets: Annotated[
        bool, typer.Option("--secrets", help="Only the secrets, in clear: for a pipe into kubectl, never a terminal.")
    ] = False,
    party: PartyOption = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print Kubernetes objects for this institution: a RayCluster of KubeRay, coordinator, gateway, network policies.

    Changes nothing, and is no part of `consortium up`. docs/scaling.md says what the cluster must offer.

    Example: `consortium kuberay --image registry.example/consortium-node@sha256:… > institution.yaml`
    """
    if not _BY_DIGEST.fullmatch(image):
        raise UsageError(
            "an image is named by its digest: a tag can be moved",
            where="--image",
            value=image,
            allowed="HOST/NAME@sha256: and 64 hex digits",
            fix="push the image, then `docker image inspect --format '{{json .RepoDigests}}' IMAGE`",
        )
    if secrets and sys.stdout.isatty():
        raise UsageError(
            "secrets are not shown on a terminal",
            where="--secrets",
            fix="consortium kuberay … --secrets | kubectl apply -f -",
        )
    from consortium.keyring import Keyring
    from consortium.kuberay import objects, secret_objects
    from consortium.nodefiles import Secrets

    place = open_workspace(workspace)
    model = load_model(place.root, place.party(party))
    keys = Keyring(place, model.party, model.consortium.name)
    known = Secrets(
        gateway_certificate=keys.certificate,
        gateway_key=keys.secret("gatewayKey"),
        signing_key=keys.secret("signingKey"),
        operator_token=keys.secret("operatorToken"),
        gateway_token=keys.secret("gatewayToken"),
    )
    found = secret_objects(model, known) if secrets else objects(model, known, image)
    emit(found, as_json, lambda: typer.echo(yaml.safe_dump_all(found, sort_keys=False), nl=False))
