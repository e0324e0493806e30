-- Rules for people: who may decide, by when, and what is allowed for good.

ALTER TABLE hitl_requests ADD COLUMN reviewers TEXT;    -- who may decide now: JSON list; NULL: anybody
ALTER TABLE hitl_requests ADD COLUMN stage INTEGER;     -- which stage people vote in, from 0; NULL where no rule names people
ALTER TABLE hitl_requests ADD COLUMN fired INTEGER;     -- how many turns of its schedule have come
ALTER TABLE hitl_requests ADD COLUMN handling TEXT;     -- JSON: claims and delegations
-- deadline_ms is when the next turn of the schedule comes.
CREATE INDEX hitl_requests_due ON hitl_requests (deadline_ms, id)
    WHERE state = 'pending' AND parked = 1 AND deadline_ms IS NOT NULL;
CREATE INDEX hitl_requests_reviewers ON hitl_requests (reviewers) WHERE state = 'pending' AND parked = 1;

ALTER TABLE hitl_votes ADD COLUMN stage INTEGER;
ALTER TABLE hitl_votes ADD COLUMN behalf TEXT;          -- whose right was used, where it is not the reviewer's own
ALTER TABLE hitl_votes ADD COLUMN rights TEXT;          -- JSON list: what of the stage's reviewers they count as

ALTER TABLE hitl_permits ADD COLUMN grant_id TEXT;
ALTER TABLE hitl_permits ADD COLUMN amount TEXT;        -- what it took of the grant's budget, as it was written
ALTER TABLE hitl_permits ADD COLUMN args TEXT;          -- JSON; NULL where a request has them, and once redacted
CREATE INDEX hitl_permits_grant ON hitl_permits (grant_id, issued_ms) WHERE grant_id IS NOT NULL;

-- Standing permissions. What each let through: the permits with its id.
CREATE TABLE hitl_grants (
    id          TEXT PRIMARY KEY,
    tool        TEXT NOT NULL,              -- name or glob
    scope       TEXT,                       -- JSON; NULL once redacted
    request_id  TEXT,                       -- from which decision
    thread_id   TEXT,                       -- where it holds only in one thread
    given_by    TEXT NOT NULL,
    given_ms    INTEGER NOT NULL,
    expires_ms  INTEGER,
    revoked_ms  INTEGER,
    revoked_by  TEXT,
    note        TEXT,                       -- why it was given
    revoked_why TEXT
) WITHOUT ROWID;

-- What overrides every policy at once: `all`, `graph:NAME` or `tool:GLOB`.
CREATE TABLE hitl_switches (
    scope   TEXT PRIMARY KEY,
    outcome TEXT NOT NULL,                  -- ask, deny
    reason  TEXT NOT NULL,
    set_by  TEXT NOT NULL,
    set_ms  INTEGER NOT NULL
) WITHOUT ROWID;

-- Out of office: the deputy may do what the reviewer may.
CREATE TABLE hitl_absences (
    id       TEXT PRIMARY KEY,
    reviewer TEXT NOT NULL,
    deputy   TEXT NOT NULL,
    from_ms  INTEGER NOT NULL,
    until_ms INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX hitl_absences_deputy ON hitl_absences (deputy, until_ms);

-- Calls that a policy or a switch denied.
CREATE TABLE hitl_denials (
    action_key TEXT PRIMARY KEY,
    thread_id  TEXT NOT NULL,
    tool       TEXT NOT NULL,
    args       TEXT,                        -- JSON; NULL once redacted
    reason     TEXT NOT NULL,
    at_ms      INTEGER NOT NULL,
    number     INTEGER NOT NULL,            -- of the thread's denials, from 1
    ran        INTEGER NOT NULL,            -- how many permits the thread had by then
    streak     INTEGER NOT NULL,            -- how many in a row, with this one
    asks       INTEGER NOT NULL             -- 1: people are asked what now
) WITHOUT ROWID;
CREATE INDEX hitl_denials_thread ON hitl_denials (thread_id, number);

-- What was said in a thread that waits for people; delivered when it has come to its end.
CREATE TABLE hitl_messages (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    thread_id    TEXT NOT NULL,
    sender       TEXT NOT NULL,
    message      TEXT,                      -- JSON; NULL once redacted
    at_ms        INTEGER NOT NULL,
    delivered_ms INTEGER
);
CREATE INDEX hitl_messages_queued ON hitl_messages (thread_id, id) WHERE delivered_ms IS NULL;
CREATE INDEX hitl_messages_subject ON hitl_messages (CAST(id AS TEXT)); -- by which the log names it
