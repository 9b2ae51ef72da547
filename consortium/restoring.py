"""Puts a backup into an institution's head: on a new machine, or where the disk was lost. Nothing is ever deleted.

Look, decide and act are apart; the decision is pure. A restored party is older than what it has said (docs/runbook.md).
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

import docker
import docker.errors
import requests
from docker.models.containers import Container

from consortium import engine_socket
from consortium.client import Coordinator, Lost
from consortium.errors import ConsortiumError, Refused, TimedOut, Unreachable
from consortium.node_paths import STATE_DIR
from consortium.spec import Model
from coordinator.backup_file import Label

UP_S = 120.0
SERVICE = "/etc/service/coordinator"
ARRIVED = "restore.tar"
_PIECE = 1 << 20


@dataclass(frozen=True)
class Here:
    """What the head holds now. `continues`: its log goes on from the very record at which the backup ends."""

    records: int
    jobs: int
    continues: bool


class Step(StrEnum):
    """What is to be done."""

    NOTHING = "nothing"
    RESTORE = "restore"


def decide(here: Here | None, label: Label, replace: bool) -> Step:
    """Whether a backup may take the place of what is here; None: the coordinator does not answer.

    Raises Refused where work of somebody could be lost: it never guesses.
    """
    if here is None:
        if not replace:
            raise Refused(
                "what the head holds cannot be seen, since its coordinator does not answer",
                fix="consortium up, and again; if its state is damaged: --replace (the old state is moved aside)",
            )
        return Step.RESTORE
    if here.continues:
        return Step.NOTHING
    if here.jobs and not replace:
        raise Refused(
            "there are jobs here that the backup does not go on from: two histories of one party cannot be joined",
            value=f"here: {here.jobs} jobs, {here.records} audit records; backup: up to record {label.audit_seq}",
            allowed="an institution without jobs, or one whose log begins with the backup's",
            fix="keep what is here; or --replace, which moves it aside on the head and takes the backup",
        )
    return Step.RESTORE


def look(coordinator: Coordinator, label: Label) -> Here | None:
    """What the head holds, as its coordinator tells. Raises Refused for a wrong token."""
    try:
        status = coordinator.get("/status")
        records = int(status["audit"]["seq"])
        continues = records >= label.audit_seq and _hash(coordinator, label.audit_seq) == label.audit_hash
    except (Unreachable, TimedOut, Lost):
        return None
    return Here(records, sum(status["jobs"].values()), continues)


def _hash(coordinator: Coordinator, seq: int) -> str:
    """Of the record `seq`: an export that begins behind it names it."""
    lines = b"".join(coordinator.stream("/audit", start=str(seq), end=str(seq))).splitlines()
    found = [json.loads(line) for line in lines]
    return next((str(one["hash"]) for one in found if one.get("seq") == seq and "hash" in one), "")


@dataclass(frozen=True)
class Restored:
    """What was put in place. `set_aside`: where the earlier state lies on the head now; empty if there was none."""

    set_aside: str
    open_jobs: tuple[str, ...]
    """Those that were open when the backup was made: this party may have said more about them than it knows."""


def put_in_place(
    model: Model, coordinator: Coordinator, backup: Path, now: datetime, progress: Callable[[str], None]
) -> Restored:
    """Stop the coordinator, move its state aside, restore, start it, and wait for it.

    Raises ConsortiumError; then the coordinator is started again with what is there, and nothing is lost.
    """
    if model.settings.placement != "docker":
        raise ConsortiumError(
            "restoring over SSH is done on the head itself",
            where=f"stacks/Pulumi.{model.party}.yaml: consortium:settings.placement",
            value=model.settings.placement,
            fix="docs/runbook.md, Restore, has the commands",
        )
    aside = f"{STATE_DIR}/old-{now.astimezone(UTC):%Y%m%dT%H%M%SZ}"
    with engine_socket.local(model.settings.engine) as address:
        moved = _exchange(_head(model, address), backup, aside, progress)
    progress("waiting for the coordinator")
    up = "the start of the restored coordinator"
    coordinator.wait("/status", lambda status: bool(status["audit"]["seq"]), UP_S, up)
    jobs = coordinator.get("/jobs", limit=1000)["jobs"]
    return Restored(aside if moved else "", tuple(job["job_id"] for job in jobs if not job["terminal"]))


def _exchange(head: Container, backup: Path, aside: str, progress: Callable[[str], None]) -> bool:
    """Whether there was a state to move aside."""
    progress("stopping the coordinator (drivers that run end by themselves)")
    _run(head, "sv", "-w", "60", "force-stop", SERVICE)
    try:
        progress(f"moving what is there to {aside}")
        moved = _run(head, "sh", "-c", _MOVE, "sh", str(STATE_DIR), aside).strip()
        progress(f"sending the backup ({backup.stat().st_size:,} bytes)")
        _send(head, backup)
        progress("restoring: every page, record and job folder is checked")
        source = f"{STATE_DIR}/{ARRIVED}"
        try:
            command = ("/opt/coordinator/bin/python", "-m", "coordinator", "restore", source)
            _run(head, *command, user="coordinator")
        except ConsortiumError:
            _run(head, "sh", "-c", _BACK, "sh", str(STATE_DIR), aside)
            raise
        finally:
            _run(head, "rm", "-f", source)
    finally:
        _run(head, "sv", "start", SERVICE)
    return bool(moved)


_MOVE = """
set -eu
cd "$1"
set -- "$2" coordinator.db* bundles
aside=$1; shift
for name; do
    [ -e "$name" ] || continue
    [ -d "$aside" ] || { mkdir -m 700 "$aside"; chown coordinator: "$aside"; }
    mv "$name" "$aside/"
    echo "$name"
