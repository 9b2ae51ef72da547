"""The driver of one attempt at this party: its folder, its session file, its end."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any

from coordinator.bundle import BundleError, digest, unpack
from coordinator.context import Context
from coordinator.launcher import LauncherError, RefusedError, State, Submission, submission_id
from coordinator.model import Driver, Job
from coordinator.statements import DecisionBody, job_name

_FOLDER, _FILE = 0o2770, 0o640  # shared with the group under which Ray runs the driver
_READ_LIMIT = 10_000_000
_READY = "ready_at"  # in session.json, written by the driver
_READY_POLL_S = 0.01
_LOOK_S = 2.0  # a busy machine's Ray may take so long to answer, however soon a peer counts as lost
_LEASE_GRACE_S = 2.0  # a coordinator that is restarted at once finds its driver alive


async def launch(context: Context, job: Job, slot: int) -> None:
    """Write the attempt's folder and submit its driver. Raises LauncherError; RefusedError for another program."""
    files = _approved_program(context, job)
    folder = context.attempt_dir(job.job_id, job.attempt)
    program = folder / "program"
    for path in (folder.parent, folder, folder / "output", program):
        _make(path)
    for name, content in files.items():
        for parent in reversed(Path(name).parents[:-1]):
            _make(program / parent)
        _write(program / name, content)
    _write(_lease_file(context, job), b"")
    session = session_document(context, job, slot)
    _write(folder / "session.json", json.dumps(session, indent=2).encode())
    assert context.config.ray is not None
    await context.launcher.submit(
        Submission(
            submission_id(job.job_id, job.attempt),
            context.config.ray.python,
            program / job.proposal.program,
            folder / "session.json",
        )
    )


def _approved_program(context: Context, job: Job) -> dict[str, bytes]:
    """The job folder; what was checked before the promise may have been changed since. Raises RefusedError."""
    wanted = job.proposal.program_digest
    try:
        files = unpack(context.bundle_path(wanted).read_bytes(), context.config.limits.bundle_bytes)
    except (OSError, BundleError) as e:
        raise RefusedError(f"the program cannot be read: proposed {wanted}: {e}") from e
    if (found := digest(files)) != wanted:
        raise RefusedError(f"the program differs: proposed {wanted}, {context.config.party} has {found}")
    return files


def go_file(context: Context, job: Job) -> Path:
    """Where the driver looks for the agreed moment."""
    return context.attempt_dir(job.job_id, job.attempt) / "go.json"


def tell_go(context: Context, job: Job, start_at: float) -> None:
    """Tell the waiting driver the agreed moment, on this party's clock. Raises OSError."""
    _write(go_file(context, job), json.dumps({"start_at": start_at}).encode())


def _lease_file(context: Context, job: Job) -> Path:
    return context.attempt_dir(job.job_id, job.attempt) / "lease"


async def await_ready(context: Context, job: Job, limit_s: float) -> None:
    """Return as soon as the driver says that it has loaded, or after `limit_s`."""
    output = context.attempt_dir(job.job_id, job.attempt) / "output"
    end = time.monotonic() + limit_s
    while _READY not in _json(output / "session.json") and time.monotonic() < end:
        await asyncio.sleep(_READY_POLL_S)


