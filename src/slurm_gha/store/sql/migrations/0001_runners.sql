-- One row for each runner there ever was, until it is pruned: open while closed_at is NULL.
-- Facts and their times (seconds since the epoch); no column says what state a runner is in.
CREATE TABLE runner (
    name TEXT PRIMARY KEY NOT NULL,
    scope TEXT NOT NULL,
    pool TEXT NOT NULL,
    labels TEXT NOT NULL,
    handover TEXT NOT NULL,
    intended_at REAL NOT NULL,
    job_id INTEGER,
    repository TEXT,
    slurm_id INTEGER,
    submitted_at REAL,
    claimed_at REAL,
    minted_at REAL,
    registration_id INTEGER,
    online_at REAL,
    busy_at REAL,
    finished_at REAL,
    withdrawn_at REAL,
    withdrawn_because TEXT,
    deregistered_at REAL,
    node TEXT,
    finished_detail TEXT,
    secret_digest TEXT,
    report_digest TEXT,
    closed_at REAL,
    outcome TEXT,
    detail TEXT
);

CREATE INDEX runner_open ON runner (intended_at, name) WHERE closed_at IS NULL;

CREATE INDEX runner_closed ON runner (closed_at, name) WHERE closed_at IS NOT NULL;

-- What nodes said of their runners, in the order it arrived.
CREATE TABLE report (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL REFERENCES runner (name) ON DELETE CASCADE,
    event TEXT NOT NULL,
    at REAL NOT NULL,
    detail TEXT NOT NULL
);

CREATE INDEX report_name ON report (name, id);

-- Pools in back-off.
CREATE TABLE trouble (
    pool TEXT PRIMARY KEY NOT NULL,
    failures INTEGER NOT NULL,
    until REAL NOT NULL,
    reason TEXT NOT NULL,
    kind TEXT NOT NULL
);

CREATE TABLE meta (
    key TEXT PRIMARY KEY NOT NULL,
    value TEXT NOT NULL
);