done
"""
_BACK = 'cd "$1" && [ -d "$2" ] || exit 0; mv "$2"/* . && rmdir "$2"'


def _head(model: Model, address: str) -> Container:
    name = f"{model.consortium.name}-{model.party}-head"
    try:
        head = docker.DockerClient(base_url=address, timeout=600).containers.get(name)
    except docker.errors.NotFound as error:
        fix = "consortium up makes it, on this machine too"
        raise ConsortiumError("the head is not there", where=model.settings.engine, value=name, fix=fix) from error
    except (docker.errors.DockerException, requests.RequestException) as error:
        raise Unreachable(
            "the container engine does not answer", where=model.settings.engine, value=str(error)
        ) from error
    if head.status != "running":
        raise ConsortiumError("the head does not run", value=f"{name}: {head.status}", fix="consortium up --refresh")
    return head


def _run(head: Container, *command: str, user: str = "root") -> str:
    code, output = head.exec_run(list(command), user=user)
    assert isinstance(output, bytes)
    said = output.decode(errors="replace")
    if code:
        raise ConsortiumError(
            "a step on the head failed", where=f"{head.name}: {' '.join(command[:4])[:200]}", value=said[-2000:]
        )
    return said


def _send(head: Container, backup: Path) -> None:
    owner = {name: int(_run(head, "id", flag, "coordinator")) for name, flag in (("uid", "-u"), ("gid", "-g"))}
    entry = tarfile.TarInfo(ARRIVED)
    entry.size, entry.mode, entry.uid, entry.gid = backup.stat().st_size, 0o600, owner["uid"], owner["gid"]
    if not head.put_archive(str(STATE_DIR), _as_tar(entry, backup)):
        raise ConsortiumError("the backup did not arrive on the head", where=str(head.name), fix="is its disk full?")


def _as_tar(entry: tarfile.TarInfo, path: Path) -> Iterator[bytes]:
    """A tar with one member, piece by piece: a backup need not fit into memory."""
    yield entry.tobuf(tarfile.PAX_FORMAT)
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            yield piece
    yield b"\0" * (-entry.size % tarfile.BLOCKSIZE + 2 * tarfile.BLOCKSIZE)


def told(label: Label, restored: Restored | None) -> dict[str, Any]:
    """For `--json`."""
    return {
        "party": label.party,
        "audit_seq": label.audit_seq,
        "made_at": label.made_at,
        "restored": restored is not None,
        "set_aside": restored.set_aside if restored else "",
        "open_jobs": list(restored.open_jobs) if restored else [],
    }
