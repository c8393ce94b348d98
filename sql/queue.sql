-- The queue of runs: procrastinate's tables, and the rows of runs, in one transaction.
--
-- A run has at most one live job, in the queue `runs`, with the lock run-N. Its arguments count what happened to the run:
-- failures (tries that ended in an error), lost (workers that died with it), alone (it ran out of
-- memory). A try that counts is a job of its own; what does not count leaves the job the same.

-- name: is_there
-- Whether procrastinate's tables have been made. Read from pg_class: to_regclass alone may answer
-- from what this session knew before another one made them.
SELECT EXISTS (SELECT FROM pg_class WHERE oid = to_regclass('procrastinate_jobs'));

-- name: lock_making
-- One process at a time makes them.
SELECT pg_advisory_xact_lock(:key);

-- name: set_queued
-- A run goes to the queue, or back to it; the last error stays for people to see.
UPDATE experiment_run
SET status = 'queued', error = :error, traceback = :traceback, finished_at = NULL
WHERE run_id = :run_id AND status NOT IN ('succeeded', 'cancelled');

-- name: set_failed
-- A run is given up. One that has succeeded, and could not be evaluated, keeps its status.
UPDATE experiment_run
SET status = CASE status WHEN 'succeeded' THEN status ELSE 'failed' END,
    finished_at = CASE status WHEN 'succeeded' THEN finished_at ELSE now() END,
    error = :error, traceback = :traceback
WHERE run_id = :run_id AND status <> 'cancelled';

-- name: claimed
-- Whether a living process has a run.
SELECT EXISTS (
    SELECT FROM pg_locks
    WHERE locktype = 'advisory' AND granted
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND classid = :lock_class AND objid = :run_id
);

-- name: live_job
-- Whether a run waits in the queue or is at a worker.
SELECT EXISTS (
    SELECT FROM procrastinate_jobs
    WHERE queue_name = 'runs' AND lock = 'run-' || :run_id ::bigint AND status IN ('todo', 'doing')
);

-- name: live_runs
-- Runs that wait, for their time included, or are at a worker.
SELECT (args ->> 'run_id')::bigint AS run_id FROM procrastinate_jobs
WHERE queue_name = 'runs' AND status IN ('todo', 'doing');

-- name: defer
-- A job for a run, offered after so many seconds.
SELECT procrastinate_defer_jobs_v1(ARRAY[ROW(
    'runs', 'lvmdb.run', :priority, 'run-' || :run_id ::bigint, 'run-' || :run_id ::bigint,
    CAST(:args AS jsonb),
    now() + make_interval(secs => nullif(CAST(:delay AS double precision), 0))
)::procrastinate_job_to_defer_v1]);

-- name: set_priority
-- The job of a run that waits in the queue is taken sooner, or later.
UPDATE procrastinate_jobs SET priority = :priority
WHERE queue_name = 'runs' AND lock = 'run-' || :run_id ::bigint AND status = 'todo';

-- name: take
-- The job that comes next, now this worker's; NULLs if there is none.
SELECT id, priority, args FROM procrastinate_fetch_job_v2(ARRAY['runs' ::varchar], :worker_id);

-- name: hold
-- A job's row, if it is still this worker's, until the transaction ends.
SELECT id FROM procrastinate_jobs
WHERE id = :job_id AND status = 'doing' AND worker_id = :worker_id FOR UPDATE;

-- name: put_back
-- The same job is offered again, after so many seconds.
SELECT procrastinate_retry_job_v2(
    :job_id, now() + make_interval(secs => nullif(CAST(:delay AS double precision), 0)),
    NULL, NULL, NULL
);

-- name: finish
-- A job ends.
SELECT procrastinate_finish_job_v1(:job_id, CAST(:status AS procrastinate_job_status), false);

-- name: take_away
-- The job of a run that waits in the queue.
SELECT procrastinate_cancel_job_v1(id, false, false) FROM procrastinate_jobs
WHERE queue_name = 'runs' AND lock = 'run-' || :run_id ::bigint AND status = 'todo';

-- name: stalled
-- Jobs of workers that have been silent for so long, and those that this worker was given by a
-- server that went away before it could say so. A server that has just come back says nothing of
-- who is alive.
SELECT j.id, j.priority, j.args, j.worker_id
FROM procrastinate_jobs j
LEFT JOIN procrastinate_workers w ON w.id = j.worker_id
WHERE j.queue_name = 'runs' AND j.status = 'doing'
  -- A job that this worker has may stand under its former id: it was asleep, and was forgotten.
  AND j.id <> ALL (:held ::bigint[])
  AND (j.worker_id = :worker_id
       OR j.worker_id IS DISTINCT FROM :worker_id
          AND coalesce(w.last_heartbeat, '-infinity') < now() - make_interval(secs => :silent_for)
          AND pg_postmaster_start_time() < now() - make_interval(secs => :silent_for))
ORDER BY j.id;

-- name: hold_stalled
-- Such a job's row, if it is still as it was found, until the transaction ends.
SELECT id FROM procrastinate_jobs
WHERE id = :job_id AND status = 'doing' AND worker_id IS NOT DISTINCT FROM :worker_id FOR UPDATE;

-- name: register
-- A worker begins.
SELECT worker_id FROM procrastinate_register_worker_v1();

-- name: beat
-- A worker is alive.
SELECT procrastinate_update_heartbeat_v1(:worker_id);

-- name: registered
-- Whether a worker's row is still there.
SELECT EXISTS (SELECT FROM procrastinate_workers WHERE id = :worker_id);

-- name: unregister
-- A worker ends.
SELECT procrastinate_unregister_worker_v1(:worker_id);

-- name: forget_workers
-- Those that have been silent for so long are gone.
SELECT procrastinate_prune_stalled_workers_v1(:silent_for);
