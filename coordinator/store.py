"""Durable state: SQLite with WAL and full synchronisation. What is committed here survives a crash of the machine.

A transition is guarded in the UPDATE itself; the events table is the audit log, written in the same transaction.
Writes share commits: see group_commit.py for the rule that nothing leaves the process before it is durable.
"""

from __future__ import annotations

import fcntl
import json
import re
import sqlite3
from collections.abc import Coroutine, Iterator, Mapping
from dataclasses import asdict, replace
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from coordinator.audit import GENESIS, Link, Record, append
from coordinator.audit_heads import Head, Witnessed
from coordinator.failpoints import AnyStep, Step
from coordinator.group_commit import GroupCommit, explain
from coordinator.group_commit import StoreError as StoreError
from coordinator.model import TRANSITIONS, Job, Phase
from coordinator.signing import Signer
from coordinator.statements import Key, Kind, Statement


class StaleError(Exception):
    """The record changed meanwhile or the transition is not allowed; nothing was written: decide anew."""


class SlotTakenError(StaleError):
    """Another job holds the slot; nothing was written."""


class UsedKeyError(Exception):
    """An idempotency key was used for another request."""


def load_queries() -> dict[str, str]:
    """Statements of queries.sql by name."""
    text = files("coordinator").joinpath("queries.sql").read_text("utf-8")
    parts = re.split(r"^-- name: (\w+)\n", text, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


SCHEMA_VERSION = 2  # PRAGMA user_version of the tables in queries.sql
MAX_SEQ = 2**62
REQUEST_S = 30 * 86400.0  # an idempotency key counts for so long
REQUEST_ROWS = 10_000  # and so many are kept
_FIELDS = ("attempt", "starts", "prepared_at", "ended_at", "retry_at", "settled", "driver_gone", "reason", "version")


class Store:
    """All access to the coordinator's database. One per process; not for use from several threads."""

    def __init__(
        self, path: Path, signer: Signer, me: str, transitions: Mapping[Phase, frozenset[Phase]] = TRANSITIONS
    ) -> None:
        """Open or create. `transitions`: phase -> phases it may become.

        Raises StoreError when the file is locked, damaged or not ours."""
        self._q = load_queries()
        self._signer, self._me, self._path, self._transitions = signer, me, path, transitions
        self._lock = path.with_suffix(".lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as e:
            raise StoreError(f"{path}: another coordinator uses it; stop that one first") from e
        try:
            self._db = sqlite3.connect(path, timeout=2, isolation_level=None, check_same_thread=False)
            self._db.row_factory = sqlite3.Row
            for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
                self._db.execute(f"PRAGMA {pragma}")
            self._check_schema()
            found = self._db.execute("PRAGMA integrity_check(1)").fetchone()[0]
        except sqlite3.OperationalError as e:
            raise StoreError(f"{path}: {e}; does another process use it, may we write there, is the disk full?") from e
        except sqlite3.DatabaseError as e:
            raise StoreError(f"{path}: {e}; put a backup in its place") from e
        if found != "ok":
            raise StoreError(f"{path}: damaged: {' '.join(found.split())}; put a backup in its place")
        self._group = GroupCommit(self._db, path)

    def _check_schema(self) -> None:
        """Make the tables in an empty file; refuse those of another release. Takes the write lock once, to see it."""
        self._db.execute("BEGIN IMMEDIATE")
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        empty = not self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        self._db.execute("COMMIT")
        if not empty and version != SCHEMA_VERSION:
            which = "an older" if version < SCHEMA_VERSION else "a newer"
            raise StoreError(
                f"{self._path}: has schema version {version}, of {which} release; this one reads {SCHEMA_VERSION}: "
                "run that release, or move the file away and begin anew"
            )
        self._db.executescript(f"BEGIN; {self._q['schema']}; PRAGMA user_version = {SCHEMA_VERSION}; COMMIT")

    def close(self) -> None:
        """Commit what is pending and close the file."""
        try:
            self._group.commit()
        finally:
            self._db.close()
        self._lock.close()

    def _all(self, name: str, **values: Any) -> list[sqlite3.Row]:
        try:
            return self._db.execute(self._q[name], values).fetchall()
        except sqlite3.DatabaseError as e:
            raise explain(self._path, e) from e

    @property
    def failures(self) -> int:
        """Commits that failed so far; taken before reading, given to `durable` before sending."""
        return self._group.failures

    def durable(self, since: int | None = None) -> Coroutine[None, None, None]:
        """Await it: everything written so far is then on the disk. Raises StoreError when it, or anything after
        `since` failures, was lost."""
        return self._group.durable(since)

    def create(self, step: AnyStep, job: Job, now: float, why: str, request: tuple[str, str] | None = None) -> None:
        """Write a new job. `request` = (idempotency key, digest of the request) that made it."""
        with self._group.write(step):
            self._db.execute(self._q["insert_job"], self._row(job, now))
            self._add_statements(job, list(job.statements.values()))
            self._remember(request, job.job_id, now)
            self._event(job, now, "created", why, None)

    def save(
        self, step: AnyStep, old: Job, new: Job, now: float, why: str, request: tuple[str, str] | None = None
    ) -> None:
        """Write a changed job: guarded by the old version and by the transition table. `step` names its failpoints;
        `request` as in `create`.

        Raises StaleError (SlotTakenError for a slot in use); then nothing was written.
        """
        phases = [old.phase] if new.phase is old.phase else [p for p in Phase if new.phase in self._transitions[p]]
        values = self._row(new, now) | {"old_version": old.version, "from_phases": json.dumps(phases)}
        added = [s for key, s in new.statements.items() if key not in old.statements]
        with self._group.write(step):
            if self._db.execute(self._q["update_job"], values).rowcount != 1:
                raise StaleError(f"{new.job_id}: {old.phase} (version {old.version}) to {new.phase}: not possible now")
            if new.slot != old.slot:
                self._db.execute(self._q["free_slot"], {"job_id": new.job_id})
                if new.slot is not None:
                    self._reserve(new)
            self._add_statements(new, added)
            for _, second in new.conflicts[len(old.conflicts) :]:
                self._db.execute(self._q["insert_conflict"], _statement_row(second))
            self._remember(request, new.job_id, now)
            self._event(new, now, "changed", why, old, added)

    def remember(self, request: tuple[str, str] | None, job_id: str, now: float) -> None:
        """Note a request that changed nothing, so that its key cannot be used for another."""
        if request:
            with self._group.write(None):
                self._remember(request, job_id, now)

    def _remember(self, request: tuple[str, str] | None, job_id: str, now: float) -> None:
        if request:
            values = {"key": request[0], "digest": request[1], "job_id": job_id, "now": now}
            self._db.execute(self._q["insert_request"], values)
            self._db.execute(self._q["forget_requests"], {"before": now - REQUEST_S, "most": REQUEST_ROWS})

    def _reserve(self, job: Job) -> None:
        try:
            self._db.execute(self._q["reserve_slot"], {"slot": job.slot, "job_id": job.job_id})
        except sqlite3.IntegrityError as e:
            raise SlotTakenError(f"{job.job_id}: slot {job.slot} is in use") from e

    def _add_statements(self, job: Job, added: list[Statement]) -> None:
        self._db.executemany(self._q["insert_statement"], [_statement_row(s) for s in added])

    def _event(
        self, job: Job, now: float, kind: str, why: str, old: Job | None, added: list[Statement] | None = None
    ) -> None:
        added = list(job.statements.values()) if added is None else added
        event = {
            "at": round(now, 3),
            "kind": kind,
            "job_id": job.job_id,
            "attempt": job.attempt,
            "from": old.phase if old else None,
            "to": job.phase,
            "reason": why,
            "statements": [[s.kind, s.attempt, s.party, s.digest()] for s in added],
        }
        self._append(event)

    def note(self, now: float, kind: str, why: str, **more: Any) -> None:
        """Record something that changed no job: a refusal, a start of the coordinator."""
        with self._group.write(None):
            self._append({"at": round(now, 3), "kind": kind, "reason": why, **more})

    def _append(self, event: dict[str, Any]) -> None:
        record = append(self.last_link(), event, self._signer)
        self._db.execute(self._q["insert_event"], asdict(record))

    def _row(self, job: Job, now: float) -> dict[str, Any]:
        about = {"job_id": job.job_id, "initiator": job.initiator, "priority": job.proposal.priority}
        return {f: getattr(job, f) for f in _FIELDS} | about | {"phase": job.phase.value, "now": now}

    def load(self, job_id: str) -> Job | None:
        """The record of a job, or None."""
        rows = self._all("get_job", job_id=job_id)
        if not rows:
            return None
        row = rows[0]
        known = [_statement(r[0]) for r in self._all("get_statements", job_id=job_id)]
        fields: dict[str, Any] = {f: bool(row[f]) if f in ("settled", "driver_gone") else row[f] for f in _FIELDS}
        job = Job(job_id, self._me, Phase(row["phase"]), {s.key: s for s in known}, slot=row["slot"], **fields)
        seconds = [_statement(r[0]) for r in self._all("get_conflicts", job_id=job_id)]
        return replace(job, conflicts=tuple((job.statements[s.key], s) for s in seconds))

    def job_ids(self, limit: int = 1000) -> list[str]:
        """Newest first."""
        return [r[0] for r in self._all("job_ids", limit=limit)]

    def find_jobs(
        self, phase: str = "", initiator: str = "", undecided: str = "", *, limit: int, offset: int = 0
    ) -> list[str]:
        """Newest first, of one phase and initiator, or without a yes or no of the party `undecided`; "" = any."""
        wanted = {"phase": phase, "initiator": initiator, "undecided": undecided}
        return [r[0] for r in self._all("find_job_ids", **wanted, limit=limit, offset=offset)]

    def unfinished(self) -> list[str]:
        """Jobs that may still need a step, oldest first."""
        return [r[0] for r in self._all("unfinished_job_ids")]

    def waiting(self, limit: int, now: float) -> list[str]:
        """The first jobs of this party's queue; more than there are slots, few enough to look at."""
        return [r[0] for r in self._all("waiting_job_ids", me=self._me, limit=limit, now=now)]

    def ahead_of(self, job: Job, now: float) -> int:
        """How many jobs of this party's queue come before this one and could ask for an attempt now."""
        return int(self._all("count_ahead", me=self._me, job_id=job.job_id, now=now)[0][0])

    def approved_before(self, job_id: str, name: str, initiator: str) -> list[str]:
        """Other jobs of this name that this party approved, the initiator's first, newest first; at most 20."""
        return [
            r[0] for r in self._all("approved_before", me=self._me, job_id=job_id, job_name=name, initiator=initiator)
        ]

    def phase_counts(self) -> dict[str, int]:
        """How many jobs are in each phase."""
        return {r[0]: r[1] for r in self._all("count_by_phase")}

    def open_jobs(self, initiator: str) -> tuple[int, int]:
        """How many jobs have not ended: all, and those that this party proposed."""
        row = self._all("count_open", initiator=initiator)[0]
        return row[0], row[1]

    def ended_before(self, before: float) -> tuple[list[tuple[str, str]], set[str]]:
        """Jobs with their programs that have needed no step since then, oldest first; programs that others use."""
        rows = self._all("programs", before=before)
        return [(r["job_id"], r["program"]) for r in rows if r["old"]], {r["program"] for r in rows if not r["old"]}

    def ended_jobs(self) -> int:
        """How many jobs have ended."""
        return int(self._all("count_ended")[0][0])

    def approvals_wanted(self, party: str) -> tuple[int, float | None]:
        """How many proposed jobs have no yes or no of this party, and when the oldest came."""
        row = self._all("approvals_wanted", party=party)[0]
        return row["jobs"], row["since"]

    def used_slots(self) -> dict[int, str]:
        """Slot -> job that holds it."""
        return {r[0]: r[1] for r in self._all("used_slots")}

    def add_receipts(self, job_id: str, pairs: list[tuple[Key, str]]) -> None:
        """Note that peers hold statements. Losing this only repeats a delivery."""
        rows = [{"job_id": job_id, "attempt": k.attempt, "kind": k.kind, "party": k.party, "peer": p} for k, p in pairs]
        with self._group.write(Step.RECEIPT):
            self._db.executemany(self._q["insert_receipt"], rows)

    def receipts(self, job_id: str) -> frozenset[tuple[Key, str]]:
        """(statement, peer) pairs known to have arrived."""
        rows = self._all("get_receipts", job_id=job_id)
        return frozenset((Key(r["attempt"], Kind(r["kind"]), r["party"]), r["peer"]) for r in rows)

    def request(self, key: str, digest: str) -> str | None:
        """Job of an earlier request with this idempotency key; UsedKeyError if that was another request."""
        rows = self._all("get_request", key=key)
        if rows and rows[0]["digest"] != digest:
            raise UsedKeyError(f"Idempotency-Key {key!r} was used for another request, about job {rows[0]['job_id']}")
        return str(rows[0]["job_id"]) if rows else None

    def head(self) -> tuple[int, str] | None:
        """Number and hash of the last audit record."""
        link = self.last_link()
        return (link.seq, link.hash) if link.seq else None

    def last_link(self) -> Link:
        """The end of the audit chain, which the next record is chained to."""
        rows = self._all("last_event")
        return Link(**dict(rows[0])) if rows else GENESIS

    def records(self, start: int = 1, last: int = MAX_SEQ) -> Iterator[Record]:
        """Audit records from `start` to `last` in order, read in pages."""
        while page := self._all("events_from", seq=start, last=last, limit=1000):
            yield from (Record(**dict(r)) for r in page)
            start = page[-1]["seq"] + 1

    def first_record_since(self, at: float, first: int = 1) -> int | None:
        """Number of the first audit record, from `first` on, of that time (seconds since 1970) or later."""
        return next((int(r[0]) for r in self._all("first_event_since", at=at, first=first)), None)

    def newest(self, kind: str) -> dict[str, Any] | None:
        """Content of the newest audit record of a kind."""
        rows = self._all("newest_event", kind=kind)
        return json.loads(rows[0][0]) if rows else None

    def keep_head(self, witnessed: Witnessed, now: float) -> None:
        """Keep a counter-signed audit head; of each hour and pair of parties only the first and the last stay."""
        head, witness = witnessed.head, witnessed.witness
        pair = {"author": head.party, "witness": witness.by, "hour": int(now // 3600)}
        with self._group.write(None):
            self._db.execute(self._q["thin_heads"], pair)
            self._db.execute(self._q["insert_head"], pair | {"seq": head.seq, "content": witnessed.model_dump_json()})

    def last_head(self, author: str, witness: str) -> Witnessed | None:
        """The newest audit head of `author` that `witness` counter-signed, as far as it is known here."""
        rows = self._all("last_head", author=author, witness=witness)
        return Witnessed.model_validate_json(rows[0][0]) if rows else None

    def head_at(self, author: str, witness: str, seq: int) -> Witnessed | None:
        """The kept audit head of this record number."""
        rows = self._all("head_at", author=author, witness=witness, seq=seq)
        return Witnessed.model_validate_json(rows[0][0]) if rows else None

    def heads(self) -> list[Witnessed]:
        """All counter-signed audit heads: own ones and those of peers."""
        return [Witnessed.model_validate_json(r[0]) for r in self._all("all_heads")]

    def add_audit_fault(self, head: Head, now: float, why: str) -> bool:
        """Keep a head that contradicts an earlier one, and record it. False if it is known or there are enough."""
        values = {"party": head.party, "seq": head.seq, "hash": head.hash, "at": now, "reason": why, "most": 100}
        with self._group.write(None):
            if self._db.execute(self._q["insert_audit_fault"], values).rowcount != 1:
                return False
            self._append({"at": round(now, 3), "kind": "audit-fault", "reason": why, "head": head.model_dump()})
        return True

    def audit_faults(self) -> dict[str, str]:
        """Party -> the first contradiction that was seen in its audit heads."""
        return {r[0]: r[1] for r in self._all("audit_faults")}

    def events_of(self, job_id: str) -> list[dict[str, Any]]:
        """What happened to a job, oldest first."""
        return [json.loads(r[0]) for r in self._all("events_of_job", job_id=job_id)]


@lru_cache(maxsize=2000)
def _statement(content: str) -> Statement:
    """A statement never changes, and each look at a job reads all of them again."""
    return Statement.model_validate_json(content)


def _statement_row(s: Statement) -> dict[str, Any]:
    return {"job_id": s.job_id, "attempt": s.attempt, "kind": s.kind, "party": s.party, "content": s.model_dump_json()}
