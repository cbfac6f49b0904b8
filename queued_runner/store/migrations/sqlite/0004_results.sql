-- The files that an attempt left. A row is made with the attempt's outcome, in one transaction: what
-- has none is not there. Its bytes are in `data` where they are few, else in a file of the attempt.
CREATE TABLE results (
    job_id INTEGER NOT NULL,
    number INTEGER NOT NULL,
    head BLOB NOT NULL,
    start INTEGER NOT NULL,
    data BLOB,
    PRIMARY KEY (job_id, number),
    FOREIGN KEY (job_id, number) REFERENCES attempts (job_id, number) ON DELETE CASCADE
) STRICT;
