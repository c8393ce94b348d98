-- Evaluations: drawn pools, sums by article, what may be compared.

-- name: lock_pool_name
-- One process at a time draws the pool of this name; the lock ends with the transaction.
SELECT pg_advisory_xact_lock(hashtextextended('candidate_pool ' || CAST(:name AS text), 0));

-- name: lock_comparison
-- One transaction at a time writes evaluations of a split; the lock ends with it.
SELECT pg_advisory_xact_lock(
    hashtextextended(format('evaluation %s %s', CAST(:sequence_set_id AS bigint), :split ::text), 0)
);

-- name: candidates
-- A drawn pool: target, candidate, and whether both are of one article.
SELECT target_cpe_id, candidate_cpe_id, stratum = 'same_article'
FROM candidate
WHERE candidate_pool_id = :pool_id
ORDER BY target_cpe_id, candidate_cpe_id;

-- name: comparable_evaluations
-- Evaluations of other runs of the same set, split, pool, metric and version as those of a run, of
-- baselines only unless the run is one.
SELECT e.evaluation_id, o.evaluation_id AS other_id, e.direction,
       mine.kind = 'baseline' AS is_baseline, theirs.kind = 'baseline' AS other_is_baseline
FROM evaluation e
JOIN experiment_run mine ON mine.run_id = e.run_id
JOIN experiment_run theirs ON theirs.sequence_set_id = mine.sequence_set_id
JOIN evaluation o ON o.run_id = theirs.run_id AND o.run_id <> e.run_id
    AND (o.split, o.pool, o.pool_fingerprint, o.metric, o.version)
      = (e.split, e.pool, e.pool_fingerprint, e.metric, e.version)
WHERE e.run_id = :run_id AND e.split = :split AND e.pool = ANY (CAST(:pools AS text[]))
  AND 'baseline' IN (mine.kind, theirs.kind)
ORDER BY theirs.run_id, e.evaluation_id;

-- name: evaluations_by_article
-- Sums of evaluations by article, in the order of evaluation and article.
SELECT evaluation_id, article_id, total, weight
FROM evaluation_article
WHERE evaluation_id = ANY (:evaluation_ids ::bigint[])
ORDER BY evaluation_id, article_id;

-- name: doubtful_evaluations
-- Runs with values that their sums by article do not give, or differences that their values do not.
WITH again AS (
    SELECT evaluation_id, sum(total) / nullif(sum(weight), 0) AS value
    FROM evaluation_article GROUP BY evaluation_id
), wrong AS (
    SELECT e.run_id, e.metric
    FROM evaluation e JOIN again a USING (evaluation_id)
    WHERE abs(e.value - a.value) > 1e-9 + 1e-9 * abs(a.value)
    UNION ALL
    SELECT e.run_id, e.metric
    FROM evaluation_difference d
    JOIN evaluation e USING (evaluation_id)
    JOIN evaluation b ON b.evaluation_id = d.baseline_evaluation_id
    WHERE abs(d.difference - (e.value - b.value)) > 1e-9
       OR d.verdict IS DISTINCT FROM CASE
              WHEN e.direction = 0 THEN NULL
              WHEN d.low IS NULL THEN 'too few articles'
              WHEN e.direction * d.low > 0 AND e.direction * d.high > 0 THEN 'better'
              WHEN e.direction * d.low < 0 AND e.direction * d.high < 0 THEN 'worse'
              ELSE 'not distinguishable' END
)
SELECT run_id, count(*) AS wrong, min(metric) AS metric
FROM wrong GROUP BY run_id ORDER BY run_id;

-- name: predictions
-- Predictions of a run and split, in corpus order: place of the truth, the vector, its stored ranks.
SELECT t.article_id, t.seq, vector_send(p.predicted_vec), p.better, p.tied, p.candidates
FROM prediction p
JOIN cpe_entry t ON t.cpe_id = p.target_cpe_id
JOIN article a ON a.article_id = t.article_id
WHERE p.run_id = :run_id AND p.split = :split
ORDER BY a.ordinal, t.seq;
