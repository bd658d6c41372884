-- name: add_report
INSERT INTO report (name, event, at, detail) SELECT name, :event, :at, :detail FROM runner WHERE name = :name;

-- name: reports
SELECT event, at, detail FROM report WHERE name = :name ORDER BY id;

-- name: troubles
SELECT * FROM trouble ORDER BY pool;

-- name: set_trouble
INSERT OR REPLACE INTO trouble (pool, failures, until, reason, kind) VALUES (:pool, :failures, :until, :reason, :kind);

-- name: clear_trouble
DELETE FROM trouble WHERE pool = :pool;

-- name: meta
SELECT value FROM meta WHERE key = :key;

-- name: set_meta
INSERT OR REPLACE INTO meta (key, value) VALUES (:key, :value);
