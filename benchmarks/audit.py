"""How many audit records a second reach the disk, beside what the same disk does with fsync alone."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from benchmarks.result import Result, median_s, timed
from coordinator.audit_verify import verify
from coordinator.signing import Signer, Verifier
from coordinator.store import Store

RECORDS = 10_000
WRITERS = 50
ROUNDS = 5
BLOCK = b"x" * 4096


def append_rate(folder: Path) -> list[Result]:
    """Signed, chained records of 50 writers in one loop, each writer awaiting the disk after each record.

    Beside it: one writer alone (a COMMIT for every record), and blocks of 4 KiB, each with an fsync of its own.
    """
    signer = Signer("bench", "alice", Ed25519PrivateKey.generate())
    many = [_append(folder / f"many-{n}.db", signer, WRITERS, RECORDS) for n in range(ROUNDS)]
    alone = [_append(folder / f"alone-{n}.db", signer, 1, RECORDS // 10) for n in range(ROUNDS)]
    raw = [_fsync_ms(folder / f"raw-{n}", RECORDS // 10) for n in range(ROUNDS)]
    together_ms, alone_ms, raw_ms = median_s(many), median_s(alone), median_s(raw)
    how = (
        f"{1000 / together_ms:,.0f} records/s by {WRITERS} writers, {1000 / alone_ms:,.0f} by one; raw fsync "
        f"{1000 / raw_ms:,.0f}/s: {raw_ms / together_ms:.1f} records for each fsync the disk can do"
    )
    return [
        Result("audit append", together_ms, "ms/record", 0.5, how, many),  # 2,000 records a second
        Result("audit append, one writer", alone_ms, "ms/record", None, "a COMMIT and an fsync each", alone),
        Result("raw fsync", raw_ms, "ms", None, "4 KiB written at the end of a file, fsync", raw),
    ]


def _append(path: Path, signer: Signer, writers: int, records: int) -> float:
    store = Store(path, signer, "alice")

    async def writer(number: int) -> None:
        for count in range(records // writers):
            store.note(time.time(), "benchmark", f"record {count} of writer {number}", peer="bob")
            await store.durable()

    async def run() -> None:
        await asyncio.gather(*(writer(n) for n in range(writers)))

    took_s = timed(lambda: asyncio.run(run()))
    verdict = verify(store.records(), "alice", Verifier("bench", {"alice": signer.public}))
    store.close()
    if verdict.fault or verdict.records != records:
        raise RuntimeError(f"{verdict.records} of {records} records, {verdict.fault or 'no fault'}")
    return took_s / records * 1000


def _fsync_ms(path: Path, count: int) -> float:
    with path.open("wb", buffering=0) as file:

        def write() -> None:
            for _ in range(count):
                file.write(BLOCK)
                os.fsync(file.fileno())

        return timed(write) / count * 1000


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as place:
        for result in append_rate(Path(place)):
            print(f"{result.name:26} {result.value:8.3f} {result.unit:10} {result.goal_text:18} {result.how}")
