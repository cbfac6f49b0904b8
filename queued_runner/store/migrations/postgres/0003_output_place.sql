-- Where the servers of this queue keep its output, as the first of them has named it.
ALTER TABLE identity ADD COLUMN output TEXT COLLATE "C";
