"""What is checked of the state at start beside SQLite's own structure: on a changed byte nobody may work on."""

from __future__ import annotations

from coordinator.audit import GENESIS, Link, chain_hash
from coordinator.group_commit import StoreError
from coordinator.signing import SigningError, Verifier
from coordinator.store import Store

_LAST_RECORDS = 1000
_FIX = "put a backup in its place"


def check_state(store: Store, verifier: Verifier) -> None:
    """Check all statements of jobs that may need a step, and the end of the audit log. Raises StoreError.

    The whole log is checked by `audit verify`; doing so at every start would keep jobs waiting.
    """
    for job_id in store.unfinished():
        try:
            job = store.load(job_id)
            assert job is not None
            for statement in job.statements.values():
                verifier.check(statement)
        except SigningError as e:
            raise StoreError(f"state of job {job_id}: {e}: damaged, or that party's key is another now; {_FIX}") from e
        except (ValueError, KeyError) as e:
            raise StoreError(f"state of job {job_id}: {' '.join(str(e).split())[:300]}: damaged; {_FIX}") from e
    start = max(1, (store.head() or (0, ""))[0] - _LAST_RECORDS)
    before: Link | None = GENESIS if start == 1 else None  # None: what was before is not looked at
    for record in store.records(start):
        expected = before and (before.seq + 1, chain_hash(before, record.seq, record.content))
        if before and (record.seq, record.hash) != expected:
            raise StoreError(f"audit record {record.seq}: does not follow record {before.seq}: damaged; {_FIX}")
        before = record.link
