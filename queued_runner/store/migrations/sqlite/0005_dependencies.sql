-- `after_ids`: what a job waits for, as JSON, NULL for nothing. `waits_for`: how many of them have
-- not succeeded yet. `is_awaited`: others wait, or have waited, for this one.
ALTER TABLE jobs ADD COLUMN after_ids TEXT;
ALTER TABLE jobs ADD COLUMN waits_for INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN is_awaited INTEGER NOT NULL DEFAULT 0;

-- Jobs that wait for others are in neither: a claim never meets them.
DROP INDEX jobs_ready;
DROP INDEX jobs_delayed;
CREATE INDEX jobs_ready ON jobs (needs, priority DESC, id)
    WHERE state = 'queued' AND is_delayed = 0 AND waits_for = 0;
CREATE INDEX jobs_delayed ON jobs (run_after)
    WHERE state = 'queued' AND is_delayed = 1 AND waits_for = 0;

-- `is_open`: `job_id` still waits for `after_id`. A success counts once, whatever comes after it.
CREATE TABLE dependencies (
    after_id INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    job_id INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    is_open INTEGER NOT NULL,
    PRIMARY KEY (after_id, job_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX dependencies_of_job ON dependencies (job_id);

-- Jobs that have ended, and whose dependants are being told: all up to `told_to` know it.
CREATE TABLE settling (
    job_id INTEGER PRIMARY KEY REFERENCES jobs (id) ON DELETE CASCADE,
    told_to INTEGER NOT NULL DEFAULT 0
) STRICT;

-- Jobs whose rows are gone, and whose files may not be.
CREATE TABLE deleted (job_id INTEGER PRIMARY KEY) STRICT;
