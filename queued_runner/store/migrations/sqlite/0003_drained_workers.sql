-- Workers that are given nothing new, wherever they are: they may connect again, or with another
-- server of this queue.
CREATE TABLE drained_workers (
    worker_id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    at REAL NOT NULL
) STRICT, WITHOUT ROWID;
