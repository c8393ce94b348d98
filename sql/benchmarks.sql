-- What benchmarks read: the same concepts of a split for every contender, in the same order.

-- name: vectors
-- Their vectors, in the shape that is read fastest: articles in turn, by the index, without a sort.
SELECT concept.concept_vec
FROM (
    SELECT article_id
    FROM sequence_article
    WHERE sequence_set_id = :sequence_set_id AND (split = :split OR split IS NULL)
    ORDER BY position
) AS listed
CROSS JOIN LATERAL (
    SELECT c.concept_vec
    FROM cpe_entry c
    WHERE c.article_id = listed.article_id
    ORDER BY c.seq
    OFFSET 0
) AS concept;

-- name: copy_vectors
-- The same by COPY.
COPY (
    SELECT concept.concept_vec
    FROM (
        SELECT article_id
        FROM sequence_article
        WHERE sequence_set_id = :sequence_set_id AND (split = :split OR split IS NULL)
        ORDER BY position
    ) AS listed
    CROSS JOIN LATERAL (
        SELECT c.concept_vec
        FROM cpe_entry c
        WHERE c.article_id = listed.article_id
        ORDER BY c.seq
        OFFSET 0
    ) AS concept
) TO STDOUT (FORMAT BINARY);

-- name: runs_with_predictions
-- The runs that have stored predictions of a dataset.
SELECT r.run_id
FROM experiment_run r
JOIN sequence_set s USING (sequence_set_id)
WHERE s.dataset_source = :dataset
  AND EXISTS (SELECT FROM prediction p WHERE p.run_id = r.run_id)
ORDER BY r.run_id DESC
LIMIT 20;
