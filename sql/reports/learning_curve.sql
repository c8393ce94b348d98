-- How did loss and cosine develop, epoch by epoch?
-- For one run: SET lvmdb.run_id = 7;
SELECT run_id, architecture, seed, split, epoch, name, value, best
FROM run_curve
WHERE name IN ('loss', 'cosine')
  AND architecture NOT IN (SELECT architecture FROM experiment_run WHERE kind = 'baseline')
  AND run_id = coalesce(nullif(current_setting('lvmdb.run_id', true), '')::bigint, run_id)
ORDER BY run_id, name, split, epoch;
