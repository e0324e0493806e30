-- The durable record: what was asked, who decided what, what was executed.
-- Times are milliseconds since 1970 (UTC). JSON columns are canonical JSON text.

CREATE TABLE requests (
    id            TEXT PRIMARY KEY,
    thread_id     TEXT NOT NULL,
    interrupt_id  TEXT NOT NULL,
    checkpoint_id TEXT,                 -- the root checkpoint that waits
    task_id       TEXT,                 -- its task; NULL where no checkpointer of ours stored the pause
    action_key    TEXT,
    kind          TEXT NOT NULL,
    state         TEXT NOT NULL,
    parked        INTEGER NOT NULL,     -- 1: the pause itself is stored, so an answer can be delivered; 0, -1: not yet
    hailed        INTEGER NOT NULL DEFAULT 0, -- 1: while it waited, an answer came that names no question
    digest        TEXT NOT NULL,        -- over `shown`
    shown         TEXT,                 -- NULL once redacted
    tool          TEXT,
    created_ms    INTEGER NOT NULL,
    decided_ms    INTEGER,
    decision      TEXT,
    reviewer      TEXT,
    channel       TEXT,
    note          TEXT,
    priority      INTEGER NOT NULL DEFAULT 0,
    quorum        INTEGER NOT NULL DEFAULT 1,
    deadline_ms   INTEGER,
    score         REAL,                 -- what learning needs and nobody can reconstruct later
    model_digest  TEXT,
    route         TEXT NOT NULL,
    propensity    REAL NOT NULL,
    reference     TEXT
);
CREATE INDEX requests_open ON requests (created_ms, id) WHERE state = 'pending' AND parked = 1;
CREATE INDEX requests_decided ON requests (thread_id) WHERE state = 'decided';
CREATE INDEX requests_unfinished ON requests (thread_id, checkpoint_id) WHERE state IN ('pending', 'decided');
CREATE INDEX requests_thread ON requests (thread_id, created_ms);
CREATE INDEX requests_action ON requests (action_key) WHERE action_key IS NOT NULL;

CREATE TABLE votes (
    request_id TEXT NOT NULL,
    reviewer   TEXT NOT NULL,
    decision   TEXT,
    channel    TEXT NOT NULL,
    at_ms      INTEGER NOT NULL,
    PRIMARY KEY (request_id, reviewer)
) WITHOUT ROWID;

-- The right to run one digest once. `id` is the action's key and the number of the attempt.
CREATE TABLE permits (
    id          TEXT PRIMARY KEY,
    action_key  TEXT NOT NULL,
    attempt     INTEGER NOT NULL,
    thread_id   TEXT NOT NULL,
    request_id  TEXT,                   -- NULL: the policy allowed it
    tool        TEXT NOT NULL,
    digest      TEXT NOT NULL,
    reason      TEXT NOT NULL,
    issued_ms   INTEGER NOT NULL,
    UNIQUE (action_key, attempt)
) WITHOUT ROWID;
CREATE INDEX permits_thread ON permits (thread_id);

CREATE TABLE effects (
    permit_id   TEXT PRIMARY KEY,
    state       TEXT NOT NULL,          -- reserved, done, failed, unknown
    owner       TEXT NOT NULL,          -- the process that runs it
    started_ms  INTEGER NOT NULL,
    ended_ms    INTEGER,
    result_type TEXT,
    result      BLOB,
    error       TEXT,
    pauses      INTEGER NOT NULL DEFAULT 0  -- how often the action stopped to ask a question of its own
) WITHOUT ROWID;

-- One worker at a time resumes a thread.
CREATE TABLE thread_claims (
    thread_id TEXT PRIMARY KEY,
    owner     TEXT NOT NULL,
    until_ms  INTEGER NOT NULL
) WITHOUT ROWID;

-- AUTOINCREMENT remembers the highest number, so that a cut-off tail is noticed.
CREATE TABLE audit (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
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
CREATE INDEX audit_thread ON audit (thread_id, seq);
CREATE INDEX audit_subject ON audit (subject, seq);
