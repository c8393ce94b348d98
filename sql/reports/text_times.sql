-- How long does each stage of a run's answer in text take, one vector at a time?
-- For one run: SET lvmdb.run_id = 7; for one split: SET lvmdb.split = 'test';
-- Milliseconds: vectors is the model, search the index, decode what makes text of what was found or
-- writes it, smooth the language model.
SELECT r.run_id AS run, r.architecture, e.split,
       split_part(regexp_replace(e.pool, '/(truth|smoothed)$', ''), '/', 2)
           || CASE WHEN e.pool LIKE 'text/%/exact%' THEN ', exact' ELSE '' END AS decoder,
       split_part(e.metric, '_', 2) AS stage,
       round(max(e.value) FILTER (WHERE e.metric LIKE '%\_p50')::numeric, 3) AS ms_p50,
       round(max(e.value) FILTER (WHERE e.metric LIKE '%\_p95')::numeric, 3) AS ms_p95,
       max(e.queries) AS queries
FROM evaluation e
JOIN experiment_run r USING (run_id)
WHERE e.pool LIKE 'text/%' AND e.metric LIKE 'ms\_%'
  AND e.run_id = coalesce(nullif(current_setting('lvmdb.run_id', true), '')::bigint, e.run_id)
  AND e.split = coalesce(nullif(current_setting('lvmdb.split', true), ''), e.split)
GROUP BY r.run_id, r.architecture, e.split, decoder, stage
ORDER BY r.run_id, e.split, decoder,
         array_position(ARRAY['vectors', 'search', 'decode', 'smooth'],
                        split_part(max(e.metric), '_', 2));
