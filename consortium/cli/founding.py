"""`consortium init` and `consortium join`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from consortium.cli._common import JsonOption, WorkspaceOption, emit, open_workspace, say
from consortium.cli._completion import members
from consortium.errors import UsageError
from consortium.workspace import Workspace


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(init)
    app.command()(join)


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The workspace to make.")],
    name: Annotated[str, typer.Option(help="The consortium's name, a DNS label.")] = "demo",
    member: Annotated[list[str] | None, typer.Option(help="A party; once for each. Default: alice, bob.")] = None,
    mode: Annotated[
        Literal["ray", "kuscia"], typer.Option(help="How SecretFlow runs: docs/kuscia.md says when to use which.")
    ] = "ray",
    force: Annotated[bool, typer.Option("--force", help="Replace files that were edited.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a workspace: the agreement, the Pulumi program, and the folders for party files and stacks.

    May be run again: edited files are kept unless --force is given.

    Example: `consortium init ./hospital --name trial --member hospital --member registry`
    """
    from consortium.founding import found

    outcome = found(folder, name, member or ["alice", "bob"], force=force, mode=mode)
    emit({"workspace": str(folder.resolve()), "files": outcome}, as_json, lambda: _say_files(folder, outcome))


def _say_files(folder: Path, outcome: dict[str, str]) -> None:
    for file, what in outcome.items():
        hint = " (it differs; --force replaces it)" if what == "kept" else ""
        say(f"{what:10} {folder / file}{hint}")


def join(
    party: Annotated[str, typer.Argument(help="The member this institution is.", autocompletion=members)],
    endpoint: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Where the peers reach this gateway. Needed once.")
    ] = None,
    dataset: Annotated[
        list[str] | None, typer.Option(metavar="NAME=PATH", help="A dataset of this party; once for each.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=0, help="Ray worker nodes besides the head.")] = None,
    operator_port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="The coordinator's port on this machine.")
    ] = None,
    bind: Annotated[str | None, typer.Option(help="The address on which the engine publishes the gateway.")] = None,
    policy: Annotated[
        Literal["person", "approve", "deny"] | None,
        typer.Option(help="What becomes of the others' jobs that no rule of the policy fits: first, a person decides."),
    ] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make this institution's keys, its public party file and its private stack settings.

    Keys are made here and never leave, except encrypted in the stack file. May be run again: keys are kept, options
    change the settings. Send parties/PARTY.yaml to every member afterwards. A CSV dataset's column names are published
    in it.

    Example: `consortium join hospital --endpoint gw.hospital.example:8443 --dataset patients=data/patients.csv`
    """
    from consortium.joining import Wishes
    from consortium.joining import join as run

    place = open_workspace(workspace)
    wishes = Wishes(
        endpoint=parse_endpoint(endpoint) if endpoint else None,
        datasets=dict(_dataset(text, place) for text in dataset or []),
        workers=workers,
        bind=bind,
        operator_port=operator_port,
        policy=policy,
    )
    joined = run(place, party, wishes)
    data = {**asdict(joined), "party_file": str(joined.party_file), "stack_file": str(joined.stack_file)}

    def human() -> None:
        say(f"made or changed: {', '.join(joined.changed) or 'nothing, all was there'}")
        say(f"public:  {joined.party_file}  (send it to every member)")
        say(f"private: {joined.stack_file}  (secrets encrypted), {place.private}")
        say(f"CA fingerprint, to be compared by voice: {joined.ca_fingerprint}")
        if joined.kuscia_fingerprint:
            say(f"and that of its Kuscia node: {joined.kuscia_fingerprint}")
        say(f"the gateway's certificate is valid for {joined.gateway_days_left} days")

    emit(data, as_json, human)


def parse_endpoint(text: str) -> tuple[str, int]:
    """`host:port` or `[v6]:port`. Raises UsageError."""
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isascii() or not port.isdecimal() or not 0 < int(port) < 65536:
        raise UsageError(
            "not an endpoint", where="--endpoint", value=text, allowed="HOST:PORT", fix="for example 203.0.113.10:8443"
        )
    return host, int(port)


def _dataset(text: str, workspace: Workspace) -> tuple[str, str]:
    name, separator, path = text.partition("=")
    if not separator or not name or not path:
        raise UsageError("not a dataset", where="--dataset", value=text, allowed="NAME=PATH")
    # A path on the command line is meant from here; in the settings it is from the workspace.
    full = Path(path).resolve()
    return name, str(full.relative_to(workspace.root)) if full.is_relative_to(workspace.root) else str(full)
