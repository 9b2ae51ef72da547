"""Disks that can be full: small ones of their own, made before the institutions are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from consortium.errors import UsageError
from testing.faults.fault import fault
from testing.party import Party

Which = Literal["state", "jobs"]
_FOLDERS: dict[Which, str] = {"state": "/var/lib/consortium", "jobs": "/var/lib/consortium-jobs"}
MOST_BYTES = 1_000_000_000
"""A disk larger than this is the machine's own: nobody wants that full."""


@fault("disk")
def disk_full(party: Party, which: Which = "state") -> Iterator[str]:
    """The disk of a party's coordinator (or of its jobs) is full: not one byte more can be written.

    Needs `Consortium(disk_mb=…)`. Raises UsageError where the disk is the machine's own.
    """
    head, folder = party.head, _FOLDERS[which]
    size, free = (int(word) for word in head.check("stat", "-f", "-c", "%b %a", folder).split())
    block = int(head.check("stat", "-f", "-c", "%S", folder))
    if size * block > MOST_BYTES:
        raise UsageError(
            "this disk is the machine's own, and is not filled",
            where=f"{head.name}: {folder}",
            value=f"{size * block} bytes",
            allowed=f"at most {MOST_BYTES}",
            fix="Consortium(disk_mb=100) gives every coordinator small disks of its own",
        )
    filler = f"{folder}/.filled-by-a-fault"
    try:
        code, text = head.run("sh", "-c", f"cat /dev/zero > {filler}")
        if code == 0 or "No space left" not in text:
            raise AssertionError(f"{head.name}: {folder} was not filled: {text}")
        yield f"filled the {which} disk of {party.name}: {free * block} bytes were free, none is"
    finally:
        head.check("rm", "-f", filler)
