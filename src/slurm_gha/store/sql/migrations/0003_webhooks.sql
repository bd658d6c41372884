-- Webhook deliveries that were taken, by GitHub's id of them; the same id comes again when one is sent again.
CREATE TABLE delivery (
    guid TEXT PRIMARY KEY NOT NULL,
    scope TEXT NOT NULL,
    at REAL NOT NULL
) WITHOUT ROWID;

CREATE INDEX delivery_at ON delivery (at);

-- The furthest that each job was told to be. A completed one stays, so that older news cannot bring it back.
CREATE TABLE told (
    job_id INTEGER PRIMARY KEY NOT NULL,
    scope TEXT NOT NULL,
    job_rank INTEGER NOT NULL,
    at REAL NOT NULL,
    late INTEGER NOT NULL,
    job TEXT NOT NULL
);

CREATE INDEX told_at ON told (at);
