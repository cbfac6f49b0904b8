-- Who has what runs. `id` is of one life of a server, `beat_at` when it was last seen alive.
-- `commits` counts its transactions, so that one whose end was not heard can be looked for.
CREATE TABLE servers (
    id TEXT COLLATE "C" PRIMARY KEY,
    name TEXT COLLATE "C" NOT NULL,
    beat_at DOUBLE PRECISION NOT NULL,
    commits BIGINT NOT NULL DEFAULT 0
) WITH (fillfactor = 20, autovacuum_vacuum_threshold = 1000);

-- Where workers are connected. `boot` and `connection` say which of two connections is newer;
-- `facts` are what people see of it, as JSON.
CREATE TABLE workers (
    worker_id TEXT COLLATE "C" PRIMARY KEY,
    server TEXT COLLATE "C" NOT NULL,
    boot TEXT COLLATE "C" NOT NULL,
    connection BIGINT NOT NULL,
    facts TEXT COLLATE "C" NOT NULL
);
CREATE INDEX workers_of_server ON workers (server);

-- `server`: who has the running attempt, NULL: nobody. `handovers`: how often that has changed since
-- it was claimed. `give_up_at`: when an attempt that nobody has is given up, `detach` seconds after
-- that began; NULL: as many as the server says.
ALTER TABLE jobs ADD COLUMN server TEXT COLLATE "C";
ALTER TABLE jobs ADD COLUMN handovers BIGINT NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN give_up_at DOUBLE PRECISION;
ALTER TABLE jobs ADD COLUMN detach DOUBLE PRECISION;
ALTER TABLE jobs ADD COLUMN cancel_signal TEXT COLLATE "C";
ALTER TABLE jobs ADD COLUMN cancel_grace DOUBLE PRECISION;
CREATE INDEX jobs_of_nobody ON jobs (give_up_at) WHERE give_up_at IS NOT NULL;
CREATE INDEX jobs_of_worker ON jobs (worker_id) WHERE state = 'running';

-- The epoch that names the file of an attempt's results.
ALTER TABLE results ADD COLUMN epoch BIGINT NOT NULL DEFAULT 0;
