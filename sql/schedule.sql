-- Schedules: which runs have come due, and which runs they are.

-- name: forget_run
-- A run of a schedule is deleted: its place stays, and says so.
UPDATE schedule_entry SET run_id = NULL, reason = 'its run was deleted' WHERE run_id = :run_id;
