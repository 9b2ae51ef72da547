"""`consortium job …` and `consortium status`: what an operator and a data scientist do every day."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from consortium.cli import _job_output as show
from consortium.cli._common import JsonOption, PartyOption, WorkspaceOption, YesOption, emit, err, out, say, visible
from consortium.cli._completion import jobs_here, jobs_that_wait_for_approval
from consortium.cli._coordinator import ApiOption, coordinator
from consortium.cli._judging import DiffOnlyOption, FullOption, judge, part_of
from consortium.client import Coordinator
from consortium.errors import ConsortiumError, Unreachable

JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="The job's id.", autocompletion=jobs_here)]
ProposedArgument = Annotated[
    str, typer.Argument(metavar="JOB", help="The job's id.", autocompletion=jobs_that_wait_for_approval)
]
ReasonOption = Annotated[str, typer.Option("--reason", help="Signed and shown to every party.")]


class JobDidNotSucceed(ConsortiumError):
    """A job has ended, but not well."""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Submit, approve, watch and end jobs.", no_args_is_help=True)
    for command in (submit, approve, deny, cancel, suspend, restart, wait, logs, result):
        group.command()(command)
    group.command(name="list")(list_jobs)
    group.command(name="status")(job_status)
    app.add_typer(group, name="job")
    app.command(name="status")(institution_status)


def submit(
    folder: Annotated[
        Path, typer.Argument(help="A folder with job.yaml and the program.", exists=True, file_okay=False)
    ],
    key: Annotated[str | None, typer.Option(help="Submitting twice with the same key makes one job.")] = None,
    queue: Annotated[bool, typer.Option("--queue", help="Propose it even if a party is down.")] = False,
    party: PartyOption = None,
    api: ApiOption = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Propose a job to the parties its job.yaml names.

    Example: `consortium job submit jobs/psi`
    """
    from coordinator.bundle import BundleError, pack, read_folder, read_job_file

    try:
        files = read_folder(folder, MAX_BUNDLE_BYTES)
        bundle, parties = pack(files), read_job_file(files).parties
    except BundleError as error:
        raise ConsortiumError("this job folder cannot be submitted", where=str(folder), value=str(error)) from error
    own = coordinator(workspace, party, api)
    if not queue:
        _refuse_absent(own, parties)
    job = own.submit(bundle, key)
    emit(job, as_json, lambda: say(f"{job['job_id']}  {job.get('phase', 'proposed')}"))


MAX_BUNDLE_BYTES = 10_000_000


def _refuse_absent(own: Coordinator, parties: Sequence[str]) -> None:
    """A job that would only wait for a party that is down is refused here, by name. Raises Unreachable."""
    peers = own.get("/status")["peers"]
    for name in parties:
        peer = peers.get(name)
        if peer and not peer["up"]:
            raise Unreachable(
                f"{name} is down: its coordinator does not answer through the two gateways",
                where=f"party {name}",
                value=visible(str(peer["error"])) or f"last heard {peer['heard_s']} s ago",
                fix=f"ask the operator of {name} to look at its gateway and head; to propose all the same: --queue",
            )


