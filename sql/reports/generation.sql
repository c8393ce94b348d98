-- How far does a generation drift from what truly follows, step by step, and does snapping help?
-- Means over articles of the cosine of the n-th prediction to the n-th concept that follows, and of
-- whether the concept nearest to it is of the article. The model reads the truth at each step, its
-- own predictions (none), or the concepts nearest to them (snapped). Copy is the last concept given.
-- For one run: SET lvmdb.run_id = 7;
WITH measured AS (
    SELECT session_id, created_at, subject, parameters, unit,
           (SELECT avg(value::float) FROM jsonb_array_elements_text(samples) AS value) AS mean
    FROM benchmark
    WHERE name = 'generate'
)
SELECT subject AS sequence_set, (parameters ->> 'run_id')::bigint AS run,
       parameters ->> 'split' AS split, (parameters ->> 'articles')::integer AS articles,
       (parameters ->> 'step')::integer AS step,
       max(mean) FILTER (WHERE unit = 'cosine' AND parameters ->> 'way' = 'truth') AS truth,
       max(mean) FILTER (WHERE unit = 'cosine' AND parameters ->> 'way' = 'none') AS none,
       max(mean) FILTER (WHERE unit = 'cosine' AND parameters ->> 'way' = 'index') AS snapped,
       max(mean) FILTER (WHERE unit = 'cosine' AND parameters ->> 'way' = 'copy') AS copy,
       max(mean) FILTER (WHERE unit = 'same article' AND parameters ->> 'way' = 'none')
           AS none_same_article,
       max(mean) FILTER (WHERE unit = 'same article' AND parameters ->> 'way' = 'index')
           AS snapped_same_article,
       max(created_at) AS created_at
FROM measured
WHERE (parameters ->> 'run_id')::bigint
      = coalesce(nullif(current_setting('lvmdb.run_id', true), '')::bigint,
                 (parameters ->> 'run_id')::bigint)
GROUP BY session_id, subject, run, split, articles, step
ORDER BY max(created_at) DESC, session_id, step;
