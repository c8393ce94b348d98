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

-- name: rests_on
-- What would lose its ground with a run, the first of it in words; nothing if nothing rests on it.
SELECT told
FROM (
    SELECT 1 AS place, a.name AS name, 0 AS run_id,
           format('it is promoted as ''%s'', promote another run first', a.name) AS told
    FROM run_alias a WHERE a.run_id = :run_id
    UNION ALL
    SELECT 2, NULL, m.ensemble_run_id,
           format('it is a member of ensemble %s, delete that first', m.ensemble_run_id)
    FROM ensemble_member m WHERE m.member_run_id = :run_id
    UNION ALL
    SELECT 3, NULL, r.run_id,
           format('run %s was forked from it, delete that first', r.run_id)
    FROM experiment_run r WHERE r.parent_run_id = :run_id
) AS resting
ORDER BY place, name, run_id
LIMIT 1;

-- name: trained_on_held_out
-- How many articles that a set holds out were trained on by a run or by one that it was forked
-- from, on another set; and the nearest such run. Articles of the same text are the same. Where
-- windows run across articles, an article may be on every side.
WITH RECURSIVE line AS (
    SELECT 1 AS depth, run_id, parent_run_id, sequence_set_id
    FROM experiment_run WHERE run_id = :parent_run_id
    UNION ALL
    SELECT l.depth + 1, r.run_id, r.parent_run_id, r.sequence_set_id
    FROM line l JOIN experiment_run r ON r.run_id = l.parent_run_id
) CYCLE run_id SET looped USING path
, held_out AS (
    SELECT DISTINCT a.text_hash
    FROM sequence_article sa JOIN article a USING (article_id)
    WHERE sa.sequence_set_id = :sequence_set_id AND coalesce(sa.split, 'test') <> 'train'
), seen AS (
    SELECT l.depth, l.run_id, l.sequence_set_id, h.text_hash
    FROM line l
    JOIN sequence_article sa ON sa.sequence_set_id = l.sequence_set_id
        AND coalesce(sa.split, 'train') = 'train'
    JOIN article a USING (article_id)
    JOIN held_out h USING (text_hash)
    WHERE NOT l.looped AND l.sequence_set_id <> :sequence_set_id
)
SELECT count(DISTINCT text_hash) AS articles,
       (array_agg(run_id ORDER BY depth))[1] AS run_id,
       (array_agg(s.name ORDER BY depth))[1] AS name
FROM seen JOIN sequence_set s USING (sequence_set_id);

-- name: without_process
-- Runs that say that they run, and of which nothing has been heard for so long: no session has their
-- lock. A server that has just come back says nothing of who is alive.
SELECT r.run_id
FROM experiment_run r
WHERE r.status = 'running'
  AND r.heartbeat_at < now() - make_interval(secs => :silent_for)
  AND pg_postmaster_start_time() < now() - make_interval(secs => :silent_for)
  AND NOT EXISTS (
    SELECT FROM pg_locks
    WHERE locktype = 'advisory' AND granted
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND classid = :lock_class AND objid = r.run_id);

-- name: rests_on_unended
-- What a run that has yet to succeed needs, and what is in the queue or runs: the members of an
-- ensemble, and the parent of a fork that has no weights of its own.
SELECT n.run_id
FROM experiment_run r
JOIN experiment_run n ON n.run_id = r.parent_run_id AND NOT EXISTS (
        SELECT FROM checkpoint c WHERE c.run_id = r.run_id AND c.kind = 'last')
    OR n.run_id IN (SELECT member_run_id FROM ensemble_member WHERE ensemble_run_id = r.run_id)
WHERE r.run_id = :run_id AND r.status <> 'succeeded' AND n.status IN ('queued', 'running');

-- name: members
-- The runs that an ensemble is made of.
SELECT m.member_run_id AS run_id, m.weight, r.status, r.parameter_count
FROM ensemble_member m JOIN experiment_run r ON r.run_id = m.member_run_id
WHERE m.ensemble_run_id = :ensemble_run_id
ORDER BY m.member_run_id;

-- name: lock_ensemble_name
-- One process at a time makes an ensemble of this name; the lock ends with the transaction.
SELECT pg_advisory_xact_lock(hashtextextended('ensemble ' || CAST(:name AS text), 0));

