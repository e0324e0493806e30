-- The doors: who is let in, what people keep for themselves, and how far consumers of the outbox have come.

-- Login links, sessions and API tokens. Only the hash of a secret is kept.
CREATE TABLE hitl_credentials (
    id         text COLLATE "C" PRIMARY KEY,            -- SHA-256 of the secret
    kind       text COLLATE "C" NOT NULL,               -- link, session, token
    reviewer   text COLLATE "C" NOT NULL,               -- name
    identity   text COLLATE "C" NOT NULL,               -- JSON: roles, groups, scopes, how they were authenticated
    label      text COLLATE "C" NOT NULL DEFAULT '',
    created_ms bigint NOT NULL,
    expires_ms bigint,
    used_ms    bigint,                     -- a link: when it was used up; else when it was last seen
    revoked_ms bigint
);
CREATE INDEX hitl_credentials_reviewer ON hitl_credentials (reviewer, kind);

-- Filters of the inbox that somebody has given a name.
CREATE TABLE hitl_views (
    owner      text COLLATE "C" NOT NULL,
    name       text COLLATE "C" NOT NULL,
    query      text COLLATE "C" NOT NULL,               -- as in the address of the page
    created_ms bigint NOT NULL,
    PRIMARY KEY (owner, name)
);

-- The log is the outbox (see ledger/events.py); a consumer that must miss nothing keeps its position here.
CREATE TABLE hitl_outbox (
    consumer text COLLATE "C" PRIMARY KEY,
    seq      bigint NOT NULL,              -- of the last row of hitl_audit that it is done with
    at_ms    bigint NOT NULL
);
