-- Finding one request among a hundred thousand.

ALTER TABLE hitl_requests ADD COLUMN risk TEXT;         -- low, medium, high; NULL: no rule says

-- All that a list is filtered by is in the index: what does not fit is passed over without reading its row.
DROP INDEX requests_open;
CREATE INDEX hitl_requests_open ON hitl_requests (created_ms, id, kind, tool, risk, reviewers)
    WHERE state = 'pending' AND parked = 1;
CREATE INDEX hitl_requests_sorts ON hitl_requests (kind, coalesce(tool, ''), coalesce(risk, ''))
    WHERE state = 'pending' AND parked = 1;
CREATE INDEX hitl_requests_handled ON hitl_requests (created_ms, id)
    WHERE state = 'pending' AND parked = 1 AND handling IS NOT NULL;

-- What became of requests, and who looked at them, in a log that has much else.
CREATE INDEX hitl_audit_requests ON hitl_audit (seq)
    WHERE event >= 'request.' AND event < 'request/' AND event <> 'request.seen';
CREATE INDEX hitl_audit_seen ON hitl_audit (subject, seq) WHERE event = 'request.seen';
