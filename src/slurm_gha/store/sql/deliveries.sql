-- name: add_delivery
INSERT OR IGNORE INTO delivery (guid, scope, at) VALUES (:guid, :scope, :at);

-- name: known_delivery
SELECT 1 FROM delivery WHERE guid = :guid;

-- name: last_deliveries
SELECT scope, max(at) AS at FROM delivery GROUP BY scope;

-- name: add_told
INSERT INTO told (job_id, scope, job_rank, at, late, job) VALUES (:job_id, :scope, :job_rank, :at, :late, :job)
ON CONFLICT (job_id) DO UPDATE
SET scope = :scope, job_rank = :job_rank, at = :at, late = :late, job = :job
WHERE :job_rank > job_rank;

-- name: told_since
SELECT at, late, job FROM told WHERE at >= :since AND (job_rank < :completed OR at >= :completed_since) ORDER BY at;

-- name: prune_deliveries
DELETE FROM delivery WHERE at < :before;

-- name: prune_told
DELETE FROM told WHERE at < :before;