-- name: ensemble_of_name
-- The ensemble of this name.
SELECT run_id FROM experiment_run
WHERE kind = 'ensemble' AND hyperparameters ->> 'name' = CAST(:name AS text)
ORDER BY run_id LIMIT 1;

-- name: lock_alias
-- One process at a time moves an alias; the lock ends with the transaction.
SELECT pg_advisory_xact_lock(hashtextextended('run_alias ' || CAST(:name AS text), 0));

-- name: promote
-- From now on the alias stands for this run.
INSERT INTO run_alias (name, run_id) VALUES (:name, :run_id)
ON CONFLICT (name) DO UPDATE
SET moved_at = CASE WHEN run_alias.run_id = excluded.run_id THEN run_alias.moved_at ELSE now() END,
    run_id = excluded.run_id;

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
-- A run of the same configuration, data and seed, so that the demo repeats nothing; a fork began
-- elsewhere.
SELECT run_id, status FROM experiment_run
WHERE architecture = :architecture AND sequence_set_id = :sequence_set_id AND seed = :seed
  AND loss IS NOT DISTINCT FROM CAST(:loss AS text)
  AND hyperparameters = CAST(:hyperparameters AS jsonb) AND parent_run_id IS NULL
ORDER BY run_id LIMIT 1;

-- name: show_run
-- All that is known of a run.
SELECT r.run_id AS run, r.kind, r.architecture, r.hyperparameters, r.loss, s.name AS sequences,
       s.dataset_source AS dataset, encode(r.sequence_fingerprint, 'hex') AS data_fingerprint,
       r.seed, r.status, array_to_string(r.stamps, ' ') AS stamps, r.code_version, r.code_dirty,
       r.environment, r.device, r.kernel, r.parameter_count AS parameters, r.worker,
       r.heartbeat_at, c.epoch AS best_epoch, encode(c.sha256, 'hex') AS best_sha256,
       r.parent_run_id AS parent,
       (SELECT string_agg(format('%s (weight %s)', m.member_run_id, round(m.weight::numeric, 4)), ', '
                          ORDER BY m.member_run_id)
        FROM ensemble_member m WHERE m.ensemble_run_id = r.run_id) AS members,
       (SELECT string_agg(a.name, ' ' ORDER BY a.name)
        FROM run_alias a WHERE a.run_id = r.run_id) AS promoted_as,
       (SELECT format('%s week %s slot %s: %s', x.name, e.week, e.slot, e.title)
        FROM schedule_entry e JOIN experiment x USING (experiment_id)
        WHERE e.run_id = r.run_id) AS schedule,
       r.created_at, r.started_at, r.finished_at, r.error, r.traceback
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

-- name: served
-- Which runs promoted names stand for now, and which weights some runs have: what a service that
-- holds models asks again and again. A row has a name and a run, or a run and a hash.
SELECT name, run_id, NULL::bytea AS sha256 FROM run_alias
UNION ALL
SELECT NULL, run_id, sha256 FROM checkpoint
WHERE kind = 'best' AND run_id = ANY (CAST(:run_ids AS bigint[]));

-- name: promoted_runs
-- Runs that have promoted names, and what they were last found worth on their test split, ranked
-- among all concepts of the dataset.
SELECT a.name AS alias, a.moved_at, r.run_id, r.kind, r.architecture,
       coalesce(r.parameter_count, 0) AS parameters,
       s.dataset_source AS dataset, s.name AS sequences, s.context_len, e.name AS encoder,
       coalesce((
           SELECT jsonb_object_agg(metric, jsonb_build_object(
               'value', value, 'low', low, 'high', high))
           FROM (SELECT DISTINCT ON (metric) metric, value, low, high
                 FROM evaluation
                 WHERE run_id = r.run_id AND split = 'test' AND pool = 'corpus'
                 ORDER BY metric, version DESC, evaluation_id DESC) latest
       ), '{}') AS test
FROM run_alias a
JOIN experiment_run r USING (run_id)
JOIN sequence_set s USING (sequence_set_id)
JOIN encoder e USING (encoder_id)
ORDER BY a.name;
