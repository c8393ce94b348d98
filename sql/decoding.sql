-- From vectors back to words.

-- name: held_out_windows
-- Windows of a set and split, drawn by a hash of seed and target: the target with its text, article
-- and vector, its context, and what a run predicted, if one is asked for and has.
WITH drawn AS (
    SELECT w.target_cpe_id, w.context_cpe_ids, w.article_id
    FROM training_sequence w
    WHERE w.sequence_set_id = :sequence_set_id AND w.split = :split
    ORDER BY sha256(convert_to(CAST(:seed AS text) || ' ' || w.target_cpe_id, 'UTF8'))
    LIMIT :most
)
SELECT d.target_cpe_id, d.context_cpe_ids, d.article_id, t.concept_text,
       vector_send(t.concept_vec) AS truth, vector_send(p.predicted_vec) AS predicted
FROM drawn d
JOIN cpe_entry t ON t.cpe_id = d.target_cpe_id
LEFT JOIN prediction p ON p.run_id = CAST(:run_id AS bigint) AND p.target_cpe_id = d.target_cpe_id;

-- name: threshold
-- The cosine above which the nearest concept is taken: the newest that was chosen.
SELECT threshold
FROM decoding_calibration
WHERE chosen AND dataset_source = :dataset AND encoder_id = :encoder_id
ORDER BY created_at DESC, decoding_calibration_id DESC
LIMIT 1;

-- name: prediction
-- What a run predicted for a concept, the set that it read, and where the concept stands.
SELECT s.dataset_source, s.encoder_id, s.context_len, c.article_id, c.seq, c.concept_text,
       vector_send(p.predicted_vec) AS predicted, p.cosine, w.context_cpe_ids
FROM prediction p
JOIN experiment_run r USING (run_id)
JOIN sequence_set s USING (sequence_set_id)
JOIN cpe_entry c ON c.cpe_id = p.target_cpe_id
JOIN training_sequence w ON w.sequence_set_id = s.sequence_set_id AND w.split = p.split
    AND w.target_cpe_id = p.target_cpe_id
WHERE p.run_id = :run_id AND p.target_cpe_id = CAST(:cpe_id AS uuid);

-- name: passage
-- Concepts of an article from one place up to another, in order, with vectors and TMD codes; zeros
-- stand for a code that nobody has given.
SELECT c.cpe_id, c.seq, c.concept_text, vector_send(c.concept_vec) AS sent,
       vector_send(coalesce(c.tmd_vec, array_fill(0, ARRAY[16])::vector)) AS code
FROM cpe_entry c
WHERE c.article_id = :article_id AND c.seq >= :first AND c.seq < :beyond
  AND c.concept_vec IS NOT NULL
ORDER BY c.seq;

-- name: article_place
-- Whose article it is, what it is called, and how many concepts with vectors it has.
SELECT a.dataset_source, a.title,
       (SELECT count(*) FROM cpe_entry c
        WHERE c.article_id = a.article_id AND c.concept_vec IS NOT NULL) AS concepts
FROM article a
WHERE a.article_id = :article_id;

-- name: long_articles
-- Articles of a set's split that have so many concepts at least, drawn by a hash of seed and key.
SELECT a.article_id
FROM sequence_article sa
JOIN article a USING (article_id)
WHERE sa.sequence_set_id = :sequence_set_id AND sa.split = :split AND sa.concepts >= :least
ORDER BY sha256(convert_to(CAST(:seed AS text) || ' ' || a.source_key, 'UTF8'))
LIMIT :most;

-- name: count_vectors
-- How many concepts of a dataset can be found.
SELECT count(*) FROM cpe_entry WHERE dataset_source = :dataset AND concept_vec IS NOT NULL;

-- name: ingest_options
-- How the newest ingest of a dataset has cut its articles; imports have not.
SELECT options
FROM ingest_job
WHERE dataset_source = :dataset AND options ? 'chunker'
ORDER BY job_id DESC
LIMIT 1;
