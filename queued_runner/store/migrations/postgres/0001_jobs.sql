-- The tables and columns are those of SQLite, so that a queue can be carried from one to the other.
-- Text is compared by its bytes, as there: the walk over needs counts on it. A flag is 0 or 1.
CREATE TABLE jobs (
    id BIGINT PRIMARY KEY,
    spec TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C",
    grp TEXT COLLATE "C",
    key TEXT COLLATE "C" UNIQUE,
    priority BIGINT NOT NULL,
    needs TEXT COLLATE "C" NOT NULL,
    state TEXT COLLATE "C" NOT NULL,
    is_delayed SMALLINT NOT NULL,
    reason TEXT COLLATE "C",
    exit_code BIGINT,
    signal TEXT COLLATE "C",
    attempt BIGINT NOT NULL DEFAULT 0,
    worker TEXT COLLATE "C",
    worker_id TEXT COLLATE "C",
    worker_boot TEXT COLLATE "C",
    created_at DOUBLE PRECISION NOT NULL,
    run_after DOUBLE PRECISION NOT NULL,
    started_at DOUBLE PRECISION,
    finished_at DOUBLE PRECISION,
    cancel_requested SMALLINT NOT NULL DEFAULT 0,
    failures BIGINT NOT NULL DEFAULT 0,
    losses BIGINT NOT NULL DEFAULT 0,
    log_bytes BIGINT NOT NULL DEFAULT 0,
    log_dropped BIGINT NOT NULL DEFAULT 0,
    after_ids TEXT COLLATE "C",
    waits_for BIGINT NOT NULL DEFAULT 0,
    is_awaited SMALLINT NOT NULL DEFAULT 0
);
-- Ids that a transaction took and did not keep are gaps: an id is never used again.
CREATE SEQUENCE jobs_id_seq OWNED BY jobs.id;

-- Each job leaves some dead rows behind as it goes; they lie in the way of the claim.
ALTER TABLE jobs SET (autovacuum_vacuum_scale_factor = 0.02);

CREATE INDEX jobs_ready ON jobs (needs, priority DESC, id)
    WHERE state = 'queued' AND is_delayed = 0 AND waits_for = 0;
CREATE INDEX jobs_delayed ON jobs (run_after)
    WHERE state = 'queued' AND is_delayed = 1 AND waits_for = 0;
CREATE INDEX jobs_state ON jobs (state, id);
CREATE INDEX jobs_group ON jobs (grp, id, state) WHERE grp IS NOT NULL;
CREATE INDEX jobs_name ON jobs (name, id) WHERE name IS NOT NULL;

CREATE FUNCTION jobs_terminal_is_final() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'a job that has ended stays ended' USING ERRCODE = 'check_violation';
END $$;
CREATE TRIGGER jobs_terminal_is_final BEFORE UPDATE OF state ON jobs FOR EACH ROW
WHEN (OLD.state IN ('succeeded', 'failed', 'cancelled') AND NEW.state NOT IN (OLD.state, 'queued'))
EXECUTE FUNCTION jobs_terminal_is_final();

CREATE TABLE attempts (
    job_id BIGINT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    number BIGINT NOT NULL,
    worker TEXT COLLATE "C",
    worker_id TEXT COLLATE "C",
    started_at DOUBLE PRECISION NOT NULL,
    finished_at DOUBLE PRECISION,
    reason TEXT COLLATE "C",
    exit_code BIGINT,
    signal TEXT COLLATE "C",
    duration DOUBLE PRECISION,
    max_rss BIGINT,
    cpu_time DOUBLE PRECISION,
    log_bytes BIGINT NOT NULL DEFAULT 0,
    log_dropped BIGINT NOT NULL DEFAULT 0,
    output BYTEA,
    PRIMARY KEY (job_id, number)
);

-- What workers know this queue by: they do not tell another one of its jobs.
CREATE TABLE identity (id TEXT COLLATE "C" NOT NULL);
INSERT INTO identity VALUES (replace(gen_random_uuid()::text, '-', ''));

-- Workers that are given nothing new, wherever they are.
CREATE TABLE drained_workers (
    worker_id TEXT COLLATE "C" PRIMARY KEY,
    name TEXT COLLATE "C" NOT NULL,
    at DOUBLE PRECISION NOT NULL
);

-- The files that an attempt left; their bytes are in `data` where they are few.
CREATE TABLE results (
    job_id BIGINT NOT NULL,
    number BIGINT NOT NULL,
    head BYTEA NOT NULL,
    start BIGINT NOT NULL,
    data BYTEA,
    PRIMARY KEY (job_id, number),
    FOREIGN KEY (job_id, number) REFERENCES attempts (job_id, number) ON DELETE CASCADE
);
CREATE INDEX results_in_files ON results (job_id, number) WHERE data IS NULL;

-- `is_open`: `job_id` still waits for `after_id`. A success counts once, whatever comes after it.
CREATE TABLE dependencies (
    after_id BIGINT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    job_id BIGINT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    is_open SMALLINT NOT NULL,
    PRIMARY KEY (after_id, job_id)
);
CREATE INDEX dependencies_of_job ON dependencies (job_id);

-- Jobs that have ended, and whose dependants are being told: all up to `told_to` know it.
CREATE TABLE settling (
    job_id BIGINT PRIMARY KEY REFERENCES jobs (id) ON DELETE CASCADE,
    told_to BIGINT NOT NULL DEFAULT 0
);

-- Jobs whose rows are gone, and whose files may not be.
CREATE TABLE deleted (job_id BIGINT PRIMARY KEY);
