"""`consortium hosts`: the machines of `placement: ssh`: the key that opens them, the keys they show, a way in."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from consortium.cli._common import JsonOption, PartyOption, WorkspaceOption, emit, open_workspace, say
from consortium.errors import ConsortiumError, UsageError
from consortium.workspace import Workspace

if TYPE_CHECKING:
    from consortium.keyring import Keyring
    from consortium.spec import Model
    from consortium.ssh import Target

hosts = typer.Typer(help="The machines of an institution with `placement: ssh`.", no_args_is_help=True)
AddressArgument = Annotated[list[str] | None, typer.Argument(metavar="[HOST[:PORT]]...", help="Default: all hosts.")]


def register(app: typer.Typer) -> None:
    """Add the group."""
    hosts.command()(key)
    hosts.command()(scan)
    hosts.command()(check)
    hosts.command()(tunnel)
    app.add_typer(hosts, name="hosts")


def key(
    take: Annotated[Path | None, typer.Option("--take", help="Take this private key in place of a new one.")] = None,
    renew: Annotated[bool, typer.Option("--renew", help="Make another one, though there is one.")] = False,
    party: PartyOption = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the public key that opens the hosts, for their authorized_keys. Made, and kept encrypted, if there is none.

    Example: `consortium hosts key`

    Example: `consortium hosts key --take ~/.ssh/consortium`
    """
    from consortium import ssh
    from consortium.ssh_settings import SSH_KEY

    place = open_workspace(workspace)
    name = place.party(party)
    ring = _keyring(place, name)
    if take is not None:
        private = _read(take)
        ssh.public_key(private, name)
        ring.set(SSH_KEY, private)
    elif renew or not ring.has(SSH_KEY):
        ring.set(SSH_KEY, ssh.make_key(name)[0])
    public = ssh.public_key(ring.secret(SSH_KEY), name)
    emit({"party": name, "public_key": public, "changed": bool(ring.changed)}, as_json, lambda: typer.echo(public))


def scan(
    addresses: AddressArgument = None,
    party: PartyOption = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show which keys hosts present now, for `host_keys` in the stack settings. Nothing is trusted or changed by it.

    Compare each fingerprint with what the host's own console says: `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub`.

    Example: `consortium hosts scan head.bank.example 10.0.0.6:2222`
    """
    from consortium.ssh import scanned

    where = [_address(text) for text in addresses or ()]
    if not where:
        place = open_workspace(workspace)
        where = [(target.address, target.port) for target in _targets(_model(place, place.party(party))).values()]
    found = {f"{host}:{port}": scanned(host, port) for host, port in where}

    def human() -> None:
        for host, keys in found.items():
            say(host)
            for each in keys:
                say(f"  {each.fingerprint}")
                say(f"    {each.text}")
        say("compare the fingerprints with the hosts' consoles before they go into host_keys")

    emit(
        {h: [{"key": k.text, "fingerprint": k.fingerprint} for k in keys] for h, keys in found.items()}, as_json, human
    )


def check(party: PartyOption = None, workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """Reach every host with the stack's key, and say what it is. Ends with the first that cannot be reached.

    Example: `consortium hosts check`
    """
    from consortium.machines import look

    place = open_workspace(workspace)
    name = place.party(party)
    targets = _targets(_model(place, name))
    private = _private(place, name)
    found = {node: look(private, target) for node, target in targets.items()}

    def human() -> None:
        for node, facts in found.items():
            about = f"{facts['architecture']}, {facts['processors']} processors, {facts['memory_mb']} MB"
            say(f"{node:24} {facts['system']}, {about}")

    emit(found, as_json, human)


def tunnel(
    port: Annotated[int | None, typer.Option(help="Here. Default: operator.port of the settings.")] = None,
    party: PartyOption = None,
    workspace: WorkspaceOption = None,
) -> None:
    """Bring the operator's port of the gateway's host to this machine, until Ctrl-C. Then job commands work as usual.

    With `mode: kuscia` it is the head's host.

    Example: `consortium hosts tunnel &`
    """
    from consortium import ssh
    from consortium.ports import COORDINATOR_OPERATOR_PORT

    place = open_workspace(workspace)
    name = place.party(party)
    model = _model(place, name)
    operator, private = model.settings.operator, _private(place, name)
    if model.kuscia:
        target, there = _targets(model)[f"{name}-head"], f"127.0.0.1:{COORDINATOR_OPERATOR_PORT}"
    else:
        target, there = _targets(model)[f"{name}-gateway"], f"{operator.bind}:{operator.port}"
    way = f"127.0.0.1:{port or operator.port}:{there}"
    with ssh.access(private, [target]) as folder:
        arguments = ssh.command(folder, target, "-N", "-L", way, "-o", "ExitOnForwardFailure=yes")
        with subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
            try:
                say(f"{way.rpartition(':')[0].rpartition(':')[0]} leads to the coordinator of {name}; Ctrl-C ends it")
                _, said = process.communicate()
            except BaseException:
                process.terminate()
                raise
    if process.returncode:
        raise ssh.explained(target, process.returncode, said)


def _keyring(place: Workspace, party: str) -> Keyring:
    from consortium.documents import load_consortium
    from consortium.keyring import Keyring

    return Keyring(place, party, load_consortium(place.root).name)


def _private(place: Workspace, party: str) -> str:
    from consortium.ssh_settings import SSH_KEY

    return _keyring(place, party).secret(SSH_KEY)


def _model(place: Workspace, party: str) -> Model:
    from consortium.documents import load_model

    return load_model(place.root, party)


def _targets(model: Model) -> dict[str, Target]:
    from consortium.machines import targets_of

    if not model.settings.ssh:
        raise UsageError(
            "this institution has no hosts: its nodes are containers",
            where=f"stacks/Pulumi.{model.party}.yaml: consortium:settings.placement",
            value=model.settings.placement,
            allowed="ssh",
        )
    return targets_of(model)


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":") if text.count(":") == 1 else (text, "", "22")
    if not port.isdecimal():
        raise UsageError("not an address", value=text, allowed="HOST or HOST:PORT")
    return (host if colon else text), int(port)


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConsortiumError("the key cannot be read", where=os.fspath(path), value=str(error)) from error
