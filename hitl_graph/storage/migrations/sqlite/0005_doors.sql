-- The doors: who is let in, what people keep for themselves, and how far consumers of the outbox have come.

-- Login links, sessions and API tokens. Only the hash of a secret is kept.
CREATE TABLE hitl_credentials (
    id         TEXT PRIMARY KEY,            -- SHA-256 of the secret
    kind       TEXT NOT NULL,               -- link, session, token
    reviewer   TEXT NOT NULL,               -- name
    identity   TEXT NOT NULL,               -- JSON: roles, groups, scopes, how they were authenticated
    label      TEXT NOT NULL DEFAULT '',
    created_ms INTEGER NOT NULL,
    expires_ms INTEGER,
    used_ms    INTEGER,                     -- a link: when it was used up; else when it was last seen
    revoked_ms INTEGER
) WITHOUT ROWID;
CREATE INDEX hitl_credentials_reviewer ON hitl_credentials (reviewer, kind);

-- Filters of the inbox that somebody has given a name.
CREATE TABLE hitl_views (
    owner      TEXT NOT NULL,
    name       TEXT NOT NULL,
    query      TEXT NOT NULL,               -- as in the address of the page
    created_ms INTEGER NOT NULL,
    PRIMARY KEY (owner, name)
) WITHOUT ROWID;

-- The log is the outbox (see ledger/events.py); a consumer that must miss nothing keeps its position here.
CREATE TABLE hitl_outbox (
    consumer TEXT PRIMARY KEY,
    seq      INTEGER NOT NULL,              -- of the last row of hitl_audit that it is done with
    at_ms    INTEGER NOT NULL
) WITHOUT ROWID;
