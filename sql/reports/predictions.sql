-- What did a run predict best and worst, in words? (The five best and five worst windows.)
-- For one run: SET lvmdb.run_id = 7; else the newest run with predictions.
WITH chosen AS (
    SELECT coalesce(nullif(current_setting('lvmdb.run_id', true), '')::bigint,
                    (SELECT max(run_id) FROM prediction)) AS run_id
), ranked AS (
    SELECT p.run_id, p.target_cpe_id,
           row_number() OVER (ORDER BY p.cosine DESC, p.target_cpe_id) AS from_best,
           row_number() OVER (ORDER BY p.cosine, p.target_cpe_id) AS from_worst
    FROM prediction p JOIN chosen USING (run_id)
), shown AS (
    SELECT * FROM ranked WHERE from_best <= 5 OR from_worst <= 5
)
SELECT d.run_id AS run, d.title, round(d.cosine::numeric, 3) AS cosine, d.better + 1 AS rank,
       left(d.truth_text, 100) AS truth, left(d.nearest_text, 100) AS nearest
FROM shown
CROSS JOIN LATERAL (
    SELECT * FROM prediction_detail pd
    WHERE pd.run_id = shown.run_id AND pd.target_cpe_id = shown.target_cpe_id
) d
ORDER BY d.cosine DESC;
