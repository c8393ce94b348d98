-- What does every metric say of a run, beside chance and the best baseline?
-- For one run: SET lvmdb.run_id = 7; else the newest run with evaluations.
-- The difference is to the best baseline by the same metric, or for a gauge, which decides nothing
-- and has no verdict, to the best by cosine.
WITH chosen AS (
    SELECT coalesce(nullif(current_setting('lvmdb.run_id', true), '')::bigint,
                    (SELECT max(run_id) FROM evaluation)) AS run_id
)
SELECT v.run_id AS run, v.architecture, v.split, v.pool, v.metric, v.version,
       round(v.value::numeric, 6) AS value, round(v.low::numeric, 6) AS low,
       round(v.high::numeric, 6) AS high, round(v.chance::numeric, 6) AS chance,
       v.best_baseline, round(v.difference::numeric, 6) AS difference,
       round(v.difference_low::numeric, 6) AS difference_low,
       round(v.difference_high::numeric, 6) AS difference_high, v.verdict,
       v.queries, v.articles, v.distinct_truths AS truths, v.pool_size
FROM evaluation_verdict v JOIN chosen USING (run_id)
ORDER BY v.split, v.evaluation_id;