def approve(
    job: ProposedArgument,
    yes: YesOption = False,
    wait_s: Annotated[float, typer.Option("--wait", help="Seconds to wait for the job to arrive here.")] = 0,
    reason: ReasonOption = "",
    diff_only: DiffOnlyOption = False,
    full: FullOption = False,
    party: PartyOption = None,
    api: ApiOption = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read the job's program and what changed in it, then say yes to it for this institution.

    The yes counts for the proposal that was shown and for no other. With --json nothing is asked: it needs --yes.

    Example: `consortium job approve 20260101-psi-abcdef`
    """
    own, part = coordinator(workspace, party, api), part_of(diff_only, full)
    judge(own, "approve", job, wait_s=wait_s, reason=reason, part=part, yes=yes, as_json=as_json)


def deny(
    job: ProposedArgument,
    yes: YesOption = False,
    reason: ReasonOption = "",
    diff_only: DiffOnlyOption = False,
    full: FullOption = False,
    party: PartyOption = None,
    api: ApiOption = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read the job's program, then say no to it for this institution; it then ends everywhere.

    Example: `consortium job deny 20260101-psi-abcdef --reason "no legal basis"`
    """
    own, part = coordinator(workspace, party, api), part_of(diff_only, full)
    judge(own, "deny", job, wait_s=0, reason=reason, part=part, yes=yes, as_json=as_json)


def cancel(
    job: JobArgument,
    reason: ReasonOption = "",
    party: PartyOption = None,
    api: ApiOption = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """End a job at every party, whether it runs or not.

    Example: `consortium job cancel 20260101-psi-abcdef`
    """
    _ask(coordinator(workspace, party, api), job, "cancel", reason, as_json)


def suspend(
    job: JobArgument,
    reason: ReasonOption = "",
    party: PartyOption = None,
    api: ApiOption = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Stop a running job at every party for now; in Kuscia mode only.

    Example: `consortium job suspend 20260101-psi-abcdef --reason "maintenance tonight"`
    """
    _ask(coordinator(workspace, party, api), job, "suspend", reason, as_json)


def restart(
    job: JobArgument,
    reason: ReasonOption = "",
    party: PartyOption = None,
    api: ApiOption = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Go on with a suspended job, from the tasks that had not succeeded; in Kuscia mode only.

    Example: `consortium job restart 20260101-psi-abcdef`
    """
    _ask(coordinator(workspace, party, api), job, "restart", reason, as_json)


def _ask(own: Coordinator, job: str, verb: str, reason: str, as_json: bool) -> None:
    found = own.post(f"/jobs/{job}/{verb}", data={"reason": reason})
    emit(found, as_json, lambda: show.one_line(found, job))


def list_jobs(
    party: PartyOption = None, api: ApiOption = None, workspace: WorkspaceOption = None, as_json: JsonOption = False
) -> None:
    """The jobs this institution knows.

    Example: `consortium job list --json`
    """
    answer = coordinator(workspace, party, api).get("/jobs")
    jobs = answer["jobs"] if isinstance(answer, dict) else answer
    emit(jobs, as_json, lambda: show.table(jobs))


def job_status(
    job: Annotated[
        str | None,
        typer.Argument(metavar="[JOB]", help="The job's id; without it, all jobs.", autocompletion=jobs_here),
    ] = None,
    party: PartyOption = None,
    api: ApiOption = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Where a job is, at every party, and why.

    Example: `consortium job status 20260101-psi-abcdef`
    """
    if job is None:
        list_jobs(party, api, workspace, as_json)
        return
    found = coordinator(workspace, party, api).get(f"/jobs/{job}")
    emit(found, as_json, lambda: show.detail(found))


def institution_status(
    party: PartyOption = None, api: ApiOption = None, workspace: WorkspaceOption = None, as_json: JsonOption = False
) -> None:
    """This institution at a glance: peers, slots, jobs, certificate.

    Example: `consortium status`
    """
    found = coordinator(workspace, party, api).get("/status")
    emit(found, as_json, lambda: show.status(found))


def wait(
    job: JobArgument,
    timeout_s: Annotated[float, typer.Option("--timeout", help="Seconds to wait.")] = 3600,
    party: PartyOption = None,
    api: ApiOption = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Wait for a job's end, and say on standard error where it is meanwhile.

    Exit code 0 if it succeeded, 1 if it ended otherwise, 6 if the time is up.

    Example: `consortium job wait 20260101-psi-abcdef --timeout 600`
    """
    own, progress = coordinator(workspace, party, api), show.Progress(err)
    found = own.wait(f"/jobs/{job}", _ended, timeout_s, f"the end of job {job}", seen=progress.show)
    if found["phase"] != "succeeded":
        raise JobDidNotSucceed(
            f"the job ended as {found['phase']}",
            where=job,
            value=visible(str(found.get("reason", ""))),
            fix=f"consortium job logs {job}",
        )
    emit(found, as_json, lambda: show.one_line(found, job))


def _ended(job: Any) -> bool:
    # Settled: every party's signature is here. A failed job may never get the signature of a party that is gone.
    return bool(job.get("terminal")) and (bool(job.get("settled", True)) or job["phase"] != "succeeded")


def logs(
    job: JobArgument,
    attempt: Annotated[int | None, typer.Option(min=1, help="Default: the newest.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job ends.")] = False,
    party: PartyOption = None,
    api: ApiOption = None,
    workspace: WorkspaceOption = None,
) -> None:
    """What this institution's program of a job printed.

    Example: `consortium job logs 20260101-psi-abcdef --follow`
    """
    own = coordinator(workspace, party, api)
    printed = 0
    while True:
        ended = not follow or bool(own.get(f"/jobs/{job}").get("terminal"))
        text = show.log_text(own.get(f"/jobs/{job}/logs", attempt=attempt))
        out.file.write(visible(text[printed:]))
        out.file.flush()
        printed = max(printed, len(text))
        if ended:
            return
        time.sleep(1)


def result(
    job: JobArgument,
    party: PartyOption = None,
    api: ApiOption = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """What a job's program handed back at this institution.

    Example: `consortium job result 20260101-psi-abcdef`
    """
    found = coordinator(workspace, party, api).get(f"/jobs/{job}/result")
    emit(
        {"job_id": job, "result": found}, as_json, lambda: say(visible(json.dumps(found, indent=2, ensure_ascii=False)))
    )
