"""`consortium kuscia …`: what a Kuscia node needs besides `consortium up`."""

from __future__ import annotations

import sys
from typing import Annotated, Literal

import typer
import yaml

from consortium.cli._common import JsonOption, PartyOption, WorkspaceOption, emit, open_workspace, say
from consortium.documents import load_model
from consortium.errors import UsageError
from consortium.kuscia.names import DATABASE_PASSWORD, REGISTRY_PASSWORD

PASSWORDS = {"database": DATABASE_PASSWORD, "registry": REGISTRY_PASSWORD}


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="A Kuscia node: its passwords, and how it stands on Kubernetes.", no_args_is_help=True)
    group.command()(password)
    group.command()(manifests)
    app.add_typer(group, name="kuscia")


def password(
    of: Annotated[Literal["database", "registry"], typer.Argument(help="Whose password.")],
    party: PartyOption = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Keep a password in the stack, encrypted. It is asked for, or read from standard input: never an argument.

    Example: `consortium kuscia password registry`

    Example: `consortium kuscia password database --party bank < /run/secrets/database`
    """
    from consortium.documents import load_consortium
    from consortium.keyring import Keyring
    from consortium.kuscia.node_config import password_problem

    place = open_workspace(workspace)
    name = place.party(party)
    value = typer.prompt("Password", hide_input=True, err=True) if sys.stdin.isatty() else sys.stdin.read().strip()
    if problem := password_problem(value) if of == "database" else ("" if value else "is empty"):
        raise UsageError(f"the password {problem}", where=f"the password of the {of}", value="(not shown)")
    Keyring(place, name, load_consortium(place.root).name).set(PASSWORDS[of], value)
    emit(
        {"party": name, "secret": PASSWORDS[of], "next": "consortium up"},
        as_json,
        lambda: say(f"kept as the secret consortium:{PASSWORDS[of]} of {name}; next: consortium up"),
    )


def manifests(
    secret: Annotated[
        bool, typer.Option("--secret", help="Only the secret, in clear: for a pipe into kubectl, never a terminal.")
    ] = False,
    party: PartyOption = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print this institution's Kuscia node as Kubernetes objects. Changes nothing, and is no part of `consortium up`.

    The secret is kuscia.yaml, which holds the node's key: piped into kubectl it stands in no file. docs/kuscia.md says
    what the cluster must offer.

    Example: `consortium kuscia manifests --secret | kubectl apply -n bank -f -`

    Example: `consortium kuscia manifests > node.yaml && kubectl apply -n bank -f node.yaml`
    """
    if secret and sys.stdout.isatty():
        raise UsageError(
            "the secret is not shown on a terminal",
            where="--secret",
            fix="consortium kuscia manifests --secret | kubectl apply -f -",
        )
    from consortium.keyring import Keyring
    from consortium.kuscia import keyring
    from consortium.kuscia.manifests import manifests as objects
    from consortium.kuscia.manifests import secret_object
    from consortium.kuscia.node_config import kuscia_yaml

    place = open_workspace(workspace)
    model = load_model(place.root, place.party(party))
    if model.settings.kuscia is None:
        raise UsageError(
            "this consortium has no Kuscia nodes",
            where=str(place.root / "consortium.yaml"),
            value=f"mode: {model.consortium.mode}",
            allowed="mode: kuscia",
            fix="consortium kuberay, for a RayCluster",
        )
    known = keyring.node_secrets(Keyring(place, model.party, model.consortium.name), model)
    config = kuscia_yaml(model.settings.kuscia, known)
    found = [secret_object(model, config)] if secret else objects(model, model.settings.kuscia, config)
    emit(found, as_json, lambda: typer.echo(yaml.safe_dump_all(found, sort_keys=False), nl=False))
