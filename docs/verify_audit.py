"""Verify an exported audit log, with nothing but Python: python verify_audit.py LOG.jsonl [HEAD, noted earlier].

A row's seal is SHA-256 over the seal before and its own fields. Its body, which may go, is in there as a salted hash.
"""

import json
import sys
from hashlib import sha256

ROW = ["seq", "at_ms", "event", "thread_id", "subject", "actor", "commitment", "hash", "salt", "body"]


def require(fits, problem):
    return None if fits else sys.exit(f"NOT IN ORDER: {problem}")


def read(line, names):
    pairs = json.loads(line, object_pairs_hook=list)
    return [value for _, value in pairs] if [name for name, _ in pairs] == names else []


def verify(lines, anchor=None):
    count, last, gone, redacted, seen = 0, "0" * 64, set(), set(), anchor in (None, "0" * 64)
    try:
        form, thread, rows, head = read(next(lines), ["format", "thread", "rows", "head"])
        require(form == "hitl-graph audit 1", "the first line is not that of an exported log")
        for count, line in enumerate(lines, 1):
            seq, _, event, thread_id, subject, _, commitment, seal, salt, body = row = read(line, ROW)
            require(seq == count, f"row {count} is missing, or not in its place")
            texts = ("\0".join([last, *map(literal, row[:7])]) for literal in (ascii, repr))  # repr: hitl-graph 0.1
            require(seal in [sha256(text.encode()).hexdigest() for text in texts], f"row {seq} was changed")
            last, seen = seal, seen or seal == anchor
            own = thread in (None, thread_id) or (event, subject) == ("audit.redacted", thread)
            if (salt, body) != (None, None):
                opened = bytes.fromhex(salt) + body.encode()
                fits = own and salt == opened[:16].hex() and commitment == sha256(opened).hexdigest()
                require(fits, f"the body of row {seq} was changed")
                redacted.update(json.loads(body)["seqs"] if event == "audit.redacted" else ())
            elif own:
                gone.add(seq)
    except (ValueError, TypeError, LookupError, AttributeError, StopIteration):
        require(False, f"line {count + 1} is not as it was exported")
    require((count, last) == (rows, head), f"{rows} rows up to {head} were exported; here are {count} up to {last}")
    require(gone == redacted, f"bodies are gone, or not gone, against the record: rows {sorted(gone ^ redacted)}")
    require(seen, "the given head is not in this chain: it was rewritten or cut off")
    print(f"In order: {count} rows, {len(gone)} of them redacted. Head: {last}")


if __name__ == "__main__":
    verify(open(sys.argv[1], "rb"), *sys.argv[2:])
