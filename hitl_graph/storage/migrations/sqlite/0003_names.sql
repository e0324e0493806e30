-- Names of our own: on PostgreSQL the tables stand beside those of an application. Fewer pages are touched by a step.
ALTER TABLE namespaces RENAME TO hitl_namespaces;
ALTER TABLE writes RENAME TO hitl_writes;
ALTER TABLE requests RENAME TO hitl_requests;
ALTER TABLE votes RENAME TO hitl_votes;
ALTER TABLE permits RENAME TO hitl_permits;
ALTER TABLE effects RENAME TO hitl_effects;
ALTER TABLE thread_claims RENAME TO hitl_thread_claims;

-- How often something of a namespace was deleted: what a process remembers holds while this stays the same.
ALTER TABLE hitl_namespaces ADD COLUMN epoch INTEGER NOT NULL DEFAULT 0;
-- 1: people may be asked at the latest checkpoint, so the next one has to be told to the ledger.
ALTER TABLE hitl_namespaces ADD COLUMN asked INTEGER NOT NULL DEFAULT 0;
-- The run that goes on from a pause; '' for none.
ALTER TABLE hitl_namespaces ADD COLUMN claim TEXT NOT NULL DEFAULT '';
UPDATE hitl_namespaces SET asked = 1 WHERE checkpoint_ns = '' AND thread_id IN
    (SELECT thread_id FROM hitl_requests WHERE state IN ('pending', 'decided'));

-- A checkpoint, or a value that checkpoints share; one statement stores all of a step.
-- A list is the first `keep` elements of its parent's list and `count` of its own. keep = -1: no list, one element.
CREATE TABLE hitl_states (
    id            INTEGER PRIMARY KEY,  -- taken from hitl_ids, so that none ever means another value later
    ns            INTEGER NOT NULL,
    checkpoint_id TEXT NOT NULL,        -- '' for a value
    parent_id     TEXT NOT NULL,        -- of a checkpoint; '' for none
    metadata      TEXT NOT NULL,        -- of a checkpoint: JSON
    refs          TEXT NOT NULL,        -- of a checkpoint: JSON {channel: id of the value in which it ends}
    parent        INTEGER NOT NULL,     -- of a value; 0 for none
    keep          INTEGER NOT NULL,
    count         INTEGER NOT NULL,
    data          BLOB NOT NULL         -- of a checkpoint: everything but the values in refs
);
INSERT INTO hitl_states SELECT id, ns, '', '', '', '', coalesce(parent, 0), keep, count, data FROM segments;
INSERT INTO hitl_states
    SELECT id + (SELECT coalesce(max(id), 0) FROM segments), ns, checkpoint_id, coalesce(parent_id, ''), metadata, refs,
           0, 0, 0, skeleton FROM checkpoints;
CREATE UNIQUE INDEX hitl_states_by_checkpoint ON hitl_states (ns, checkpoint_id) WHERE checkpoint_id <> '';
DROP TABLE checkpoints;

CREATE TABLE hitl_ids (next INTEGER NOT NULL);
INSERT INTO hitl_ids (next) VALUES (
    (SELECT 1 + max(coalesce((SELECT max(id) FROM hitl_states), 0),
                    coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'segments'), 0)))
);
DROP TABLE segments;

-- The end of the log: one row. It shows when a tail was cut off, and whoever appends holds it.
CREATE TABLE hitl_audit_tip (
    seq  INTEGER NOT NULL,
    hash TEXT NOT NULL
);
INSERT INTO hitl_audit_tip (seq, hash) VALUES (
    coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'audit'), 0),
    coalesce((SELECT hash FROM audit ORDER BY seq DESC LIMIT 1),
             '0000000000000000000000000000000000000000000000000000000000000000')
);
CREATE TABLE hitl_audit (
    seq        INTEGER PRIMARY KEY,
    at_ms      INTEGER NOT NULL,
    event      TEXT NOT NULL,
    thread_id  TEXT,
    subject    TEXT NOT NULL,           -- id of the request or permit
    actor      TEXT NOT NULL,
    body       TEXT,                    -- NULL once redacted
    salt       BLOB,
    commitment TEXT NOT NULL,           -- SHA-256 of salt and body: stays when the body goes
    hash       TEXT NOT NULL            -- SHA-256 over the previous hash and all of the above but body and salt
);
INSERT INTO hitl_audit SELECT seq, at_ms, event, thread_id, subject, actor, body, salt, commitment, hash FROM audit;
DROP TABLE audit;
CREATE INDEX hitl_audit_thread ON hitl_audit (thread_id, seq);
