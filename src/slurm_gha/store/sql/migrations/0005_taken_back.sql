-- When GitHub took the job back from the scale set, without any runner having had it (seconds since the epoch).
ALTER TABLE scale_set_job ADD COLUMN taken_back_at REAL;
