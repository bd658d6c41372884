-- Runner scale sets as they were last seen on GitHub, one for each pool in a scope, and the session that reads its queue.
CREATE TABLE scale_set (
    scope TEXT NOT NULL,
    pool TEXT NOT NULL,
    id INTEGER NOT NULL,
    name TEXT NOT NULL,
    group_id INTEGER NOT NULL,
    labels TEXT NOT NULL,
    session_id TEXT,
    PRIMARY KEY (scope, pool)
);

-- Jobs that messages have assigned to a scale set and not called completed.
CREATE TABLE scale_set_job (
    scope TEXT NOT NULL,
    pool TEXT NOT NULL,
    job_id TEXT NOT NULL,
    repository TEXT NOT NULL,
    name TEXT NOT NULL,
    workflow_ref TEXT NOT NULL,
    run_id INTEGER NOT NULL,
    event TEXT,
    labels TEXT NOT NULL,
    queued_at REAL NOT NULL,
    started_at REAL,
    runner_name TEXT,
    PRIMARY KEY (scope, pool, job_id)
);

-- Runners whose job a message has called completed.
CREATE TABLE scale_set_done (
    name TEXT PRIMARY KEY NOT NULL REFERENCES runner (name) ON DELETE CASCADE,
    at REAL NOT NULL
);
