"""A coordinator's disk that is full, really: a small one, in memory, laid over the folder of its state."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from testing.faults.fault import fault
from testing.faults.hands import healthy, mounter
from testing.nodes import Node
from testing.party import Party

STATE = "/var/lib/consortium"
AWAY = "/run/consortium-state-below"
SIZE_MB = 320
"""More than `min_free_bytes`, or the coordinator would take no new jobs before anything is filled."""
_COORDINATOR = "/etc/service/coordinator"
_LAY = f"""set -e
mkdir -p {AWAY}
mount -t tmpfs -o size={SIZE_MB}m,mode=700 tmpfs {AWAY}
cp -a {STATE}/. {AWAY}/
chown --reference={STATE} {AWAY}
chmod --reference={STATE} {AWAY}
mount --move {AWAY} {STATE} 2>/dev/null || {{ mount --bind {AWAY} {STATE}; umount {AWAY}; }}
"""
_LIFT = f"""set -e
mkdir -p {AWAY}
mount --bind {STATE} {AWAY}
umount {STATE}
find {STATE} -mindepth 1 -delete
cp -a {AWAY}/. {STATE}/
sync
umount {AWAY}
"""


@contextmanager
def small_disk(party: Party) -> Iterator[None]:
    """The coordinator's state is on a small disk for a while, and is copied back afterwards.

    Both begin and end restart the coordinator. The head must not be restarted meanwhile: that would undo it.
    Around a small disk it does nothing.
    """
    head = party.head
    if _small(head):
        yield
        return
    _at_rest(head, _LAY)
    try:
        yield
    finally:
        _at_rest(head, _LIFT)


@fault("disk")
def disk_full(party: Party) -> Iterator[str]:
    """The disk of a party's coordinator is full: not one byte more can be written."""
    head, filler = party.head, f"{STATE}/.filled-by-a-fault"
    with small_disk(party):
        try:
            code, text = head.run("sh", "-c", f"cat /dev/zero > {filler}")
            if code == 0:
                raise AssertionError(f"{head.name}: {STATE} was not filled: {text}")
            yield f"filled the disk of {party.name}'s coordinator to the last byte"
        finally:
            head.check("rm", "-f", filler)


def _small(head: Node) -> bool:
    return head.run("sh", "-c", f"grep -q ' {STATE} tmpfs ' /proc/mounts")[0] == 0


def _at_rest(head: Node, script: str) -> None:
    head.check("sv", "-w", "15", "force-stop", _COORDINATOR)
    try:
        mounter(head, script)
    finally:
        head.check("sv", "up", _COORDINATOR)
    healthy(head)
