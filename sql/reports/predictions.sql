-- What did a run predict best and worst, in words? (The five best and five hardest windows.)
-- By the cosine of prediction and truth. The rank is the truth's among the candidates; nearest is
-- the concept nearest to the prediction that is not in the context. Of the test split, or else of
-- the one the run was evaluated on.
-- For one run: SET lvmdb.run_id = 7; else the newest run with predictions.
WITH chosen AS (
    SELECT run_id, split
    FROM prediction
    WHERE run_id = coalesce(nullif(current_setting('lvmdb.run_id', true), '')::bigint,
                            (SELECT max(run_id) FROM prediction))
    ORDER BY array_position(ARRAY['test', 'val', 'train'], split)
    LIMIT 1
), ranked AS (
    SELECT p.run_id, p.target_cpe_id,
           row_number() OVER (ORDER BY p.cosine DESC, p.target_cpe_id) AS from_best,
           row_number() OVER (ORDER BY p.cosine, p.target_cpe_id DESC) AS from_worst
    FROM prediction p JOIN chosen USING (run_id, split)
), shown AS (
    SELECT run_id, target_cpe_id,
           CASE WHEN from_best <= from_worst THEN 'best' ELSE 'hardest' END AS windows,
           least(from_best, from_worst) AS place
    FROM ranked WHERE from_best <= 5 OR from_worst <= 5
)
SELECT shown.windows, d.run_id AS run, d.split, d.title, round(d.cosine::numeric, 3) AS cosine,
       d.better + 1 AS rank, d.candidates, round(d.nearest_cosine::numeric, 3) AS nearest_cosine,
       d.context_text AS context, d.truth_text AS truth, d.nearest_text AS nearest
FROM shown
CROSS JOIN LATERAL (
    SELECT * FROM prediction_detail pd
    WHERE pd.run_id = shown.run_id AND pd.target_cpe_id = shown.target_cpe_id
) d
ORDER BY shown.windows, shown.place;
