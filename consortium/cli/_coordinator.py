"""How the job commands find the own coordinator."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from consortium.cli._common import open_workspace
from consortium.client import REQUEST_S, Coordinator, operator_token, operator_url

ApiOption = Annotated[
    str | None,
    typer.Option(
        "--api", envvar="CONSORTIUM_API", metavar="URL", help="The operator API, if not where the stack says."
    ),
]

TOKEN_VARIABLE = "CONSORTIUM_TOKEN"  # noqa: S105 a name


def coordinator(
    workspace: Path | None, party: str | None, api: str | None, *, timeout_s: float = REQUEST_S
) -> Coordinator:
    """The coordinator a command speaks to. With an address and CONSORTIUM_TOKEN no workspace is needed."""
    token = os.environ.get(TOKEN_VARIABLE)
    if api and token:
        return Coordinator(api, token, timeout_s=timeout_s)
    place = open_workspace(workspace)
    name = place.party(party)
    url = api or operator_url(place, name)
    return Coordinator(url, token or operator_token(place, name), timeout_s=timeout_s)
