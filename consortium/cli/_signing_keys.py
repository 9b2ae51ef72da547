"""With which public keys a command checks what a party signed: those given, else those of the workspace."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from consortium.cli._common import open_workspace
from consortium.errors import UsageError

KeyOption = Annotated[
    list[str] | None, typer.Option("--key", metavar="PARTY=BASE64", help="A public key; may be repeated.")
]
PartyFileOption = Annotated[
    list[Path] | None,
    typer.Option("--party-file", help="Holds a public key; default: the workspace's parties.", dir_okay=False),
]


def signing_keys(
    given: list[str] | None, party_files: list[Path] | None, workspace: Path | None
) -> tuple[dict[str, str], str | None]:
    """Public keys by party: those given, else those of the workspace, whose consortium's name is then known too.

    Raises UsageError, DocumentErrors.
    """
    if given or party_files:
        from coordinator.audit_command import read_keys
        from coordinator.config import ConfigError
        from coordinator.signing import SigningError

        try:
            return read_keys(party_files or [], given or []), None
        except (ConfigError, SigningError, OSError) as error:
            raise UsageError("this public key cannot be used", value=str(error)) from error
    from consortium.documents import load_consortium, load_party

    place = open_workspace(workspace).root
    consortium = load_consortium(place)
    return {name: load_party(place, name).signing_key for name in consortium.members}, consortium.name
