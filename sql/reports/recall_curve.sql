-- How often is the truth among a run's first k candidates, beside chance?
-- Recall is expected over ties: each of the candidates as near as the truth may come before it, so
-- a window counts (k - better) / (tied + 1), at least 0 and at most 1; as recall@k of an evaluation
-- does. Chance is k / candidates. Of each run the test split, or else the one it was evaluated on.
-- For one run: SET lvmdb.run_id = 7;
WITH chosen AS (
    SELECT DISTINCT ON (run_id) run_id, split
    FROM (SELECT DISTINCT run_id, split FROM prediction) evaluated
    WHERE run_id = coalesce(nullif(current_setting('lvmdb.run_id', true), '')::bigint, run_id)
    ORDER BY run_id, array_position(ARRAY['test', 'val', 'train'], split)
)
SELECT s.name AS sequence_set, p.split, p.run_id AS run, r.architecture, r.kind, k,
       round(avg(least(1, greatest(0, (k - p.better) / (p.tied + 1)::float)))::numeric, 6) AS recall,
       round(avg(least(1, k / p.candidates::float))::numeric, 6) AS chance,
       count(*) AS queries, round(avg(p.candidates))::integer AS candidates
FROM chosen
JOIN prediction p USING (run_id, split)
JOIN experiment_run r ON r.run_id = p.run_id
JOIN sequence_set s ON s.sequence_set_id = r.sequence_set_id
CROSS JOIN unnest(ARRAY[1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]) AS k
GROUP BY s.name, p.split, p.run_id, r.architecture, r.kind, k
ORDER BY s.name, p.split, p.run_id, k;