def session_document(context: Context, job: Job, slot: int) -> dict[str, Any]:
    """What the driver is told; `coordinator.session.Settings` reads it."""
    config, proposal = context.terms_of(job), job.proposal
    decision = job.decision(job.attempt)
    assert isinstance(decision, DecisionBody)
    ray = config.ray
    assert ray is not None

    def service(name: str) -> dict[str, Any]:
        peers = {p: getattr(config.peers[p], name)[str(decision.slots[p])] for p in job.others}
        listen = getattr(config.own, name)[str(slot)]
        return {"listen": listen, "peers": peers, "resources": ray.head_resources}

    return {
        "consortium": config.consortium,
        "party": config.party,
        "parties": list(proposal.parties),
        "job_id": job.job_id,
        "attempt": job.attempt,
        "job_name": job_name(job.job_id, job.attempt),
        "slot": slot,
        "ray_address": ray.address,
        "fed": service("fed"),
        "spu": service("spu"),
        "datasets": {
            party: {n: str(config.datasets[n]) if party == config.party else None for n in names}
            for party, names in proposal.datasets.items()
        },
        "output_dir": str(context.attempt_dir(job.job_id, job.attempt) / "output"),
        "timeouts": {
            "cross_silo_comm_options": config.timeouts.cross_silo_comm_options,
            "link_desc": config.timeouts.spu_link_desc,
            "init_s": config.timeouts.rayfed_barrier_s,
            "shutdown_s": config.timeouts.shutdown_s,
            "job_s": config.timeouts.job_s,
            "go_s": config.timeouts.start_window_s,
            "lease_s": config.timeouts.peer_lost_after_s + _LEASE_GRACE_S,
        },
        "go_file": str(go_file(context, job)),
        "lease_file": str(_lease_file(context, job)),
        "parameters": proposal.parameters,
    }


async def observe(context: Context, job: Job) -> Driver:
    """State of the current attempt's driver, with its result or error once it has ended. Renews its lease."""
    with contextlib.suppress(FileNotFoundError):  # not launched yet
        os.utime(_lease_file(context, job))
    asked_at = time.monotonic()
    # whoever waits longer does not see what peers sent meanwhile
    limit_s = max(_LOOK_S, context.config.timeouts.peer_lost_after_s / 2)
    try:
        async with asyncio.timeout(limit_s):
            state, message = await context.launcher.status(submission_id(job.job_id, job.attempt))
    except (LauncherError, TimeoutError) as e:
        # a Ray that stands still is silent from the question on, not from the end of our patience
        context.ray_failing_since = context.ray_failing_since or asked_at
        return Driver("unreachable", str(e) or f"no answer within {limit_s:g} s")
    context.ray_failing_since = None
    output = context.attempt_dir(job.job_id, job.attempt) / "output"
    times = _json(output / "session.json")
    started = _started_at(times)
    if state is State.UNKNOWN:
        return Driver("absent", started_at=started)
    if state in (State.PENDING, State.RUNNING):
        return Driver("live", ready=_READY in times, started_at=started)
    if state is State.STOPPED:
        return Driver("stopped", "the driver was stopped through Ray", "driver-stopped", True, started_at=started)
    result = read_output(output / "result.json")
    if state is State.SUCCEEDED and result is not None:
        return Driver("succeeded", result_digest=hashlib.sha256(result).hexdigest(), started_at=started)
    error = _json(output / "error.json").get("error")
    if isinstance(error, str) and error.startswith("lease:"):
        return Driver("failed", error, "lease-lost", True, started_at=started)
    if isinstance(error, str):
        # what failed before SecretFlow was up was no fault of the program
        return Driver("failed", error, "program-failed", error.startswith("sf.init"), started_at=started)
    if state is State.SUCCEEDED:
        return Driver("failed", "the program ended without a result: does it use `with session()`?", "no-result")
    ended = message[-1500:] or "the driver ended with an error"
    return Driver("failed", ended, "driver-failed", True, started_at=started)


def read_output(path: Path) -> bytes | None:
    """An output file of the driver; None when missing. The driver's user owns the folder: no link is followed."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            return file.read(_READ_LIMIT)
    except OSError:
        return None


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(read_output(path) or b"{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _started_at(times: dict[str, Any]) -> float | None:
    value = times.get("sf_init_entered_at")
    return float(value) if isinstance(value, int | float) and 0 <= value <= 1e11 else None


def _make(path: Path) -> None:
    path.mkdir(exist_ok=True)
    path.chmod(_FOLDER)


def _write(path: Path, content: bytes) -> None:
    draft = path.with_name(f".{path.name}.new")
    draft.write_bytes(content)
    draft.chmod(_FILE)
    draft.replace(path)
