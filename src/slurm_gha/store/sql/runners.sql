-- name: open_records
SELECT * FROM runner WHERE closed_at IS NULL;

-- name: record
SELECT * FROM runner WHERE name = :name;

-- name: known_names
SELECT name FROM runner WHERE name IN (SELECT value FROM json_each(:names));

-- name: recent
SELECT * FROM runner WHERE closed_at IS NOT NULL ORDER BY closed_at DESC, name LIMIT :limit;

-- name: outcomes
SELECT outcome, count(*) AS number FROM runner WHERE closed_at IS NOT NULL GROUP BY outcome ORDER BY outcome;

-- name: intend
INSERT INTO runner (
    name, scope, pool, labels, handover, intended_at, job_id, repository, slurm_id, submitted_at, claimed_at, minted_at,
    registration_id, online_at, busy_at, finished_at, withdrawn_at, withdrawn_because, deregistered_at, secret_digest,
    scale_set
) VALUES (
    :name, :scope, :pool, :labels, :handover, :intended_at, :job_id, :repository, :slurm_id, :submitted_at, :claimed_at,
    :minted_at, :registration_id, :online_at, :busy_at, :finished_at, :withdrawn_at, :withdrawn_because,
    :deregistered_at, :secret_digest, :scale_set
);

-- name: reopen
-- What is known already stays where the new record is silent: a claim that was used stays used. A registration that
-- was seen just now has not been removed, whatever was written before.
UPDATE runner SET
    scope = :scope,
    pool = :pool,
    labels = :labels,
    handover = :handover,
    job_id = COALESCE(:job_id, job_id),
    repository = COALESCE(:repository, repository),
    slurm_id = COALESCE(:slurm_id, slurm_id),
    submitted_at = COALESCE(submitted_at, :submitted_at),
    claimed_at = COALESCE(claimed_at, :claimed_at),
    minted_at = COALESCE(minted_at, :minted_at),
    registration_id = COALESCE(:registration_id, registration_id),
    online_at = COALESCE(online_at, :online_at),
    busy_at = COALESCE(busy_at, :busy_at),
    finished_at = COALESCE(finished_at, :finished_at),
    withdrawn_at = COALESCE(withdrawn_at, :withdrawn_at),
    withdrawn_because = COALESCE(withdrawn_because, :withdrawn_because),
    deregistered_at = CASE
        WHEN :registration_id IS NULL THEN COALESCE(deregistered_at, :deregistered_at)
        ELSE :deregistered_at
    END,
    closed_at = NULL,
    outcome = NULL,
    detail = NULL
WHERE name = :name AND closed_at IS NOT NULL;

-- name: submitted
UPDATE runner SET slurm_id = COALESCE(slurm_id, :slurm_id), submitted_at = COALESCE(submitted_at, :at)
WHERE name = :name AND closed_at IS NULL;

-- name: begin_claim
UPDATE runner SET claimed_at = :at, node = :node, slurm_id = :slurm_id
WHERE name = :name AND closed_at IS NULL AND claimed_at IS NULL AND withdrawn_at IS NULL
    AND (slurm_id IS NULL OR slurm_id = :slurm_id);

-- name: release_claim
-- Not once a configuration was handed out: a claim is worth something once.
UPDATE runner SET claimed_at = NULL, node = NULL WHERE name = :name AND closed_at IS NULL AND report_digest IS NULL;

-- name: minted
UPDATE runner SET
    registration_id = :registration_id,
    minted_at = :at,
    report_digest = COALESCE(:report_digest, report_digest),
    deregistered_at = NULL
WHERE name = :name AND closed_at IS NULL;

-- name: online
UPDATE runner SET online_at = :at WHERE name = :name AND closed_at IS NULL AND online_at IS NULL;

-- name: busy
UPDATE runner SET busy_at = :at WHERE name = :name AND closed_at IS NULL AND busy_at IS NULL;

-- name: finished
UPDATE runner SET finished_at = :at, finished_detail = :detail
WHERE name = :name AND closed_at IS NULL AND finished_at IS NULL;

-- name: withdraw
UPDATE runner SET withdrawn_because = COALESCE(withdrawn_because, :because), withdrawn_at = COALESCE(withdrawn_at, :at)
WHERE name = :name AND closed_at IS NULL;

-- name: unwithdraw
UPDATE runner SET withdrawn_at = NULL, withdrawn_because = NULL WHERE name = :name AND closed_at IS NULL;

-- name: deregistered
UPDATE runner SET deregistered_at = :at WHERE name = :name AND closed_at IS NULL AND deregistered_at IS NULL;

-- name: close_record
UPDATE runner SET closed_at = :at, outcome = :outcome, detail = :detail WHERE name = :name AND closed_at IS NULL;

-- name: prune
DELETE FROM runner WHERE closed_at < :before;
