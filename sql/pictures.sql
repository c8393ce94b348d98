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
