"""`consortium audit …`: check the own audit log, or exported ones, and compare two parties' logs."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from consortium.cli._common import JsonOption, PartyOption, WorkspaceOption, emit, err, say, visible
from consortium.cli._coordinator import ApiOption, coordinator
from consortium.cli._signing_keys import KeyOption, PartyFileOption, signing_keys
from consortium.errors import EXIT_FAILED, ConsortiumError, UsageError

PROGRESS = 1 << 18


class AuditFault(ConsortiumError):
    """An audit log is not what it should be, or two of them contradict one another."""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Check, compare and export audit logs.", no_args_is_help=True)
    for command in (verify, compare, export):
        group.command()(command)
    app.add_typer(group, name="audit")


def verify(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Exports; those of one party must join. Default: the own log.")
    ] = None,
    every_signature: Annotated[
        bool, typer.Option("--every-signature", help="Check each one by itself: slower, and finds no more forgeries.")
    ] = False,
    access_log: Annotated[
        list[Path] | None, typer.Option("--access-log", help="A gateway's log to compare with its digests.")
    ] = None,
    key: KeyOption = None,
    party_file: PartyFileOption = None,
    party: PartyOption = None,
    api: ApiOption = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check that no record of an audit log was changed, removed, moved or added. Exit code 1 if one was.

    Example: `consortium audit verify`

    Example: `consortium audit verify bob-2026-11-23.jsonl bob-2026-11-24.jsonl --party-file parties/bob.yaml`
    """
    from coordinator.audit_report import verify_files

    keys, consortium = signing_keys(key, party_file, workspace)
    with _readable(), _own_log(files, party, api, workspace) as paths:
        reports = verify_files(
            paths,
            keys,
            consortium=consortium,
            every_signature=every_signature,
            access_logs=access_log or (),
            progress=_progress,
        )
    emit(reports, as_json, lambda: _show(reports))
    _judge([str(r["fault"]) for r in reports], ", ".join(r["file"] for r in reports if r["fault"]), as_json)


def compare(
    left: Annotated[Path, typer.Argument(help="One party's export.")],
    right: Annotated[Path, typer.Argument(help="Another party's export.")],
    key: KeyOption = None,
    party_file: PartyFileOption = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check two parties' logs, then what both must agree on. Exit code 1 names the first divergence.

    Example: `consortium audit compare alice.jsonl bob.jsonl`
    """
    from coordinator.audit_report import compare_files

    keys, consortium = signing_keys(key, party_file, workspace)
    with _readable():
        found = compare_files(left, right, keys, consortium, progress=_progress)
    emit(found, as_json, lambda: _show_comparison(found))
    _judge([found["fault"]], f"{left}, {right}", as_json)


def export(
    target: Annotated[Path, typer.Argument(help="The file to write; one of this name is replaced.")],
    start: Annotated[str | None, typer.Option("--from", help="Number of a record, or UTC date YYYY-MM-DD.")] = None,
    end: Annotated[str | None, typer.Option("--to", help="Number of a record, or UTC date; included.")] = None,
    party: PartyOption = None,
    api: ApiOption = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the own audit log to a file: records, and the heads that peers counter-signed.

    Example: `consortium audit export alice.jsonl --from 2026-11-01 --to 2026-11-30`
    """
    from coordinator.audit_export import Export, write_whole

    own = coordinator(workspace, party, api)
    with _readable():
        digest = write_whole(target, own.stream("/audit", start=start, end=end))
        written = Export(target)
    if written.problems:
        raise ConsortiumError("the export is not whole", where=str(target), value=written.problems[0], fix="again")
    made = {"file": str(target), "records": written.end.records if written.end else 0, "sha256": digest}
    emit(made, as_json, lambda: say(f"{target}: {made['records']} records"))


@contextmanager
def _own_log(
    files: list[Path] | None, party: str | None, api: str | None, workspace: Path | None
) -> Iterator[list[Path]]:
    """The files given, or the own log, fetched for the check."""
    if files:
        yield files
        return
    from coordinator.audit_export import write_whole

    own = coordinator(workspace, party, api)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "audit.jsonl"
        write_whole(path, own.stream("/audit"))
        yield [path]


@contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        raise UsageError(
            "this cannot be checked as an audit log",
            value=visible(str(error)),
            fix="name files of `consortium audit export`, and the keys of their parties: --party-file, --key",
        ) from error


def _progress(records: int) -> None:
    if records % PROGRESS == 0:
        err.print(f"… record {records:,}")


def _judge(faults: list[str], where: str, as_json: bool) -> None:
    fault = next((f for f in faults if f), "")
    if fault and as_json:
        raise typer.Exit(EXIT_FAILED)
    if fault:
        raise AuditFault("this audit log is not what it should be", where=where, value=visible(fault))


def _show(reports: list[dict[str, Any]]) -> None:
    for report in reports:
        say(
            f"{report['party']} of {report['consortium']}: records {report['first']} to {report['last']} of "
            f"{report['log']}, {report['signatures']} signatures checked, head {report['head'][:16]}…"
        )
        for peer, seen in report["confirmed"].items():
            say(f"  confirmed by {peer} up to record {seen['record']} at {_time(seen['at'])}")
        for peer, seen in report["later"].items():
            text = f"{peer} counter-signed record {seen['record']} at {_time(seen['at'])}, after this export"
            say(f"  {text}: ask {report['party']} for a newer one, which must reach it")
        for log in report.get("access_log", {}).get("files", []):
            say(f"  access log {log['file']}: {log['pieces']} digests, {log['bytes']} bytes")
        for problem in report.get("access_log", {}).get("problems", []):
            say(f"  {visible(problem)}")


def _show_comparison(found: Mapping[str, Any]) -> None:
    _show(list(found["logs"].values()))
    if "jobs" not in found:
        return
    say(f"{found['jobs']} jobs and {found['statements']} statements in both, {len(found['divergences'])} divergences")
    for divergence in found["divergences"]:
        say(visible(f"  job {divergence['job_id']}: {divergence['what']}"))
    for name, jobs in found["unseen"].items():
        for job, statements in jobs.items():
            say(visible(f"  not yet seen by {name}: job {job}: {', '.join(statements)}"))
    for name, only in found["only"].items():
        if only:
            say(f"  only {name} knows {len(only)} jobs, the first is {visible(only[0])}")


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
