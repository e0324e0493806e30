-- Names of our own: on PostgreSQL the tables stand beside those of an application.
ALTER TABLE namespaces RENAME TO hitl_namespaces;
ALTER TABLE checkpoints RENAME TO hitl_checkpoints;
ALTER TABLE segments RENAME TO hitl_segments;
ALTER TABLE writes RENAME TO hitl_writes;
ALTER TABLE requests RENAME TO hitl_requests;
ALTER TABLE votes RENAME TO hitl_votes;
ALTER TABLE permits RENAME TO hitl_permits;
ALTER TABLE effects RENAME TO hitl_effects;
ALTER TABLE thread_claims RENAME TO hitl_thread_claims;
ALTER TABLE audit RENAME TO hitl_audit;

-- The end of the log: one row. It shows when a tail was cut off, and whoever appends holds it.
CREATE TABLE hitl_audit_tip (
    seq  INTEGER NOT NULL,
    hash TEXT NOT NULL
);
INSERT INTO hitl_audit_tip (seq, hash) VALUES (
    coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'hitl_audit'), 0),
    coalesce((SELECT hash FROM hitl_audit ORDER BY seq DESC LIMIT 1),
             '0000000000000000000000000000000000000000000000000000000000000000')
);
