-- What are a run's predictions worth as text, beside true vectors through the same decoder?
-- For one run: SET lvmdb.run_id = 7; for one split: SET lvmdb.split = 'test';
-- What the true vectors lose is the decoder's; the gap to them is the model's. Rewritten texts are
-- of a sample. Better and worse: against the best baseline, decoded alike.
WITH asked AS (
    SELECT run_id, architecture, split, metric, value, low, high, chance, verdict, best_baseline,
           queries, pool_fingerprint, evaluation_id,
           split_part(regexp_replace(pool, '/(truth|smoothed)$', ''), '/', 2)
               || CASE WHEN pool LIKE 'text/%/exact%' THEN ', exact' ELSE '' END AS decoder,
           coalesce(substring(pool FROM '/(truth|smoothed)$'), 'prediction') AS kind
    FROM evaluation_verdict
    WHERE pool LIKE 'text/%'
)
SELECT e.run_id AS run, e.architecture, e.split, e.decoder,
       CASE e.kind WHEN 'smoothed' THEN 'rewritten: ' ELSE '' END || e.metric AS metric,
       round(e.value::numeric, 4) AS value,
       '[' || round(e.low::numeric, 4) || ', ' || round(e.high::numeric, 4) || ']' AS interval,
       round(t.value::numeric, 4) AS of_truth,
       round((t.value - e.value)::numeric, 4) AS gap,
       round(e.chance::numeric, 4) AS chance,
       e.best_baseline, e.verdict, e.queries
FROM asked e
LEFT JOIN asked t ON e.kind = 'prediction' AND t.kind = 'truth'
    AND (t.run_id, t.split, t.decoder, t.metric, t.pool_fingerprint)
      = (e.run_id, e.split, e.decoder, e.metric, e.pool_fingerprint)
WHERE e.kind <> 'truth' AND e.metric NOT LIKE 'ms\_%'
  AND e.run_id = coalesce(nullif(current_setting('lvmdb.run_id', true), '')::bigint, e.run_id)
  AND e.split = coalesce(nullif(current_setting('lvmdb.split', true), ''), e.split)
ORDER BY e.run_id, e.split, e.decoder, e.kind = 'smoothed', e.evaluation_id;
