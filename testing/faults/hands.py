"""What faults do to nodes: look at processes, change files, and act from inside a node's network."""

from __future__ import annotations

import io
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath

import docker.errors

from testing.consortium import Consortium
from testing.faults.fault import UNDO_S, until
from testing.nodes import Node

SYSTEM_PYTHON = "/usr/bin/python3"


def healthy(node: Node, limit_s: float = UNDO_S) -> None:
    """Wait until a node's services run and answer. Raises TimedOut."""
    until(lambda: node.run("/usr/local/bin/node-health")[0] == 0, f"the health of {node.name}", limit_s)


def recovered(consortium: Consortium, timeout_s: float = UNDO_S) -> None:
    """Wait until every node is healthy and all parties hear one another. Raises TimedOut."""
    for party in consortium.parties.values():
        for node in party.nodes:
            healthy(node, timeout_s)
    consortium.wait_until_connected(timeout_s)


def read_bytes(node: Node, path: str) -> bytes:
    """A file of a node. Through the engine's archives: an exec now and then loses the begin of its output."""
    return _fetch(node, path)[1]


def read(node: Node, path: str) -> str:
    """A text file of a node."""
    return read_bytes(node, path).decode()


def write(node: Node, path: str, content: str | bytes) -> None:
    """Replace or make a file in one step, with the owner and mode of the old one (a new one: root's, 0644)."""
    target = PurePosixPath(path)
    try:
        member = _fetch(node, path)[0]
    except docker.errors.NotFound:
        member = tarfile.TarInfo()
        member.mode = 0o644
    member.name = f".{target.name}.new"
    data = content.encode() if isinstance(content, str) else content
    member.size, member.mtime = len(data), int(time.time())
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        tar.addfile(member, io.BytesIO(data))
    node.container.put_archive(str(target.parent), out.getvalue())
    node.check("mv", str(target.parent / member.name), path)


def _fetch(node: Node, path: str) -> tuple[tarfile.TarInfo, bytes]:
    stream, _ = node.container.get_archive(path)
    with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as tar:
        (member,) = tar.getmembers()
        content = tar.extractfile(member)
        assert content is not None, f"{path} of {node.name} is no file"
        return member, content.read()


@contextmanager
def changed(node: Node, path: str, change: Callable[[str], str]) -> Iterator[None]:
    """A file of a node with other content, put back afterwards as it was."""
    before = read(node, path)
    try:
        write(node, path, change(before))
        yield
    finally:
        write(node, path, before)


@contextmanager
def added(node: Node, path: str, text: str) -> Iterator[None]:
    """A file that was not there, removed afterwards."""
    try:
        write(node, path, text)
        yield
    finally:
        node.check("rm", "-f", path)


def restart(node: Node, service: str) -> None:
    """Restart a service and wait until the node is healthy again. Raises TimedOut."""
    node.run("sv", "-w", "10", "restart", f"/etc/service/{service}")
    healthy(node)


def network_administrator(node: Node, program: str, *arguments: str) -> None:
    """Run a Python program with NET_ADMIN in a node's network; the node itself has neither right nor tools for it.

    Raises docker.errors.ContainerError with what the program said.
    """
    container = node.container
    node.engine.containers.run(
        container.attrs["Image"],
        ["-I", "-c", program, *arguments],
        entrypoint=SYSTEM_PYTHON,
        network_mode=f"container:{container.id}",
        cap_add=["NET_ADMIN"],
        labels={"consortium.name": node.consortium},
        remove=True,
        stderr=True,
    )


def remove_container(consortium: Consortium, name: str) -> None:
    """Remove a helper container; harmless when it is gone."""
    try:
        consortium.engine.containers.get(name).remove(force=True)
    except docker.errors.NotFound:
        return


def mounter(node: Node, script: str) -> None:
    """Run a shell script among a node's mounts with the right to change them; the node itself does not have it.

    Raises docker.errors.ContainerError with what the script said.
    """
    container = node.container
    node.engine.containers.run(
        container.attrs["Image"],
        ["-t", "1", "-m", "sh", "-c", script],
        entrypoint="/usr/bin/nsenter",
        pid_mode=f"container:{container.id}",
        network_mode="none",
        cap_add=["SYS_ADMIN", "SYS_PTRACE", "SYS_CHROOT"],
        security_opt=["apparmor=unconfined"],
        labels={"consortium.name": node.consortium},
        remove=True,
        stderr=True,
    )
