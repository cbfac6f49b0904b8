CREATE TABLE jobs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    spec TEXT NOT NULL,
    name TEXT,
    grp TEXT,
    key TEXT UNIQUE,
    priority INTEGER NOT NULL,
    needs TEXT NOT NULL,
    state TEXT NOT NULL,
    is_delayed INTEGER NOT NULL,
    reason TEXT,
    exit_code INTEGER,
    signal TEXT,
    attempt INTEGER NOT NULL DEFAULT 0,
    worker TEXT,
    worker_id TEXT,
    worker_boot TEXT,
    created_at REAL NOT NULL,
    run_after REAL NOT NULL,
    started_at REAL,
    finished_at REAL,
    cancel_requested INTEGER NOT NULL DEFAULT 0,
    failures INTEGER NOT NULL DEFAULT 0,
    losses INTEGER NOT NULL DEFAULT 0,
    log_bytes INTEGER NOT NULL DEFAULT 0,
    log_dropped INTEGER NOT NULL DEFAULT 0
) STRICT;

-- The claim walks this one; a queue of a million rows costs it nothing.
CREATE INDEX jobs_ready ON jobs (needs, priority DESC, id) WHERE state = 'queued' AND is_delayed = 0;
CREATE INDEX jobs_delayed ON jobs (run_after) WHERE state = 'queued' AND is_delayed = 1;
-- Pages, newest first, and counts. That of groups holds the state too, so that counting a group
-- reads no row.
CREATE INDEX jobs_state ON jobs (state, id);
CREATE INDEX jobs_group ON jobs (grp, id, state) WHERE grp IS NOT NULL;
CREATE INDEX jobs_name ON jobs (name, id) WHERE name IS NOT NULL;

CREATE TRIGGER jobs_terminal_is_final BEFORE UPDATE OF state ON jobs
WHEN OLD.state IN ('succeeded', 'failed', 'cancelled') AND NEW.state NOT IN (OLD.state, 'queued')
BEGIN
    SELECT RAISE(ABORT, 'a job that has ended stays ended');
END;

CREATE TABLE attempts (
    job_id INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    worker TEXT,
    worker_id TEXT,
    started_at REAL NOT NULL,
    finished_at REAL,
    reason TEXT,
    exit_code INTEGER,
    signal TEXT,
    duration REAL,
    max_rss INTEGER,
    cpu_time REAL,
    log_bytes INTEGER NOT NULL DEFAULT 0,
    log_dropped INTEGER NOT NULL DEFAULT 0,
    output BLOB,
    PRIMARY KEY (job_id, number)
) STRICT;
