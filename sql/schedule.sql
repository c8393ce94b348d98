-- Schedules: which runs have come due, and which runs they are.

-- name: due
-- The schedules in which something is to be chosen now, and the stage of it. A stage is due when
-- every run of the stages before it is settled: failed, cancelled, or succeeded and evaluated on
-- the validation split with the weights that it has now. One that succeeded and whose evaluation
-- was given up has an error. A run whose process is gone, and that nobody will be offered, counts as
-- failed.
WITH entry AS (
    SELECT e.experiment_id, e.stage,
           e.run_id IS NULL AND e.reason IS NULL AS open,
           e.reason IS NOT NULL OR r.status IN ('failed', 'cancelled')
               OR r.run_id = ANY (:abandoned ::bigint[])
               OR r.status = 'succeeded' AND (r.error IS NOT NULL OR EXISTS (
                   SELECT FROM evaluation v
                   JOIN checkpoint c ON c.run_id = v.run_id AND c.kind = 'best'
                       AND c.sha256 = v.checkpoint_sha256
                   WHERE v.run_id = r.run_id AND v.split = 'val' AND v.pool = 'corpus'
                     AND v.metric = 'cosine'))
               AS settled
    FROM schedule_entry e
    LEFT JOIN experiment_run r USING (run_id)
    -- What is complete costs nothing.
    WHERE EXISTS (SELECT FROM schedule_entry o WHERE o.experiment_id = e.experiment_id
                    AND o.run_id IS NULL AND o.reason IS NULL)
), next AS (
    SELECT experiment_id, min(stage) AS stage FROM entry WHERE open GROUP BY experiment_id
)
SELECT n.experiment_id, n.stage
FROM next n
WHERE NOT EXISTS (
    SELECT FROM entry e
    WHERE e.experiment_id = n.experiment_id AND e.stage < n.stage AND e.settled IS NOT TRUE
)
ORDER BY n.experiment_id;

-- name: lock
-- One process at a time chooses; the lock ends with the transaction.
SELECT pg_advisory_xact_lock(hashtextextended('schedule', 0));

-- name: open_entries
-- What is to be chosen in a stage of a schedule.
SELECT week, slot, title, rule
FROM schedule_entry
WHERE experiment_id = :experiment_id AND stage = :stage AND run_id IS NULL AND reason IS NULL
ORDER BY week, slot;

-- name: best_architectures
-- The best run of each architecture among the fixed ones of a schedule, the best architecture
-- first. By the cosine on the validation split, of its newest version and of the weights that the
-- runs have now: the test split chooses nothing.
SELECT architecture, run_id, cosine
FROM (
    SELECT DISTINCT ON (r.architecture) r.architecture, r.run_id, v.value AS cosine
    FROM schedule_entry e
    JOIN experiment_run r USING (run_id)
    JOIN evaluation v USING (run_id)
    JOIN checkpoint c ON c.run_id = r.run_id AND c.kind = 'best' AND c.sha256 = v.checkpoint_sha256
    WHERE e.experiment_id = :experiment_id AND e.stage = 0 AND r.status = 'succeeded'
      AND v.split = 'val' AND v.pool = 'corpus' AND v.metric = 'cosine'
      AND v.version = (SELECT max(version) FROM evaluation
                       WHERE pool = 'corpus' AND metric = 'cosine')
    ORDER BY r.architecture, v.value DESC, r.run_id
) AS best
ORDER BY cosine DESC, run_id
LIMIT :best;

-- name: finalists
-- The architectures that were chosen for new seeds, by rank, and the best run of each: of the grid
-- or of a new seed, as in best_architectures.
WITH chosen AS (
    SELECT DISTINCT (rule ->> 'rank')::integer AS rank, rule ->> 'architecture' AS architecture
    FROM schedule_entry
    WHERE experiment_id = :experiment_id AND rule ->> 'choose' = 'seed' AND rule ? 'architecture'
)
SELECT DISTINCT ON (n.rank) n.rank, n.architecture, r.run_id, v.value AS cosine
FROM chosen n
JOIN schedule_entry e ON e.experiment_id = :experiment_id
    AND (e.stage = 0 OR e.rule ->> 'choose' = 'seed')
JOIN experiment_run r ON r.run_id = e.run_id AND r.architecture = n.architecture
JOIN evaluation v ON v.run_id = r.run_id
JOIN checkpoint c ON c.run_id = r.run_id AND c.kind = 'best' AND c.sha256 = v.checkpoint_sha256
WHERE r.status = 'succeeded'
  AND v.split = 'val' AND v.pool = 'corpus' AND v.metric = 'cosine'
  AND v.version = (SELECT max(version) FROM evaluation WHERE pool = 'corpus' AND metric = 'cosine')
ORDER BY n.rank, v.value DESC, r.run_id;

-- name: fill
-- A run takes its place, with what it was chosen from.
UPDATE schedule_entry
SET run_id = :run_id, rule = rule || CAST(:chosen AS jsonb)
WHERE experiment_id = :experiment_id AND week = :week AND slot = :slot;

-- name: leave_out
-- A place stays empty.
UPDATE schedule_entry SET reason = :reason
WHERE experiment_id = :experiment_id AND week = :week AND slot = :slot;

-- name: forget_run
-- A run of a schedule is deleted: its place stays, and says so.
UPDATE schedule_entry SET run_id = NULL, reason = 'its run was deleted' WHERE run_id = :run_id;

-- name: missing_baselines
-- Baselines that a set has no run of that is done or on its way; and one that was planned, if any.
SELECT b.architecture,
       (SELECT min(r.run_id) FROM experiment_run r
        WHERE r.architecture = b.architecture AND r.sequence_set_id = :sequence_set_id
          AND r.status = 'planned') AS run_id
FROM unnest(:architectures ::text[]) WITH ORDINALITY AS b (architecture, place)
WHERE NOT EXISTS (
    SELECT FROM experiment_run r
    WHERE r.architecture = b.architecture AND r.sequence_set_id = :sequence_set_id
      AND r.status IN ('queued', 'running', 'succeeded')
)
ORDER BY b.place;

-- name: list_schedules
-- All schedules, newest first: what they are, and how many of their runs are where.
SELECT x.name, x.description,
       count(*) AS entries,
       count(*) FILTER (WHERE r.status = 'succeeded') AS succeeded,
       count(*) FILTER (WHERE r.status = 'running') AS running,
       count(*) FILTER (WHERE r.status IN ('planned', 'queued')) AS waiting,
       count(*) FILTER (WHERE r.status IN ('failed', 'cancelled')) AS failed_or_cancelled,
       count(*) FILTER (WHERE e.run_id IS NULL AND e.reason IS NULL) AS to_be_chosen,
       count(*) FILTER (WHERE e.reason IS NOT NULL) AS left_out,
       x.created_at
FROM experiment x
JOIN schedule_entry e USING (experiment_id)
LEFT JOIN experiment_run r USING (run_id)
GROUP BY x.experiment_id
ORDER BY x.experiment_id DESC;
