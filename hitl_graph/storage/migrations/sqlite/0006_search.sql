-- Finding one request among a hundred thousand.

ALTER TABLE hitl_requests ADD COLUMN risk TEXT;         -- low, medium, high; NULL: no rule says

-- All that a list is filtered by is in the index: what does not fit is passed over without reading its row.
-- (`state` and `parked` always are what they are; but SQLite reads the row for them if they are not there.)
DROP INDEX requests_open;
CREATE INDEX hitl_requests_open ON hitl_requests (created_ms, id, kind, tool, risk, reviewers, state, parked)
    WHERE state = 'pending' AND parked = 1;
CREATE INDEX hitl_requests_sorts ON hitl_requests (kind, risk, tool, state, parked)
    WHERE state = 'pending' AND parked = 1;
CREATE INDEX hitl_requests_handled ON hitl_requests (created_ms, id)
    WHERE state = 'pending' AND parked = 1 AND handling IS NOT NULL;

-- What became of requests, and who looked at them, in a log that has much else.
CREATE INDEX hitl_audit_requests ON hitl_audit (seq)
    WHERE event >= 'request.' AND event < 'request/' AND event <> 'request.seen';
CREATE INDEX hitl_audit_seen ON hitl_audit (subject, seq) WHERE event = 'request.seen';

-- The words of what waits (see ledger/words.py, which splits texts; nothing but blanks is left to the tokenizer).
-- The rowid is the place in the list: when it was asked, and the beginning of its id.
CREATE VIRTUAL TABLE hitl_words USING fts5(request UNINDEXED, words, tokenize = 'ascii', detail = none, prefix = '1 2 3');

-- What was asked before there were words: whoever searches first puts them in.
CREATE TABLE hitl_words_due (request TEXT PRIMARY KEY) WITHOUT ROWID;
INSERT INTO hitl_words_due SELECT id FROM hitl_requests WHERE state = 'pending';
