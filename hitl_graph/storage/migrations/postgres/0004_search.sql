-- Finding one request among a hundred thousand.

ALTER TABLE hitl_requests ADD COLUMN risk text COLLATE "C";         -- low, medium, high; NULL: no rule says

-- All that a list is filtered by is in the index: what does not fit is passed over without reading its row.
-- (But for the reviewers, who may be too many for an index of PostgreSQL.)
DROP INDEX hitl_requests_open;
CREATE INDEX hitl_requests_open ON hitl_requests (created_ms, id, kind, tool, risk)
    WHERE state = 'pending' AND parked = 1;
CREATE INDEX hitl_requests_sorts ON hitl_requests (kind, risk, tool)
    WHERE state = 'pending' AND parked = 1;
CREATE INDEX hitl_requests_handled ON hitl_requests (created_ms, id)
    WHERE state = 'pending' AND parked = 1 AND handling IS NOT NULL;

-- What became of requests, and who looked at them, in a log that has much else.
CREATE INDEX hitl_audit_requests ON hitl_audit (seq)
    WHERE event >= 'request.' AND event < 'request/' AND event <> 'request.seen';
CREATE INDEX hitl_audit_seen ON hitl_audit (subject, seq) WHERE event = 'request.seen';

-- The words of what waits (see ledger/words.py, which splits texts: nothing is left to a parser of PostgreSQL).
CREATE TABLE hitl_words (
    request text COLLATE "C" PRIMARY KEY,
    words   tsvector NOT NULL
);
CREATE INDEX hitl_words_words ON hitl_words USING gin (words);

-- What was asked before there were words: whoever searches first puts them in.
CREATE TABLE hitl_words_due (request text COLLATE "C" PRIMARY KEY);
INSERT INTO hitl_words_due SELECT id FROM hitl_requests WHERE state = 'pending';
