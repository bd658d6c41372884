-- name: scale_sets
SELECT * FROM scale_set ORDER BY scope, pool;

-- name: set_scale_set
INSERT INTO scale_set (scope, pool, id, name, group_id, labels) VALUES (:scope, :pool, :id, :name, :group_id, :labels)
ON CONFLICT (scope, pool) DO UPDATE SET
    session_id = CASE WHEN id = excluded.id THEN session_id END,
    id = excluded.id,
    name = excluded.name,
    group_id = excluded.group_id,
    labels = excluded.labels;

-- name: set_scale_set_session
UPDATE scale_set SET session_id = :session_id WHERE scope = :scope AND pool = :pool;

-- name: forget_scale_set
DELETE FROM scale_set WHERE scope = :scope AND pool = :pool;

-- name: forget_scale_set_jobs
DELETE FROM scale_set_job WHERE scope = :scope AND pool = :pool;

-- name: scale_set_jobs
SELECT * FROM scale_set_job ORDER BY scope, pool, queued_at, job_id;

-- name: set_scale_set_job
INSERT OR REPLACE INTO scale_set_job (
    scope, pool, job_id, repository, name, workflow_ref, run_id, event, labels, queued_at, started_at, runner_name
) VALUES (
    :scope, :pool, :job_id, :repository, :name, :workflow_ref, :run_id, :event, :labels, :queued_at, :started_at,
    :runner_name
);

-- name: forget_scale_set_job
DELETE FROM scale_set_job WHERE scope = :scope AND pool = :pool AND job_id = :job_id;

-- name: scale_set_done
INSERT OR IGNORE INTO scale_set_done (name, at) SELECT name, :at FROM runner WHERE name = :name;

-- name: scale_set_done_names
SELECT name FROM scale_set_done JOIN runner USING (name) WHERE closed_at IS NULL;
