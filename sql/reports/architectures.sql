-- What is each architecture worth: its best run, and all its runs together?
-- The best run is that of the highest validation cosine, so that the test windows choose nothing;
-- interval, gain and verdict are its own. Mean and spread (standard deviation) are over all runs
-- that count, of every configuration and seed, so they say as much of what was tried as of the
-- architecture. Seconds are of training, without interruptions (view run_time).
-- For another split than test: SET lvmdb.split = 'val';
WITH placed AS (
    SELECT * FROM run_result
    WHERE split = coalesce(nullif(current_setting('lvmdb.split', true), ''), 'test')
), best AS (
    SELECT DISTINCT ON (sequence_set, split, pool_fingerprint, kind, architecture) *
    FROM placed
    ORDER BY sequence_set, split, pool_fingerprint, kind, architecture,
             val_cosine DESC NULLS LAST, run_id
), together AS (
    SELECT sequence_set, split, pool_fingerprint, kind, architecture, count(*) AS runs,
           count(DISTINCT (loss, hyperparameters, parent_run_id, members)) AS configurations,
           count(DISTINCT seed) AS seeds,
           avg(cosine) AS cosine, stddev_samp(cosine) AS cosine_spread,
           avg(mrr_10) AS mrr_10, stddev_samp(mrr_10) AS mrr_10_spread,
           avg(recall_5) AS recall_5, stddev_samp(recall_5) AS recall_5_spread,
           sum(seconds) AS seconds
    FROM placed
    GROUP BY sequence_set, split, pool_fingerprint, kind, architecture
)
SELECT b.sequence_set, b.split, b.architecture, t.runs, t.configurations, t.seeds,
       b.run_id AS best_run, round(b.val_cosine::numeric, 4) AS val_cosine,
       round(b.cosine::numeric, 4) AS cosine,
       '[' || round(b.cosine_low::numeric, 4) || ', ' || round(b.cosine_high::numeric, 4) || ']'
           AS cosine_interval,
       round(t.cosine::numeric, 4) AS cosine_mean,
       round(t.cosine_spread::numeric, 4) AS cosine_spread,
       round(b.cosine_gain::numeric, 4) AS cosine_gain, b.cosine_verdict AS verdict,
       b.best_baseline_by_cosine AS best_baseline,
       round(b.mrr_10::numeric, 4) AS mrr_10, round(t.mrr_10::numeric, 4) AS mrr_mean,
       round(t.mrr_10_spread::numeric, 4) AS mrr_spread, b.mrr_10_verdict AS mrr_verdict,
       round(b.recall_5::numeric, 4) AS r_5, round(t.recall_5::numeric, 4) AS r_5_mean,
       round(t.recall_5_spread::numeric, 4) AS r_5_spread,
       b.parameter_count AS parameters, round(b.seconds::numeric, 1) AS seconds,
       round((t.seconds / 3600)::numeric, 4) AS hours_of_all, b.pool_size AS pool
FROM best b
JOIN together t USING (sequence_set, split, pool_fingerprint, kind, architecture)
ORDER BY b.sequence_set, b.split, b.pool_size, b.cosine DESC, b.run_id;
