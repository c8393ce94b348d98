-- Does a search through the index see the truths where exact search has them? (The 100 nearest.)
-- Exact ranks are those of evaluation. Through the index of the dataset, with what it was tuned to,
-- each prediction's 100 nearest are asked for, its context left out; a truth that is not among them
-- has no rank there. same_rank is the share of truths with the same number of nearer candidates by
-- both, of those that have less than 100 exactly; lost counts those of them that the index missed.
-- Of the test split, or else of the one the run was evaluated on. A run of 4,000 predictions takes
-- seconds through an index, and a minute without one.
-- For one run: SET lvmdb.run_id = 7; else the newest run with predictions.
WITH chosen AS (
    SELECT run_id, split
    FROM prediction
    WHERE run_id = coalesce(nullif(current_setting('lvmdb.run_id', true), '')::bigint,
                            (SELECT max(run_id) FROM prediction))
    ORDER BY array_position(ARRAY['test', 'val', 'train'], split)
    LIMIT 1
)
SELECT c.run_id AS run, c.split, k AS recall_at,
       round(avg(least(1, greatest(0, (k - r.better) / (r.tied + 1)::float)))::numeric, 4)
           AS exact,
       round(avg(coalesce(least(1, greatest(0, (k - r.found_better) / (r.found_tied + 1)::float)),
                          0))::numeric, 4) AS index,
       round(avg((r.found_better = r.better)::integer) FILTER (WHERE r.better < 100), 4)
           AS same_rank,
       count(*) FILTER (WHERE r.better < 100 AND r.found_better IS NULL) AS lost,
       count(*) AS predictions
FROM chosen c
CROSS JOIN LATERAL prediction_ranks(c.run_id, c.split, 100) r
CROSS JOIN unnest(ARRAY[1, 5, 10, 50]) AS k
GROUP BY c.run_id, c.split, k
ORDER BY k;
