-- Runners that are registered through their pool's scale set.
ALTER TABLE runner ADD COLUMN scale_set INTEGER NOT NULL DEFAULT 0;
