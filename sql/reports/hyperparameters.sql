-- What does each option of an architecture do to cosine and MRR?
-- Of options that vary. Difference: mean of the runs with this value less the mean of those with
-- another; whatever else differs between them is in it. Paired difference: over pairs of runs, one
-- with this value and one with another, that are equal in all else, data and seed included; it is
-- empty where there are none. Both say what was seen, and have no interval: few runs vary alike.
-- For another split than test: SET lvmdb.split = 'val';
WITH placed AS (
    SELECT run_id, sequence_set_id, sequence_set, split, pool_fingerprint, pool_size, architecture,
           seed, parent_run_id, cosine, mrr_10,
           -- Some options follow from others and from the data.
           hyperparameters
               - '{input_dim, tmd_fingerprint, probe_fingerprint, init_sha256}'::text[]
               || jsonb_build_object('loss', loss) AS options
    FROM run_result
    WHERE kind = 'model'
      AND split = coalesce(nullif(current_setting('lvmdb.split', true), ''), 'test')
), given AS (
    SELECT p.*, o.key AS option, o.value, p.options - o.key AS rest
    FROM placed p
    CROSS JOIN LATERAL jsonb_each(p.options) o
), varied AS (
    SELECT sequence_set_id, split, pool_fingerprint, architecture, option,
           count(*) AS runs, sum(cosine) AS cosine, sum(mrr_10) AS mrr_10, count(mrr_10) AS ranked
    FROM given
    GROUP BY sequence_set_id, split, pool_fingerprint, architecture, option
    HAVING count(DISTINCT value) > 1
), worth AS (
    SELECT g.sequence_set, g.pool_size, g.sequence_set_id, g.split, g.pool_fingerprint,
           g.architecture, g.option, g.value,
           count(*) AS runs, avg(g.cosine) AS cosine, avg(g.mrr_10) AS mrr_10,
           sum(g.cosine) AS cosine_sum, sum(g.mrr_10) AS mrr_sum, count(g.mrr_10) AS ranked
    FROM given g
    JOIN varied USING (sequence_set_id, split, pool_fingerprint, architecture, option)
    GROUP BY g.sequence_set, g.pool_size, g.sequence_set_id, g.split, g.pool_fingerprint,
             g.architecture, g.option, g.value
), paired AS (
    SELECT g.sequence_set_id, g.split, g.pool_fingerprint, g.architecture, g.option, g.value,
           count(*) AS pairs, avg(g.cosine - o.cosine) AS cosine, avg(g.mrr_10 - o.mrr_10) AS mrr_10
    FROM given g
    JOIN given o USING (sequence_set_id, split, pool_fingerprint, architecture, option, seed, rest)
    WHERE o.value <> g.value AND o.parent_run_id IS NOT DISTINCT FROM g.parent_run_id
    GROUP BY g.sequence_set_id, g.split, g.pool_fingerprint, g.architecture, g.option, g.value
)
SELECT w.sequence_set, w.split, w.architecture, w.option, w.value #>> '{}' AS value, w.runs,
       round(w.cosine::numeric, 4) AS cosine, round(w.mrr_10::numeric, 4) AS mrr_10,
       round((w.cosine - (v.cosine - w.cosine_sum) / (v.runs - w.runs))::numeric, 4)
           AS cosine_difference,
       round((w.mrr_10 - (v.mrr_10 - w.mrr_sum) / nullif(v.ranked - w.ranked, 0))::numeric, 4)
           AS mrr_difference,
       coalesce(p.pairs, 0) AS pairs,
       round(p.cosine::numeric, 4) AS cosine_paired, round(p.mrr_10::numeric, 4) AS mrr_paired
FROM worth w
JOIN varied v USING (sequence_set_id, split, pool_fingerprint, architecture, option)
LEFT JOIN paired p USING (sequence_set_id, split, pool_fingerprint, architecture, option, value)
ORDER BY w.sequence_set, w.split, w.pool_size, w.architecture, w.option, w.value;
