-- What the page of the LVM service shows beside predictions.

-- name: runs_to_pick
-- Runs that have succeeded, those with promoted names first, then the newest.
SELECT r.run_id, r.architecture, r.kind, s.name AS sequences, s.dataset_source AS dataset,
       promoted.names
FROM experiment_run r
JOIN sequence_set s USING (sequence_set_id)
CROSS JOIN LATERAL (
    SELECT coalesce(array_agg(a.name ORDER BY a.name), '{}') AS names
    FROM run_alias a WHERE a.run_id = r.run_id
) promoted
WHERE r.status = 'succeeded'
ORDER BY promoted.names = '{}', r.run_id DESC
LIMIT :most;

-- name: leaderboard_beside
-- The runs of a run's set, by their cosine on the test split among all concepts of the dataset.
SELECT l.run_id, l.architecture, l.cosine, l.cosine_low, l.cosine_high, l.cosine_verdict AS verdict,
       l.mrr_10
FROM run_leaderboard l
WHERE l.sequence_set_id = (SELECT sequence_set_id FROM experiment_run WHERE run_id = :run_id)
  AND l.split = 'test' AND l.pool = 'corpus' AND l.cosine IS NOT NULL
ORDER BY l.cosine DESC, l.run_id
LIMIT :most;

-- name: concepts_chosen
-- Concepts of a dataset by id, in the order asked for, with vectors and TMD codes.
SELECT c.cpe_id, a.title, c.article_id, c.seq, c.concept_text,
       vector_send(c.concept_vec) AS sent,
       vector_send(coalesce(c.tmd_vec, array_fill(0, ARRAY[16])::vector)) AS code
FROM unnest(:cpe_ids ::uuid[]) WITH ORDINALITY AS asked (cpe_id, place)
JOIN cpe_entry c USING (cpe_id)
JOIN article a USING (article_id)
WHERE c.dataset_source = :dataset AND c.concept_vec IS NOT NULL
ORDER BY asked.place;

-- name: random_window
-- A window of a run's test split, drawn anew each time: an article, and the place of the target.
WITH chosen AS (
    SELECT s.* FROM experiment_run r JOIN sequence_set s USING (sequence_set_id)
    WHERE r.run_id = :run_id
), windows AS (
    (SELECT sa.article_id,
            s.context_len + s.stride
                * floor(random() * (1 + (sa.concepts - 1 - s.context_len) / s.stride))::integer
                AS at
     FROM chosen s
     JOIN sequence_article sa USING (sequence_set_id)
     WHERE s.scope = 'article' AND sa.split = 'test' AND sa.concepts > s.context_len
     ORDER BY random()
     LIMIT 1)
    UNION ALL
    (SELECT w.article_id, w.target_seq
     FROM training_sequence w
     WHERE (SELECT scope FROM chosen) = 'corpus'
       AND w.sequence_set_id = (SELECT sequence_set_id FROM chosen)
       AND w.split = 'test' AND w.target_seq >= 1
     ORDER BY random()
     LIMIT 1)
)
SELECT article_id, at FROM windows;

-- name: articles_by_title
-- Articles of a dataset whose titles hold some words as they are written, capitals aside.
SELECT found.article_id, found.title,
       (SELECT count(*) FROM cpe_entry c
        WHERE c.article_id = found.article_id AND c.concept_vec IS NOT NULL) AS concepts
FROM (
    SELECT a.article_id, a.title, a.ordinal
    FROM article a
    WHERE a.dataset_source = :dataset AND strpos(lower(a.title), lower(:title)) > 0
    ORDER BY length(a.title), a.ordinal
    LIMIT :most
) found
ORDER BY length(found.title), found.ordinal;
