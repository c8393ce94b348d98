-- Runs, their metrics and checkpoints.

-- name: claim
-- One process at a time has a run. The lock ends with the session, however that ends.
SELECT pg_try_advisory_lock(:lock_class ::integer, :run_id ::integer);

-- name: still_claimed
-- Whether the session that claimed a run still has its lock.
SELECT EXISTS (
    SELECT FROM pg_locks
    WHERE locktype = 'advisory' AND granted AND pid = :pid
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND classid = :lock_class AND objid = :run_id
);

-- name: heartbeat
-- For people and for the queue: the run is alive; its process reads here that it was cancelled.
UPDATE experiment_run SET heartbeat_at = now() WHERE run_id = :run_id RETURNING status;

-- name: start
-- A run begins, or goes on.
UPDATE experiment_run
SET status = 'running', started_at = coalesce(started_at, now()), finished_at = NULL,
    heartbeat_at = now(), error = NULL, traceback = NULL, worker = :worker, device = :device,
    kernel = :kernel, parameter_count = :parameter_count, code_version = :code_version,
    code_dirty = :code_dirty, environment = CAST(:environment AS jsonb),
    seen_fingerprint = :seen_fingerprint,
    stamps = stamps || ARRAY(SELECT s FROM unnest(:stamps ::text[]) s WHERE s <> ALL (stamps))
WHERE run_id = :run_id;

-- name: finish
-- A run ends well.
UPDATE experiment_run
SET status = 'succeeded', finished_at = now(), heartbeat_at = now(),
    parameter_count = :parameter_count
WHERE run_id = :run_id;

-- name: fail
-- A run ends badly, and leaves the reason; not if another worker has it by now.
UPDATE experiment_run
SET status = 'failed', finished_at = now(), error = :error, traceback = :traceback
WHERE run_id = :run_id AND status NOT IN ('succeeded', 'cancelled')
  AND worker IS NOT DISTINCT FROM coalesce(CAST(:worker AS text), worker);

-- name: forget_metrics_after
-- Metrics of steps after the last checkpoint, before they are taken again.
DELETE FROM run_metric WHERE run_id = :run_id AND step > :step;

-- name: write_metric
-- One number that training measured.
INSERT INTO run_metric (run_id, name, split, step, epoch, value)
VALUES (:run_id, :name, :split, :step, :epoch, :value)
ON CONFLICT (run_id, name, split, step) DO UPDATE
SET epoch = excluded.epoch, value = excluded.value, recorded_at = now();

-- name: checkpoint_data
-- The bytes of a checkpoint, in order.
SELECT data FROM checkpoint_chunk WHERE checkpoint_id = :checkpoint_id ORDER BY ordinal;

-- name: list_runs
-- All runs, newest first.
SELECT r.run_id AS run, r.architecture, s.name AS sequences, r.seed, r.loss, r.status,
       (SELECT max(m.epoch) FROM run_metric m WHERE m.run_id = r.run_id) AS epochs,
       (SELECT min(m.value) FROM run_metric m
        WHERE m.run_id = r.run_id AND m.name = 'loss' AND m.split = 'val') AS best_val_loss,
       r.parameter_count AS parameters, r.device, r.kernel, r.stamps,
       CASE WHEN r.status = 'running' THEN now() - r.heartbeat_at END AS silent_for,
       r.created_at
FROM experiment_run r
JOIN sequence_set s USING (sequence_set_id)
ORDER BY r.run_id DESC;

-- name: same_run
-- A run of the same configuration, data and seed, so that the demo repeats nothing.
SELECT run_id, status FROM experiment_run
WHERE architecture = :architecture AND sequence_set_id = :sequence_set_id AND seed = :seed
  AND loss IS NOT DISTINCT FROM CAST(:loss AS text)
  AND hyperparameters = CAST(:hyperparameters AS jsonb)
ORDER BY run_id LIMIT 1;

-- name: show_run
-- All that is known of a run.
SELECT r.run_id AS run, r.kind, r.architecture, r.hyperparameters, r.loss, s.name AS sequences,
       s.dataset_source AS dataset, encode(r.sequence_fingerprint, 'hex') AS data_fingerprint,
       r.seed, r.status, array_to_string(r.stamps, ' ') AS stamps, r.code_version, r.code_dirty,
       r.environment, r.device, r.kernel, r.parameter_count AS parameters, r.worker,
       r.heartbeat_at, c.epoch AS best_epoch, encode(c.sha256, 'hex') AS best_sha256,
       r.parent_run_id AS parent, r.created_at, r.started_at, r.finished_at, r.error, r.traceback
FROM experiment_run r
JOIN sequence_set s USING (sequence_set_id)
LEFT JOIN checkpoint c ON c.run_id = r.run_id AND c.kind = 'best'
WHERE r.run_id = :run_id;

-- name: best_baseline_loss
-- The lowest validation loss among the baselines of the data that these runs share; nothing where
-- they share neither data nor loss. A baseline's term is the same number as a model's loss.
WITH chosen AS (
    SELECT DISTINCT sequence_set_id, loss FROM experiment_run
    WHERE run_id = ANY (:run_ids ::bigint[])
)
SELECT r.architecture, m.value
FROM chosen c
JOIN experiment_run r ON r.sequence_set_id = c.sequence_set_id AND r.kind = 'baseline'
JOIN run_metric m ON m.run_id = r.run_id AND m.split = 'val'
    AND m.name = CASE c.loss WHEN 'mse' THEN 'mse_sum' WHEN 'cosine' THEN 'cosine_distance' END
WHERE (SELECT count(*) FROM chosen) = 1
ORDER BY m.value
LIMIT 1;
