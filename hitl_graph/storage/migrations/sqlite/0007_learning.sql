-- Learning from decisions: which calls were decided automatically, and on what promise.

-- Calls of which a rule wants to know how sure the model is. What was once decided about one stays.
CREATE TABLE hitl_routed (
    id           INTEGER PRIMARY KEY AUTOINCREMENT, -- the order of routing
    action_key   TEXT NOT NULL UNIQUE,
    thread_id    TEXT NOT NULL,
    name         TEXT NOT NULL,              -- of the rule's Unsure
    binding      TEXT NOT NULL,              -- digest of prompt and score
    model_digest TEXT NOT NULL,              -- '' where the model does not say what it is
    class        TEXT NOT NULL,              -- JSON; '' where one promise is for all
    tool         TEXT NOT NULL,
    input        TEXT,                       -- JSON: what the model had to go by; NULL once redacted
    output       TEXT,                       -- JSON: what it proposed
    score        REAL,                       -- NULL: it gave none
    route        TEXT NOT NULL,              -- auto, audit, unsure
    propensity   REAL NOT NULL,              -- how probable it was that people were asked
    least        REAL NOT NULL,              -- the smallest probability that any call had then
    drawn        REAL NOT NULL,              -- the draw: below `least`, it is one of a uniform sample
    certificate  TEXT,                       -- which one was in force
    request_id   TEXT,                       -- of the audit
    at_ms        INTEGER NOT NULL
);
CREATE INDEX hitl_routed_name ON hitl_routed (name, binding, model_digest, id);
CREATE INDEX hitl_routed_thread ON hitl_routed (thread_id);
CREATE INDEX hitl_routed_audits ON hitl_routed (certificate, id) WHERE route = 'audit';
CREATE INDEX hitl_routed_requests ON hitl_routed (request_id) WHERE request_id IS NOT NULL;

CREATE TABLE hitl_certificates (
    id           TEXT PRIMARY KEY,
    name         TEXT NOT NULL,
    binding      TEXT NOT NULL,
    model_digest TEXT NOT NULL,
    class        TEXT NOT NULL,
    threshold    REAL NOT NULL,
    body         TEXT NOT NULL,              -- JSON: what is promised, on which labels, by which method
    state        TEXT NOT NULL,              -- valid, suspended, replaced
    why          TEXT,                       -- it is not valid any more
    issued_ms    INTEGER NOT NULL,
    ended_ms     INTEGER
) WITHOUT ROWID;
CREATE INDEX hitl_certificates_name ON hitl_certificates (name, issued_ms);

-- What can be computed again from the rest: how far a detector has come, for example; and the secret of the draws.
CREATE TABLE hitl_learned (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;

-- What people decided about calls of one tool, and about drafts, the latest first (see ledger/precedents.py).
CREATE INDEX hitl_requests_precedents ON hitl_requests (tool, kind, decided_ms, id)
    WHERE decided_ms IS NOT NULL AND shown IS NOT NULL AND channel <> 'deadline' AND kind IN ('approval', 'review')
        AND interrupt_id <> 'label';

-- By which route a request came is something to filter the list by.
DROP INDEX hitl_requests_open;
CREATE INDEX hitl_requests_open ON hitl_requests (created_ms, id, kind, tool, risk, reviewers, route, state, parked)
    WHERE state = 'pending' AND parked = 1;
