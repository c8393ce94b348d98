-- What does each run cost, in seconds and parameters, and what is it worth for that?
-- Seconds are of training and validation, without interruptions (view run_time); wall_seconds are
-- from the first start to the end. Both count other work on the same machine, as of several runs
-- at once, so compare runs of one device that ran alike. Nothing cheaper: no run that is evaluated
-- there has as high a cosine for fewer parameters, for fewer seconds, or for either.
-- For another split than test: SET lvmdb.split = 'val';
WITH placed AS (
    SELECT * FROM run_result
    WHERE split = coalesce(nullif(current_setting('lvmdb.split', true), ''), 'test')
)
SELECT p.sequence_set, p.split, p.run_id AS run, p.architecture, p.kind, p.loss, p.seed,
       p.parameter_count AS parameters, p.epochs, round(p.seconds::numeric, 1) AS seconds,
       round(p.wall_seconds::numeric, 1) AS wall_seconds, p.device, p.kernel,
       round(p.cosine::numeric, 4) AS cosine, round(p.cosine_gain::numeric, 4) AS cosine_gain,
       p.cosine_verdict AS verdict, round(p.mrr_10::numeric, 4) AS mrr_10,
       round(p.recall_5::numeric, 4) AS r_5,
       CASE WHEN other.smaller AND other.faster THEN NULL
            WHEN other.smaller THEN 'seconds'
            WHEN other.faster THEN 'parameters'
            ELSE 'parameters, seconds' END AS nothing_cheaper,
       p.pool_size AS pool
FROM placed p
CROSS JOIN LATERAL (
    SELECT p.parameter_count IS NULL OR coalesce(bool_or(
               o.parameter_count < p.parameter_count AND o.cosine >= p.cosine
               OR o.parameter_count = p.parameter_count AND o.cosine > p.cosine), false)
               AS smaller,
           p.seconds IS NULL OR coalesce(bool_or(
               o.seconds < p.seconds AND o.cosine >= p.cosine
               OR o.seconds = p.seconds AND o.cosine > p.cosine), false) AS faster
    FROM placed o
    WHERE (o.sequence_set_id, o.pool_fingerprint) = (p.sequence_set_id, p.pool_fingerprint)
) other
ORDER BY p.sequence_set, p.split, p.pool_size, p.cosine DESC, p.run_id;
