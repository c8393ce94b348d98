-- What does each training strategy do, against the same run without it?
-- A run is paired with the one of the same set, architecture, loss, seed and options in which the
-- strategy alone is off (an option that a run does not name is off); what else is on in both stands
-- under configuration, where it differs between rows. A run with a parent (its value names the sets
-- of all stages, or that the first was trained on probes) is paired with one without, of any number of epochs, the
-- nearest to those of all its stages together; an ensemble with the mean of its members, and other
-- members count as another seed. Means, extremes and intervals are over the seeds' differences; the
-- interval is Student's, of 95 %, from three seeds on, where no member is shared. It says how much
-- seeds scatter, not how much articles do.
-- For another split than test: SET lvmdb.split = 'val';
WITH RECURSIVE strategy (option, off) AS (
    VALUES ('centre', 'false'::jsonb), ('residual', 'false'), ('tmd', '"none"'),
           ('resolutions', '[]'), ('curriculum', '"none"'), ('context_negatives', 'false'),
           ('infonce_weight', '1.0'),
           ('roundtrip_every', '0'), ('init', 'null'), ('objective', '"last"'), ('loss', '"mse"'),
           ('parent', 'null')
), quantile (freedom, t) AS (
    -- Student's, of 97.5 %; beyond 30 degrees a series serves (Abramowitz & Stegun 26.7.5).
    VALUES (2, 4.302653), (3, 3.182446), (4, 2.776445), (5, 2.570582), (6, 2.446912),
           (7, 2.364624), (8, 2.306004), (9, 2.262157), (10, 2.228139), (11, 2.200985),
           (12, 2.178813), (13, 2.160369), (14, 2.144787), (15, 2.131450), (16, 2.119905),
           (17, 2.109816), (18, 2.100922), (19, 2.093024), (20, 2.085963), (21, 2.079614),
           (22, 2.073873), (23, 2.068658), (24, 2.063899), (25, 2.059539), (26, 2.055529),
           (27, 2.051831), (28, 2.048407), (29, 2.045230), (30, 2.042272)
), stage AS (
    SELECT r.run_id AS last_run_id, r.run_id, r.parent_run_id, 1 AS stages,
           (r.hyperparameters ->> 'epochs')::numeric AS epochs,
           CASE r.hyperparameters ->> 'objective' WHEN 'probe' THEN 'probe' ELSE q.name END AS what
    FROM experiment_run r JOIN sequence_set q USING (sequence_set_id)
    WHERE r.parent_run_id IS NOT NULL
    UNION ALL
    SELECT s.last_run_id, r.run_id, r.parent_run_id, s.stages + 1,
           s.epochs + coalesce((r.hyperparameters ->> 'epochs')::numeric, 0),
           CASE r.hyperparameters ->> 'objective' WHEN 'probe' THEN 'probe' ELSE q.name END
           || ' > ' || s.what
    FROM stage s
    JOIN experiment_run r ON r.run_id = s.parent_run_id
    JOIN sequence_set q USING (sequence_set_id)
) CYCLE run_id SET looped USING path
, staged AS (
    SELECT DISTINCT ON (last_run_id) last_run_id AS run_id, what, epochs
    FROM stage WHERE NOT looped
    ORDER BY last_run_id, stages DESC
), placed AS MATERIALIZED (
    SELECT r.sequence_set_id, r.sequence_set, r.split, r.pool_fingerprint, r.pool_size, r.run_id,
           r.architecture, r.seed, r.cosine, r.mrr_10, r.recall_5, staged.epochs AS stage_epochs,
           (r.hyperparameters ->> 'epochs')::numeric AS epochs, o.options
    FROM run_result r
    LEFT JOIN staged USING (run_id)
    CROSS JOIN LATERAL (
        SELECT jsonb_object_agg(given.key, given.value) AS options
        FROM jsonb_each(r.hyperparameters || jsonb_build_object(
                 'loss', r.loss, 'parent', staged.what)) AS given
        LEFT JOIN strategy s ON s.option = given.key
        -- Some options follow from others and from the data.
        WHERE given.value IS DISTINCT FROM s.off
          AND given.key NOT IN ('input_dim', 'tmd_fingerprint', 'probe_fingerprint', 'init_sha256')
    ) o
    WHERE r.kind = 'model'
      AND r.split = coalesce(nullif(current_setting('lvmdb.split', true), ''), 'test')
), pair AS (
    -- One run of each seed, the newest.
    (SELECT DISTINCT ON (w.sequence_set, w.split, w.pool_fingerprint, s.option, w.architecture,
                         w.options, w.seed)
           w.sequence_set, w.split, w.pool_fingerprint, w.pool_size, s.option AS strategy,
           w.options ->> s.option AS value, w.architecture, w.options - s.option AS rest, w.seed,
           w.run_id, c.run_id::text AS control,
           w.cosine AS cosine_with, c.cosine AS cosine_without,
           w.mrr_10 AS mrr_with, c.mrr_10 AS mrr_without,
           w.recall_5 - c.recall_5 AS recall_5
    FROM placed w
    JOIN strategy s ON w.options ? s.option
    CROSS JOIN LATERAL (
        SELECT c.* FROM placed c
        WHERE (c.sequence_set_id, c.pool_fingerprint, c.architecture, c.seed)
              = (w.sequence_set_id, w.pool_fingerprint, w.architecture, w.seed)
          AND CASE s.option WHEN 'parent' THEN c.options - 'epochs' ELSE c.options END
              = w.options - s.option - CASE s.option WHEN 'parent' THEN 'epochs' ELSE '' END
        ORDER BY abs(c.epochs - w.stage_epochs), c.run_id DESC
        LIMIT 1
    ) c
    ORDER BY w.sequence_set, w.split, w.pool_fingerprint, s.option, w.architecture, w.options,
             w.seed, w.run_id DESC)
    UNION ALL
    SELECT e.sequence_set, e.split, e.pool_fingerprint, e.pool_size, 'ensemble', e.method,
           m.architectures, '{}', e.seed, e.run_id, m.controls,
           e.cosine, m.cosine, e.mrr_10, m.mrr_10, e.recall_5 - m.recall_5
    FROM (
        -- Under whatever name: of those with one method and the same members, the newest.
        SELECT DISTINCT ON (split, pool_fingerprint, members, hyperparameters ->> 'method')
               *, hyperparameters ->> 'method' AS method
        FROM run_result
        WHERE kind = 'ensemble'
          AND split = coalesce(nullif(current_setting('lvmdb.split', true), ''), 'test')
        ORDER BY split, pool_fingerprint, members, hyperparameters ->> 'method', run_id DESC
    ) e
    CROSS JOIN LATERAL (
        SELECT string_agg(DISTINCT l.architecture, '+' ORDER BY l.architecture) AS architectures,
               string_agg(l.run_id::text, '+' ORDER BY l.run_id) AS controls, count(*) AS found,
               avg(l.cosine) AS cosine, avg(l.mrr_10) AS mrr_10, avg(l.recall_5) AS recall_5
        FROM run_leaderboard l
        WHERE l.run_id = ANY (e.members) AND l.split = e.split
          AND l.pool_fingerprint = e.pool_fingerprint
    ) m
    WHERE m.found = cardinality(e.members)
), compared AS (
    SELECT sequence_set, split, pool_fingerprint, pool_size, strategy, value, architecture, rest,
           count(*) AS seeds,
           avg(cosine_with) AS cosine_with, avg(cosine_without) AS cosine_without,
           avg(cosine_with - cosine_without) AS cosine,
           min(cosine_with - cosine_without) AS cosine_min,
           max(cosine_with - cosine_without) AS cosine_max,
           stddev_samp(cosine_with - cosine_without) / sqrt(count(*)) AS cosine_error,
           avg(mrr_with) AS mrr_with, avg(mrr_without) AS mrr_without,
           avg(mrr_with - mrr_without) AS mrr,
           min(mrr_with - mrr_without) AS mrr_min,
           max(mrr_with - mrr_without) AS mrr_max,
           CASE WHEN count(mrr_with - mrr_without) = count(*)
                THEN stddev_samp(mrr_with - mrr_without) / sqrt(count(*)) END AS mrr_error,
           avg(recall_5) AS recall_5,
           string_agg(run_id::text, ' ' ORDER BY seed, run_id) AS runs,
           string_agg(control, ' ' ORDER BY seed, run_id) AS controls,
           array_agg(round((cosine_with - cosine_without)::numeric, 6) ORDER BY seed, run_id)
               AS cosine_by_seed,
           array_agg(round((mrr_with - mrr_without)::numeric, 6) ORDER BY seed, run_id)
               AS mrr_by_seed
    FROM pair
    GROUP BY sequence_set, split, pool_fingerprint, pool_size, strategy, value, architecture, rest
), differing AS (
    -- Options in which an architecture's comparisons differ: only they are shown.
    SELECT c.sequence_set, c.split, c.pool_fingerprint, c.architecture, o.key
    FROM compared c
    CROSS JOIN LATERAL jsonb_each(c.rest) o
    GROUP BY c.sequence_set, c.split, c.pool_fingerprint, c.architecture, o.key
    HAVING count(DISTINCT o.value) > 1
        OR count(*) < (SELECT count(*) FROM compared a
                       WHERE (a.sequence_set, a.split, a.pool_fingerprint, a.architecture)
                             = (c.sequence_set, c.split, c.pool_fingerprint, c.architecture))
), ranged AS (
    SELECT c.*,
           (SELECT string_agg(d.key || '=' || (c.rest ->> d.key), ' ' ORDER BY d.key)
            FROM differing d
            WHERE (d.sequence_set, d.split, d.pool_fingerprint, d.architecture)
                  = (c.sequence_set, c.split, c.pool_fingerprint, c.architecture)
              AND c.rest ? d.key) AS configuration,
           c.strategy = 'ensemble' AND EXISTS (
               SELECT FROM regexp_split_to_table(c.controls, '[ +]') AS member
               GROUP BY member HAVING count(*) > 1) AS shared,
           CASE WHEN c.seeds > 31
                THEN 1.959964 + 2.372271 / (c.seeds - 1) + 2.822501 / (c.seeds - 1) ^ 2
                ELSE q.t END AS t
    FROM compared c
    LEFT JOIN quantile q ON q.freedom = c.seeds - 1
), bounded AS (
    SELECT r.*, m.t * r.cosine_error AS cosine_half, m.t * r.mrr_error AS mrr_half
    FROM ranged r
    CROSS JOIN LATERAL (SELECT CASE WHEN NOT r.shared THEN r.t END AS t) m
)
SELECT sequence_set, split, strategy, value, architecture, configuration, seeds,
       round(cosine_with::numeric, 4) AS cosine_with,
       round(cosine_without::numeric, 4) AS cosine_without,
       round(cosine::numeric, 6) AS cosine_difference,
       round(cosine_min::numeric, 6) AS cosine_min, round(cosine_max::numeric, 6) AS cosine_max,
       round((cosine - cosine_half)::numeric, 6) AS cosine_low,
       round((cosine + cosine_half)::numeric, 6) AS cosine_high,
       CASE WHEN cosine - cosine_half > 0 THEN 'better'
            WHEN cosine + cosine_half < 0 THEN 'worse'
            WHEN cosine_half IS NOT NULL THEN 'not distinguishable'
            WHEN shared THEN 'shared members'
            ELSE 'too few seeds' END AS verdict,
       round(mrr_with::numeric, 4) AS mrr_with, round(mrr_without::numeric, 4) AS mrr_without,
       round(mrr::numeric, 6) AS mrr_difference,
       round(mrr_min::numeric, 6) AS mrr_min, round(mrr_max::numeric, 6) AS mrr_max,
       round((mrr - mrr_half)::numeric, 6) AS mrr_low,
       round((mrr + mrr_half)::numeric, 6) AS mrr_high,
       CASE WHEN mrr IS NULL THEN NULL
            WHEN mrr - mrr_half > 0 THEN 'better'
            WHEN mrr + mrr_half < 0 THEN 'worse'
            WHEN mrr_half IS NOT NULL THEN 'not distinguishable'
            WHEN shared THEN 'shared members'
            ELSE 'too few seeds' END AS mrr_verdict,
       round(recall_5::numeric, 6) AS r_5_difference, runs, controls, cosine_by_seed, mrr_by_seed,
       pool_size AS pool
FROM bounded
ORDER BY sequence_set, split, pool_size, strategy, value, architecture, configuration;
