"""What `audit verify` says about files of audit logs: plain data for people and programs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from coordinator.access_log import check_access_logs
from coordinator.audit_compare import compare, read
from coordinator.audit_export import Export, ExportError
from coordinator.audit_heads import Witnessed, check_head, check_witness
from coordinator.audit_verify import Fault, Verdict
from coordinator.signing import SigningError, Verifier

Progress = Callable[[int], None]


def verify_files(
    paths: Sequence[Path],
    keys: dict[str, str],
    *,
    consortium: str | None = None,
    every_signature: bool = False,
    access_logs: Sequence[Path] = (),
    progress: Progress = lambda _: None,
) -> list[dict[str, Any]]:
    """One report per file, in order; files of one party must join. `consortium`: None takes each header's word.

    The word of a header is safe: a signature holds for one consortium only. Raises ExportError, OSError.
    """
    found: list[dict[str, Any]] = []
    ends: dict[str, tuple[Path, Verdict]] = {}
    for path in paths:
        export = Export(path)
        verifier = verifier_for(export, keys, consortium)
        verdict = export.check(verifier, every_signature=every_signature, progress=progress)
        fault = verdict.fault or check_held(export, verifier) or _join(export, ends.get(export.header.party))
        made = report(export, verdict, fault)
        ends[export.header.party] = (path, verdict)
        if access_logs:
            made["access_log"] = check_access_logs(export.records(), access_logs)
            made["fault"] = made["fault"] or made["access_log"]["fault"]
        found.append(made)
    return found


def verifier_for(export: Export, keys: dict[str, str], consortium: str | None) -> Verifier:
    """The public keys for an export. Raises ExportError when its party's is not given, or the consortium is another."""
    header = export.header
    if header.party not in keys:
        raise ExportError(f"{export.path}: no key of {header.party} is given; given are those of {sorted(keys)}")
    if consortium is not None and header.consortium != consortium:
        raise ExportError(f"{export.path}: of the consortium {header.consortium!r}, wanted is {consortium!r}")
    return Verifier(header.consortium, keys)


def report(export: Export, verdict: Verdict, fault: Fault | None) -> dict[str, Any]:
    """A verdict as plain data; `fault` is empty if all is well."""
    return {
        "file": str(export.path),
        "consortium": export.header.consortium,
        "party": export.header.party,
        "first": verdict.first,
        "last": verdict.last,
        "records": verdict.records,
        "log": export.end.log if export.end else None,
        "exported_at": export.end.at if export.end else None,
        "head": verdict.head,
        "signatures": verdict.signatures,
        "confirmed": confirmed(verdict.confirmed),
        "confirmations": len(verdict.confirmed),
        "later": confirmed(verdict.later),
        "fault": fault.message if fault else "",
        "kind": fault.kind if fault else None,
        "record": fault.record if fault else None,
    }


def confirmed(heads: Iterable[Witnessed]) -> dict[str, dict[str, Any]]:
    """Peer -> the newest record that it counter-signed, and when (seconds since 1970, its clock)."""
    newest = sorted(heads, key=lambda w: w.head.seq)
    return {w.witness.by: {"record": w.head.seq, "at": w.witness.at} for w in newest}


def check_held(export: Export, verifier: Verifier) -> Fault | None:
    """A head of another party that the log's party cannot have counter-signed, or whose author it made up."""
    for witnessed in export.heads:
        head, witness = witnessed.head, witnessed.witness
        if head.party == export.header.party:
            continue
        if witness.by != export.header.party:
            return Fault(head.seq, "head", f"audit head {head.seq} of {head.party}: {witness.by} counter-signed it")
        try:
            check_witness(verifier, head, witness)
            if head.party in verifier.keys:
                check_head(verifier, head)
        except SigningError as e:
            return Fault(head.seq, "head", str(e))
    return None


def _join(export: Export, before: tuple[Path, Verdict] | None) -> Fault | None:
    """A gap between a file and the one before it of the same party."""
    if before is None:
        return None
    path, verdict = before
    if (verdict.last, verdict.head) == (export.header.after, export.header.after_hash):
        return None
    number = min(verdict.last, export.header.after) + 1
    text = (
        f"{path} ends with record {verdict.last}, {export.path} follows record {export.header.after}: they do not join"
    )
    return Fault(number, "missing" if export.header.after > verdict.last else "inserted", text)


def compare_files(
    left: Path, right: Path, keys: dict[str, str], consortium: str | None = None, *, progress: Progress = lambda _: None
) -> dict[str, Any]:
    """Verify two parties' exports, each also against the heads that the other one holds of it, then compare them.

    Raises ExportError, OSError, or ValueError for a record that is none of ours.
    """
    a, b = Export(left), Export(right)
    if a.header.party == b.header.party or a.header.consortium != b.header.consortium:
        names = [f"{e.header.party} of {e.header.consortium}" for e in (a, b)]
        raise ExportError(f"{left}, {right}: logs of {names}: two parties of one consortium are needed")
    reports = {}
    for one, other in ((a, b), (b, a)):
        verifier = verifier_for(one, keys, consortium)
        held = [w for w in other.held(one.header.party) if w.witness.by == other.header.party]
        verdict = one.check(verifier, heads=held, progress=progress)
        reports[one.header.party] = report(one, verdict, verdict.fault or check_held(one, verifier))
    faults = [f"{party}: {r['fault']}" for party, r in reports.items() if r["fault"]]
    made: dict[str, Any] = {"logs": reports, "fault": "; ".join(faults)}
    if faults:  # there is no point in comparing what is not what it was
        return made
    made |= compare(read(a.header.party, a.records()), read(b.header.party, b.records()))
    if found := made["divergences"]:
        made["fault"] = f"job {found[0]['job_id']}: {found[0]['what']}"
    return made
