-- Evaluations: drawn pools, sums by article, what may be compared.

-- name: lock_pool_name
-- One process at a time draws the pool of this name; the lock ends with the transaction.
SELECT pg_advisory_xact_lock(hashtextextended('candidate_pool ' || CAST(:name AS text), 0));

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
WHERE e.run_id = :run_id AND e.split = :split
  AND 'baseline' IN (mine.kind, theirs.kind)
ORDER BY theirs.run_id, e.evaluation_id;

-- name: evaluations_by_article
-- Sums of evaluations by article, in the order of evaluation and article.
SELECT evaluation_id, article_id, total, weight
FROM evaluation_article
WHERE evaluation_id = ANY (:evaluation_ids ::bigint[])
ORDER BY evaluation_id, article_id;
