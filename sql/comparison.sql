-- Two runs beside each other.

-- name: run_facts
-- What a run was made from and with; its environment and options are objects.
SELECT r.run_id, r.kind, r.architecture, r.loss, r.seed, r.hyperparameters, r.stamps, r.status,
       r.parent_run_id, encode(r.sequence_fingerprint, 'hex') AS fingerprint,
       s.name AS sequence_set, s.dataset_source AS dataset,
       r.code_version, r.code_dirty, r.device, r.kernel, r.environment, r.parameter_count,
       best.value AS best_val_loss, best.epoch AS best_epoch,
       (SELECT string_agg(format('%s (weight %s)', m.member_run_id, round(m.weight::numeric, 4)), ', '
                          ORDER BY m.member_run_id)
        FROM ensemble_member m WHERE m.ensemble_run_id = r.run_id) AS members
FROM experiment_run r
JOIN sequence_set s USING (sequence_set_id)
LEFT JOIN LATERAL (
    SELECT m.value, m.epoch FROM run_metric m
    WHERE m.run_id = r.run_id AND m.name = 'loss' AND m.split = 'val'
    ORDER BY m.value, m.epoch LIMIT 1
) best ON true
WHERE r.run_id = :run_id;

-- name: newest_evaluations
-- A run's evaluations, of each metric the newest version, and whether they are of the weights that
-- it has now.
SELECT *
FROM (
    SELECT DISTINCT ON (e.split, e.pool, e.metric)
           e.evaluation_id, e.split, e.pool, e.metric, e.version, e.value, e.direction,
           encode(e.pool_fingerprint, 'hex') AS pool_fingerprint,
           e.checkpoint_sha256 IS NOT DISTINCT FROM k.sha256 AS of_best
    FROM evaluation e
    LEFT JOIN checkpoint k ON k.run_id = e.run_id AND k.kind = 'best'
    WHERE e.run_id = :run_id
    ORDER BY e.split, e.pool, e.metric, e.version DESC
) newest
ORDER BY split, pool, evaluation_id;

-- name: paired_articles
-- Two evaluations by article; NULL where only one has the article.
SELECT a.total AS total_a, a.weight AS weight_a, b.total AS total_b, b.weight AS weight_b
FROM (SELECT * FROM evaluation_article WHERE evaluation_id = :evaluation_a) a
FULL JOIN (SELECT * FROM evaluation_article WHERE evaluation_id = :evaluation_b) b
    USING (article_id)
ORDER BY article_id;
