"""How fast an audit log is checked: the chain with few signatures, beside every signature one by one."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from benchmarks.result import Result, median_s, timed
from coordinator.audit import GENESIS, Record, append
from coordinator.audit_export import Export, export_lines, header_of, write_whole
from coordinator.signing import Signer, Verifier

RECORDS = 100_000
FEW = 10_000  # one by one takes some 100 µs each
RUNS = 5
WANTED = 50_000


def verify_rate(folder: Path) -> list[Result]:
    """Records per second, from an export on disk: read, parsed, and checked."""
    signer = Signer("demo", "alice", Ed25519PrivateKey.generate())
    verifier = Verifier("demo", {"alice": signer.public})
    log: list[Record] = []
    for number in range(RECORDS):
        log.append(append(log[-1].link if log else GENESIS, _event(number), signer))
    long, short = folder / "long.jsonl", folder / "short.jsonl"
    for path, records in ((long, log), (short, log[:FEW])):
        write_whole(path, export_lines(header_of("demo", "alice", signer.public), records, (), len(records), 0.0))

    def rates(path: Path, count: int, *, every_signature: bool) -> list[float]:
        def work() -> None:
            verdict = Export(path).check(verifier, every_signature=every_signature)
            assert (verdict.fault, verdict.records) == (None, count)

        return [count / timed(work) for _ in range(RUNS)]

    chain = rates(long, RECORDS, every_signature=False)
    every = rates(short, FEW, every_signature=True)
    how = f"export of {RECORDS:,} records on disk; chain whole, every 4096th signature and the last"
    return [
        Result("audit verify", median_s(chain), "records/s", WANTED, how, chain, at_least=True),
        Result("audit verify --every-signature", median_s(every), "records/s", None, f"{FEW:,} records", every),
    ]


def _event(number: int) -> dict[str, object]:
    return {
        "at": 1_000_000.0 + number,
        "kind": "changed",
        "job_id": "20261124-probe-abcdef",
        "attempt": 1,
        "from": "promised",
        "to": "starting",
        "reason": "decision received from alice",
        "statements": [["decision", 1, "alice", "a" * 64]],
    }
