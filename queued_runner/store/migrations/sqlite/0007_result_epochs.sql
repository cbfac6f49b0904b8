-- Whose file the results of an attempt lie in: each server that owned it had one of its own.
ALTER TABLE results ADD COLUMN epoch INTEGER NOT NULL DEFAULT 0;
