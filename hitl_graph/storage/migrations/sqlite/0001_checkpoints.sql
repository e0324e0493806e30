-- LangGraph's checkpoints. Rows are only ever appended, so that a step writes at the end of each table.

-- A thread and one of its namespaces ("" is the graph itself, the others are its subgraphs).
CREATE TABLE namespaces (
    ns INTEGER PRIMARY KEY AUTOINCREMENT,
    thread_id TEXT NOT NULL,
    checkpoint_ns TEXT NOT NULL,
    UNIQUE (thread_id, checkpoint_ns)
);

CREATE TABLE checkpoints (
    id INTEGER PRIMARY KEY,
    ns INTEGER NOT NULL,
    checkpoint_id TEXT NOT NULL,
    parent_id TEXT,
    metadata TEXT NOT NULL,          -- JSON
    skeleton BLOB NOT NULL,          -- everything but the values in refs
    refs TEXT NOT NULL               -- JSON {channel: segment}: lists and long values, shared by all that have them
);
CREATE UNIQUE INDEX checkpoints_by_id ON checkpoints (ns, checkpoint_id);

-- The value of a channel. A list is the first `keep` elements of its parent's list and `count` of its own.
-- keep = -1: no list, one element. AUTOINCREMENT, because caches rely on an id never meaning another value later.
CREATE TABLE segments (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    ns INTEGER NOT NULL,
    parent INTEGER,
    keep INTEGER NOT NULL,
    count INTEGER NOT NULL,
    data BLOB NOT NULL
);
CREATE INDEX segments_by_ns ON segments (ns);

CREATE TABLE writes (
    id INTEGER PRIMARY KEY,
    ns INTEGER NOT NULL,
    checkpoint_id TEXT NOT NULL,
    task_id TEXT NOT NULL,
    idx INTEGER NOT NULL,
    task_path TEXT NOT NULL,
    channel TEXT NOT NULL,
    value BLOB NOT NULL              -- one element
);
CREATE UNIQUE INDEX writes_by_task ON writes (ns, checkpoint_id, task_id, idx);
