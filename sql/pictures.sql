-- What pictures show beside the rows of their report.

-- name: leaderboard
-- The runs of one set, split and pool with their intervals, best first: where the given run was
-- evaluated, or the newest. The test split comes before others. With a run given, it stands alone
-- beside the baselines. `places` counts the sets, splits and pools that there are.
WITH shown AS (
    SELECT sequence_set_id, split, pool_fingerprint
    FROM run_leaderboard
    WHERE cosine IS NOT NULL AND run_id = coalesce(CAST(:run_id AS bigint), run_id)
    ORDER BY run_id DESC, array_position(ARRAY['test', 'val', 'train'], split)
    LIMIT 1
), everywhere AS (
    SELECT count(DISTINCT (sequence_set_id, split, pool_fingerprint)) AS places
    FROM run_leaderboard
)
SELECT l.sequence_set, l.split, l.run_id, l.kind, l.architecture, l.cosine, l.cosine_low,
       l.cosine_high, l.cosine_gain, l.cosine_gain_low, l.cosine_gain_high, l.cosine_verdict,
       l.queries, l.articles, l.pool_size, everywhere.places
FROM run_leaderboard l
JOIN shown USING (sequence_set_id, split, pool_fingerprint)
CROSS JOIN everywhere
WHERE l.cosine IS NOT NULL
  AND (l.kind = 'baseline' OR l.run_id = coalesce(CAST(:run_id AS bigint), l.run_id))
ORDER BY l.cosine DESC, l.run_id;

-- name: architectures
-- Every run that counts, of one set, split and pool: the newest run's there. `best` marks the run
-- of an architecture that has the highest validation cosine. `places` counts the sets and pools
-- that the split has.
WITH there AS (
    SELECT * FROM run_result WHERE split = :split
), shown AS (
    SELECT sequence_set_id, pool_fingerprint FROM there ORDER BY run_id DESC LIMIT 1
), everywhere AS (
    SELECT count(DISTINCT (sequence_set_id, pool_fingerprint)) AS places FROM there
)
SELECT t.sequence_set, t.split, t.run_id, t.kind, t.architecture, t.cosine, t.cosine_low,
       t.cosine_high, t.cosine_gain, t.cosine_verdict, t.mrr_10, t.parameter_count, t.seconds,
       t.queries, t.articles, t.pool_size, everywhere.places,
       row_number() OVER (PARTITION BY t.kind, t.architecture
                          ORDER BY t.val_cosine DESC NULLS LAST, t.run_id) = 1 AS best
FROM there t
JOIN shown USING (sequence_set_id, pool_fingerprint)
CROSS JOIN everywhere
ORDER BY t.cosine DESC, t.run_id;

-- name: weeks
-- The places of one schedule in order, the newest or the one named, with what became of their runs;
-- and the validation cosine of the best baseline of their set.
WITH shown AS (
    SELECT x.experiment_id, x.name
    FROM experiment x
    WHERE x.name = coalesce(CAST(:schedule AS text), x.name)
      AND EXISTS (SELECT FROM schedule_entry e WHERE e.experiment_id = x.experiment_id)
    ORDER BY x.experiment_id DESC
    LIMIT 1
), tested AS (
    -- A dataset that grew leaves evaluations in the pool that it was: the newest.
    SELECT DISTINCT ON (run_id) run_id, cosine
    FROM run_leaderboard
    WHERE split = 'test'
    ORDER BY run_id, pool_size DESC
), baseline AS (
    SELECT b.architecture, v.cosine
    FROM experiment_run b
    JOIN run_validation v USING (run_id)
    WHERE b.kind = 'baseline' AND b.status = 'succeeded' AND b.sequence_set_id IN (
        SELECT r.sequence_set_id
        FROM schedule_entry e JOIN shown USING (experiment_id)
        JOIN experiment_run r ON r.run_id = e.run_id)
    ORDER BY v.cosine DESC NULLS LAST, b.run_id
    LIMIT 1
)
SELECT shown.name AS schedule, e.week, e.slot, r.run_id, r.architecture, r.status,
       v.cosine AS val_cosine, t.cosine AS test_cosine,
       baseline.architecture AS baseline, baseline.cosine AS baseline_cosine
FROM schedule_entry e
JOIN shown USING (experiment_id)
LEFT JOIN experiment_run r ON r.run_id = e.run_id
LEFT JOIN run_validation v ON v.run_id = e.run_id
LEFT JOIN tested t ON t.run_id = e.run_id
LEFT JOIN baseline ON true
ORDER BY e.week, e.slot;
