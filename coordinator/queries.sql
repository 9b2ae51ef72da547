-- Every SQL statement of the coordinator, named. `-- name:` begins one; the lines after it say what it is for.

-- name: schema
-- One file, one writer. Statements and events are only ever added.
CREATE TABLE IF NOT EXISTS jobs (
    job_id       TEXT PRIMARY KEY,
    initiator    TEXT NOT NULL,
    priority     INTEGER NOT NULL,
    phase        TEXT NOT NULL,
    attempt      INTEGER NOT NULL,
    starts       INTEGER NOT NULL,
    prepared_at  REAL NOT NULL,
    ended_at     REAL NOT NULL,
    retry_at     REAL NOT NULL,
    settled      INTEGER NOT NULL,
    driver_gone  INTEGER NOT NULL,
    reason       TEXT NOT NULL,
    version      INTEGER NOT NULL,
    created_at   REAL NOT NULL,
    updated_at   REAL NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS jobs_by_phase ON jobs (phase);
CREATE TABLE IF NOT EXISTS statements (
    job_id    TEXT NOT NULL REFERENCES jobs (job_id),
    attempt   INTEGER NOT NULL,
    kind      TEXT NOT NULL,
    party     TEXT NOT NULL,
    content   TEXT NOT NULL,
    PRIMARY KEY (job_id, attempt, kind, party)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS conflicts (
    job_id    TEXT NOT NULL REFERENCES jobs (job_id),
    attempt   INTEGER NOT NULL,
    kind      TEXT NOT NULL,
    party     TEXT NOT NULL,
    content   TEXT NOT NULL,
    PRIMARY KEY (job_id, attempt, kind, party, content)
) STRICT, WITHOUT ROWID;
-- a slot is a set of ports; the primary key is what keeps two jobs out of one slot
CREATE TABLE IF NOT EXISTS slots (
    slot      INTEGER PRIMARY KEY,
    job_id    TEXT NOT NULL UNIQUE REFERENCES jobs (job_id)
) STRICT;
CREATE TABLE IF NOT EXISTS receipts (
    job_id    TEXT NOT NULL REFERENCES jobs (job_id),
    attempt   INTEGER NOT NULL,
    kind      TEXT NOT NULL,
    party     TEXT NOT NULL,
    peer      TEXT NOT NULL,
    PRIMARY KEY (job_id, attempt, kind, party, peer)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS requests (
    key       TEXT PRIMARY KEY,
    digest    TEXT NOT NULL,
    job_id    TEXT NOT NULL,
    at        REAL NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS requests_by_time ON requests (at);
CREATE TABLE IF NOT EXISTS events (
    seq       INTEGER PRIMARY KEY,
    content   TEXT NOT NULL,
    hash      TEXT NOT NULL,
    signature TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS events_by_job ON events (json_extract(content, '$.job_id'));
CREATE TRIGGER IF NOT EXISTS events_keep_update BEFORE UPDATE ON events
BEGIN SELECT RAISE(ABORT, 'events are append-only'); END;
CREATE TRIGGER IF NOT EXISTS events_keep_delete BEFORE DELETE ON events
BEGIN SELECT RAISE(ABORT, 'events are append-only'); END;
-- audit heads that a peer counter-signed: own ones with the peers' signatures, peers' ones with the own
CREATE TABLE IF NOT EXISTS heads (
    author    TEXT NOT NULL,
    witness   TEXT NOT NULL,
    seq       INTEGER NOT NULL,
    hour      INTEGER NOT NULL,
    content   TEXT NOT NULL,
    PRIMARY KEY (author, witness, seq)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS audit_faults (
    party     TEXT NOT NULL,
    seq       INTEGER NOT NULL,
    hash      TEXT NOT NULL,
    at        REAL NOT NULL,
    reason    TEXT NOT NULL,
    PRIMARY KEY (party, seq, hash)
) STRICT, WITHOUT ROWID;

-- name: insert_job
INSERT INTO jobs VALUES (:job_id, :initiator, :priority, :phase, :attempt, :starts, :prepared_at, :ended_at, :retry_at, :settled,
    :driver_gone, :reason, :version, :now, :now);

-- name: update_job
-- The transition is guarded here: the old version, and a phase from which the new one may be reached.
UPDATE jobs SET phase = :phase, attempt = :attempt, starts = :starts, prepared_at = :prepared_at,
    ended_at = :ended_at, retry_at = :retry_at, settled = :settled, driver_gone = :driver_gone, reason = :reason,
    version = :version, updated_at = :now
WHERE job_id = :job_id AND version = :old_version AND phase IN (SELECT value FROM json_each(:from_phases));

-- name: get_job
SELECT jobs.*, slots.slot FROM jobs LEFT JOIN slots USING (job_id) WHERE job_id = :job_id;

-- name: job_ids
-- Newest first.
SELECT job_id FROM jobs ORDER BY created_at DESC, job_id LIMIT :limit;

-- name: find_job_ids
-- Newest first; an empty filter fits every job.
SELECT job_id FROM jobs
WHERE (:phase = '' OR phase = :phase)
    AND (:initiator = '' OR EXISTS
        (SELECT 1 FROM statements AS s WHERE s.job_id = jobs.job_id AND s.kind = 'proposal' AND s.party = :initiator))
    AND (:undecided = '' OR phase = 'proposed' AND NOT EXISTS
        (SELECT 1 FROM statements AS s WHERE s.job_id = jobs.job_id AND s.kind = 'approval' AND s.party = :undecided))
ORDER BY created_at DESC, job_id LIMIT :limit OFFSET :offset;

-- name: unfinished_job_ids
-- Jobs that may still need a step: not ended, without all signatures, or with a driver that may live.
SELECT job_id FROM jobs
WHERE phase NOT IN ('succeeded', 'failed', 'cancelled', 'diverged') OR settled = 0 OR driver_gone = 0
ORDER BY created_at;

-- name: waiting_job_ids
-- The queue of the jobs that this party leads, in its order.
SELECT job_id FROM jobs WHERE phase = 'approved' AND initiator = :me AND retry_at <= :now
ORDER BY priority DESC, created_at, job_id LIMIT :limit;

-- name: count_ahead
-- How many jobs of this party's queue come before this one; those in a pause let others pass.
SELECT count(*) FROM jobs, (SELECT priority, created_at, job_id FROM jobs WHERE job_id = :job_id) AS mine
WHERE phase = 'approved' AND initiator = :me AND retry_at <= :now AND jobs.job_id != mine.job_id
    AND (-jobs.priority, jobs.created_at, jobs.job_id) < (-mine.priority, mine.created_at, mine.job_id);

-- name: approvals_wanted
SELECT count(*) AS jobs, min(created_at) AS since FROM jobs WHERE phase = 'proposed' AND NOT EXISTS
    (SELECT 1 FROM statements AS s WHERE s.job_id = jobs.job_id AND s.kind = 'approval' AND s.party = :party);

-- name: count_by_phase
SELECT phase, count(*) FROM jobs GROUP BY phase;

-- name: count_open
-- Jobs not yet ended: all, and those of one initiator.
SELECT count(*), coalesce(sum(initiator = :initiator), 0) FROM jobs
WHERE phase NOT IN ('succeeded', 'failed', 'cancelled', 'diverged');

-- name: programs
-- Every job with the digest of its program; `old`: it needs no step any more and has not changed since :before.
SELECT job_id, json_extract(content, '$.body.program_digest') AS program,
    phase IN ('succeeded', 'failed', 'cancelled', 'diverged') AND settled AND driver_gone AND updated_at < :before AS old
FROM jobs JOIN statements USING (job_id) WHERE statements.kind = 'proposal' ORDER BY created_at;

-- name: count_ended
SELECT count(*) FROM jobs WHERE phase IN ('succeeded', 'failed', 'cancelled', 'diverged');

-- name: approved_before
-- Other jobs of a name that this party approved: those of the initiator first, newest first.
SELECT proposals.job_id FROM statements AS proposals
    JOIN statements AS approvals USING (job_id)
    JOIN jobs USING (job_id)
WHERE proposals.attempt = 0 AND proposals.kind = 'proposal' AND approvals.attempt = 0 AND approvals.kind = 'approval'
    AND approvals.party = :me AND json_extract(approvals.content, '$.body.verdict') = 'approve'
    AND json_extract(proposals.content, '$.body.name') = :job_name AND job_id <> :job_id
ORDER BY proposals.party = :initiator DESC, created_at DESC LIMIT 20;

-- name: insert_statement
INSERT INTO statements VALUES (:job_id, :attempt, :kind, :party, :content);

-- name: insert_conflict
INSERT OR IGNORE INTO conflicts VALUES (:job_id, :attempt, :kind, :party, :content);

-- name: get_statements
SELECT content FROM statements WHERE job_id = :job_id;

-- name: get_conflicts
SELECT content FROM conflicts WHERE job_id = :job_id;

-- name: reserve_slot
INSERT INTO slots VALUES (:slot, :job_id);

-- name: free_slot
DELETE FROM slots WHERE job_id = :job_id;

-- name: used_slots
SELECT slot, job_id FROM slots ORDER BY slot;

-- name: insert_receipt
INSERT OR IGNORE INTO receipts VALUES (:job_id, :attempt, :kind, :party, :peer);

-- name: get_receipts
SELECT attempt, kind, party, peer FROM receipts WHERE job_id = :job_id;

-- name: insert_request
INSERT INTO requests VALUES (:key, :digest, :job_id, :now);

-- name: forget_requests
-- Those that are too old, and the oldest beyond the most that are kept.
DELETE FROM requests WHERE at < :before
    OR key IN (SELECT key FROM requests ORDER BY at DESC LIMIT -1 OFFSET :most);

-- name: get_request
SELECT digest, job_id FROM requests WHERE key = :key;

-- name: insert_event
INSERT INTO events VALUES (:seq, :content, :hash, :signature);

-- name: last_event
SELECT seq, hash, signature FROM events ORDER BY seq DESC LIMIT 1;

-- name: events_from
SELECT seq, content, hash, signature FROM events WHERE seq BETWEEN :seq AND :last ORDER BY seq LIMIT :limit;

-- name: first_event_since
SELECT seq FROM events WHERE seq >= :first AND json_extract(content, '$.at') >= :at ORDER BY seq LIMIT 1;

-- name: newest_event
-- Reads from the end: what is looked for is written at least daily.
SELECT content FROM events WHERE json_extract(content, '$.kind') = :kind ORDER BY seq DESC LIMIT 1;

-- name: thin_heads
-- Before a new head of this hour comes in: all but the first of the hour go.
DELETE FROM heads WHERE author = :author AND witness = :witness AND hour = :hour AND seq > (
    SELECT min(seq) FROM heads WHERE author = :author AND witness = :witness AND hour = :hour);

-- name: insert_head
INSERT OR IGNORE INTO heads VALUES (:author, :witness, :seq, :hour, :content);

-- name: last_head
SELECT content FROM heads WHERE author = :author AND witness = :witness ORDER BY seq DESC LIMIT 1;

-- name: head_at
SELECT content FROM heads WHERE author = :author AND witness = :witness AND seq = :seq;

-- name: all_heads
SELECT content FROM heads ORDER BY author, seq, witness;

-- name: insert_audit_fault
INSERT OR IGNORE INTO audit_faults SELECT :party, :seq, :hash, :at, :reason
WHERE (SELECT count(*) FROM audit_faults WHERE party = :party) < :most;

-- name: audit_faults
-- The first contradiction of each party.
SELECT party, reason FROM audit_faults ORDER BY at DESC;

-- name: events_of_job
SELECT content FROM events WHERE json_extract(content, '$.job_id') = :job_id ORDER BY seq;
