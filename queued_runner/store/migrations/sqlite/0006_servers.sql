-- Who has what runs. `id` is of one life of a server, `beat_at` when it was last seen alive.
-- `commits` counts its transactions, so that one whose end was not heard can be looked for.
CREATE TABLE servers (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    beat_at REAL NOT NULL,
    commits INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

-- Where workers are connected. `boot` and `connection` say which of two connections is newer;
-- `facts` are what people see of it, as JSON.
CREATE TABLE workers (
    worker_id TEXT PRIMARY KEY,
    server TEXT NOT NULL,
    boot TEXT NOT NULL,
    connection INTEGER NOT NULL,
    facts TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- `server`: who has the running attempt, NULL: nobody. `handovers`: how often that has changed since
-- it was claimed. `give_up_at`: when an attempt that nobody has is given up, `detach` seconds after
-- that began; NULL: as many as the server says.
ALTER TABLE jobs ADD COLUMN server TEXT;
ALTER TABLE jobs ADD COLUMN handovers INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN give_up_at REAL;
ALTER TABLE jobs ADD COLUMN detach REAL;
ALTER TABLE jobs ADD COLUMN cancel_signal TEXT;
ALTER TABLE jobs ADD COLUMN cancel_grace REAL;
UPDATE jobs SET detach = spec ->> '$.detach' WHERE state IN ('queued', 'running');
CREATE INDEX jobs_of_nobody ON jobs (worker_id, give_up_at) WHERE give_up_at IS NOT NULL;
