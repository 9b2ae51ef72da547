"""What is checked of the state at start beside SQLite's own structure: on a changed byte nobody may work on."""

from __future__ import annotations

from coordinator.audit import GENESIS, chain_hash
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
    seq, head = 0, GENESIS
    for record in store.records(start):
        begins = record.seq == start > 1  # what was before this one is not looked at
        if not begins and (record.seq != seq + 1 or record.hash != chain_hash(head, record.seq, record.content)):
            raise StoreError(f"audit record {record.seq}: does not follow record {seq}: damaged; {_FIX}")
        seq, head = record.seq, record.hash
