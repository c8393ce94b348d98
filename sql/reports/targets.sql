-- Which runs reach what was wanted of them? (Table success_target; rows may be added.)
-- Metrics are those of the present weights on the test windows, among all concepts of the dataset,
-- in their newest version; training_hours is the time from start to end, pauses included. What
-- nothing has measured is neither met nor missed.
-- On unit vectors the summed squared error is 2 - 2 cosine: .20 there is a cosine of .90, and .25
-- one of .875; as a mean over 768 dimensions .25 would be worse than chance. The pair that was once
-- reported as a beginning, .25 at a cosine of .75, therefore fits neither definition.
-- For one run: SET lvmdb.run_id = 7;
WITH latest AS (
    SELECT *
    FROM (SELECT *, max(version) OVER (PARTITION BY pool, metric) AS newest
          FROM evaluation) versioned
    WHERE version = newest
), measured AS (
    SELECT e.run_id, e.metric, e.value
    FROM latest e
    LEFT JOIN checkpoint k ON k.run_id = e.run_id AND k.kind = 'best'
    WHERE e.split = 'test' AND e.pool = 'corpus'
      AND e.checkpoint_sha256 IS NOT DISTINCT FROM k.sha256
    UNION ALL
    SELECT run_id, 'training_hours', extract(epoch FROM finished_at - started_at) / 3600.0
    FROM experiment_run
    WHERE started_at IS NOT NULL
)
SELECT s.name AS sequence_set, r.run_id AS run, r.architecture, t.name AS target, t.metric,
       concat_ws(' ', t.comparison, t.value, nullif(t.unit, '')) AS wanted,
       m.value AS reached,
       CASE WHEN m.value IS NULL THEN 'not measured'
            WHEN CASE t.comparison
                     WHEN '>' THEN m.value > t.value
                     WHEN '>=' THEN m.value >= t.value
                     WHEN '<' THEN m.value < t.value
                     ELSE m.value <= t.value
                 END THEN 'met'
            ELSE 'not met' END AS verdict,
       array_to_string(coalesce(l.flags, r.stamps), ' ') AS flags,
       t.description
FROM experiment_run r
JOIN sequence_set s USING (sequence_set_id)
CROSS JOIN success_target t
LEFT JOIN measured m ON m.run_id = r.run_id AND m.metric = t.metric
LEFT JOIN LATERAL (
    -- A dataset that grew leaves evaluations in the pool that it was: the flags of the newest.
    SELECT flags FROM run_leaderboard
    WHERE run_id = r.run_id AND split = 'test' ORDER BY pool_size DESC LIMIT 1
) l ON true
WHERE r.status = 'succeeded'
  AND r.run_id = coalesce(nullif(current_setting('lvmdb.run_id', true), '')::bigint, r.run_id)
ORDER BY s.name, r.run_id, t.metric, t.name;
