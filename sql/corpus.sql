-- Articles and their concepts.

-- name: lock_dataset
-- Whoever adds articles to a dataset waits for his turn, so that ordinals have no gap. Concepts may
-- be written meanwhile.
SELECT encoder_id FROM dataset WHERE dataset_source = :dataset FOR NO KEY UPDATE;

-- name: begin_import
-- Plans that were made when the tables were small are made anew.
DISCARD PLANS;

-- name: known_articles
-- Which of these articles are there, with what content, and in which frozen set; and whether a
-- tagger failed at some of their concepts.
SELECT a.source_key, a.article_id, a.content_hash, a.options_hash,
       (SELECT s.name FROM sequence_article sa JOIN sequence_set s USING (sequence_set_id)
        WHERE sa.article_id = a.article_id AND s.frozen_at IS NOT NULL LIMIT 1) AS frozen_in,
       EXISTS (
           SELECT FROM ingest_error e JOIN ingest_job j USING (job_id)
           WHERE e.source_key = a.source_key AND j.dataset_source = a.dataset_source
             AND e.step = 'tag' AND e.resolved_at IS NULL
       ) AND EXISTS (
           SELECT FROM cpe_entry c WHERE c.article_id = a.article_id AND c.tmd_source IS NULL
       ) AS uncoded
FROM article a
WHERE a.dataset_source = :dataset AND a.source_key = ANY (:source_keys ::text[]);

-- name: new_article_ids
-- Ids for articles that are about to be added.
SELECT nextval(pg_get_serial_sequence('article', 'article_id')) FROM generate_series(1, :how_many);

-- name: articles_come_later
-- In this transaction concepts and episodes are written before the articles that they belong to.
SET CONSTRAINTS fk_cpe_entry_article_id_dataset_source, fk_episode_article_id DEFERRED;

-- name: add_articles
-- New articles at the end of the dataset, in the order given.
INSERT INTO article (article_id, dataset_source, source_key, ordinal, title, url, content_hash,
                     text_hash, options_hash, job_id)
OVERRIDING SYSTEM VALUE
SELECT n.article_id, :dataset, n.source_key, n.place - 1 + (
           SELECT coalesce(max(ordinal) + 1, 0) FROM article WHERE dataset_source = :dataset
       ), n.title, n.url, n.content_hash, n.text_hash,
       CAST(:options_hash AS bytea), CAST(:job_id AS bigint)
FROM unnest(:article_ids ::bigint[], :source_keys ::text[], :titles ::text[], :urls ::text[],
            :content_hashes ::bytea[], :text_hashes ::bytea[])
     WITH ORDINALITY AS n (article_id, source_key, title, url, content_hash, text_hash, place);

-- name: update_articles
-- What the changed articles are now.
UPDATE article a
SET title = n.title, url = n.url, content_hash = n.content_hash, text_hash = n.text_hash,
    options_hash = CAST(:options_hash AS bytea), job_id = CAST(:job_id AS bigint)
FROM unnest(:article_ids ::bigint[], :titles ::text[], :urls ::text[],
            :content_hashes ::bytea[], :text_hashes ::bytea[])
     AS n (article_id, title, url, content_hash, text_hash)
WHERE a.article_id = n.article_id;

-- name: make_staging
-- Where the concepts of changed articles wait to be compared with those that are there.
CREATE TEMPORARY TABLE IF NOT EXISTS staged_concept (
    cpe_id uuid NOT NULL,
    article_id bigint NOT NULL,
    seq integer NOT NULL,
    concept_text text NOT NULL,
    dataset_source text NOT NULL,
    concept_vec vector(768),
    encoder_id bigint,
    domain_code smallint,
    task_code smallint,
    modifier_code smallint,
    tmd_source text,
    tmd_vec vector(16),
    PRIMARY KEY (article_id, seq)
) ON COMMIT DELETE ROWS;

-- name: clear_staging
-- What was staged has been used.
DELETE FROM staged_concept;

-- name: rebuilt_articles
-- Those of the changed articles of which a concept goes, comes, or has another text or vector.
SELECT DISTINCT coalesce(s.article_id, c.article_id)
FROM staged_concept s
FULL JOIN (SELECT * FROM cpe_entry WHERE article_id = ANY (:article_ids ::bigint[])) c
    ON c.article_id = s.article_id AND c.seq = s.seq
WHERE c.cpe_id IS DISTINCT FROM s.cpe_id OR c.concept_vec IS DISTINCT FROM s.concept_vec;

-- name: drop_concepts
-- Concepts behind the end of what a changed article is now.
DELETE FROM cpe_entry c
WHERE c.article_id = ANY (:article_ids ::bigint[])
  AND c.seq >= (SELECT count(*) FROM staged_concept s WHERE s.article_id = c.article_id);

-- name: overwrite_concepts
-- Other concepts in the place of those that were there: nothing of the old ones is left. Where only
-- the vector is another, the concept stays with all else that it has.
UPDATE cpe_entry c
SET cpe_id = s.cpe_id, concept_text = s.concept_text, concept_vec = s.concept_vec,
    encoder_id = s.encoder_id, episode_id = CASE WHEN c.cpe_id = s.cpe_id THEN c.episode_id END,
    probe_question = CASE WHEN c.cpe_id = s.cpe_id THEN c.probe_question END,
    probe_vec = CASE WHEN c.cpe_id = s.cpe_id THEN c.probe_vec END,
    expected_answer = CASE WHEN c.cpe_id = s.cpe_id THEN c.expected_answer END,
    soft_negatives = CASE WHEN c.cpe_id = s.cpe_id THEN c.soft_negatives END,
    hard_negatives = CASE WHEN c.cpe_id = s.cpe_id THEN c.hard_negatives END,
    domain_code = CASE WHEN c.cpe_id = s.cpe_id THEN c.domain_code ELSE s.domain_code END,
    task_code = CASE WHEN c.cpe_id = s.cpe_id THEN c.task_code ELSE s.task_code END,
    modifier_code = CASE WHEN c.cpe_id = s.cpe_id THEN c.modifier_code ELSE s.modifier_code END,
    tmd_source = CASE WHEN c.cpe_id = s.cpe_id THEN c.tmd_source ELSE s.tmd_source END,
    tmd_vec = CASE WHEN c.cpe_id = s.cpe_id THEN c.tmd_vec ELSE s.tmd_vec END,
    created_at = CASE WHEN c.cpe_id = s.cpe_id THEN c.created_at ELSE now() END
FROM staged_concept s
WHERE c.article_id = ANY (:article_ids ::bigint[])
  AND c.article_id = s.article_id AND c.seq = s.seq
  AND (c.cpe_id <> s.cpe_id OR :encoded AND c.concept_vec IS DISTINCT FROM s.concept_vec);

-- name: append_concepts
-- Concepts behind the end of what a changed article was before.
INSERT INTO cpe_entry (cpe_id, article_id, seq, concept_text, dataset_source, concept_vec,
                       encoder_id, domain_code, task_code, modifier_code, tmd_source, tmd_vec)
SELECT s.cpe_id, s.article_id, s.seq, s.concept_text, s.dataset_source, s.concept_vec,
       s.encoder_id, s.domain_code, s.task_code, s.modifier_code, s.tmd_source, s.tmd_vec
FROM staged_concept s
WHERE s.article_id = ANY (:article_ids ::bigint[])
  AND NOT EXISTS (SELECT FROM cpe_entry c WHERE c.article_id = s.article_id AND c.seq = s.seq)
ORDER BY s.article_id, s.seq;

-- name: recode_concepts
-- The codes of concepts that stayed: of all where what made them is another now, else only of those
-- that have none. What somebody gave stays.
UPDATE cpe_entry c
SET domain_code = s.domain_code, task_code = s.task_code, modifier_code = s.modifier_code,
    tmd_source = s.tmd_source, tmd_vec = s.tmd_vec
FROM staged_concept s
WHERE c.article_id = ANY (:article_ids ::bigint[]) AND c.cpe_id = s.cpe_id
  AND (c.tmd_source IS NULL OR c.article_id = ANY (:recode ::bigint[]))
  AND (c.tmd_source IS DISTINCT FROM 'given' OR s.tmd_source = 'given')
  AND (c.domain_code, c.task_code, c.modifier_code, c.tmd_source)
      IS DISTINCT FROM (s.domain_code, s.task_code, s.modifier_code, s.tmd_source);

-- name: add_episodes
-- The episodes of articles.
INSERT INTO episode (article_id, ordinal, first_seq, last_seq, coherence)
SELECT * FROM unnest(:article_ids ::bigint[], :ordinals ::integer[], :firsts ::integer[],
                     :lasts ::integer[], :coherences ::real[])
RETURNING article_id, ordinal, episode_id;

-- name: episodes_of
-- The episodes of articles, in their order.
SELECT article_id, first_seq, last_seq, coherence FROM episode
WHERE article_id = ANY (:article_ids ::bigint[])
ORDER BY article_id, ordinal;

-- name: clear_episodes
-- The episodes of articles that are to have others, or none.
DELETE FROM episode WHERE article_id = ANY (:article_ids ::bigint[]);

-- name: regroup_concepts
-- Each concept of these articles refers to the episode that it lies in.
UPDATE cpe_entry c SET episode_id = e.episode_id
FROM episode e
WHERE c.article_id = ANY (:article_ids ::bigint[]) AND e.article_id = c.article_id
  AND c.seq BETWEEN e.first_seq AND e.last_seq AND c.episode_id IS DISTINCT FROM e.episode_id;

-- name: kept_concepts
-- The concepts that articles have, with their vectors, in order.
SELECT c.article_id, c.seq, c.concept_text, vector_send(c.concept_vec) AS vector
FROM cpe_entry c
WHERE c.article_id = ANY (:article_ids ::bigint[])
ORDER BY c.article_id, c.seq;

-- name: probes
-- An encoder's fingerprint: what it must give for these sentences.
SELECT sentence, probe_vec FROM encoder_probe WHERE encoder_id = :encoder_id ORDER BY ordinal;

-- name: sample_concepts
-- Some concepts of a dataset, the same at each call, to hold a loaded model against.
SELECT c.concept_text, c.concept_vec
FROM cpe_entry c
WHERE c.dataset_source = :dataset AND c.concept_vec IS NOT NULL
ORDER BY md5(c.cpe_id::text)
LIMIT :how_many;

-- name: list_encoders
-- Encoders, what is known of them, and who uses them.
SELECT e.name, e.kind, e.model, e.endpoint, e.precision, e.revision, e.pooling, e.normalised,
       e.max_tokens, p.count > 0 AS fingerprint, p.length,
       (SELECT string_agg(d.dataset_source, ', ' ORDER BY d.dataset_source) FROM dataset d
        WHERE d.encoder_id = e.encoder_id) AS datasets
FROM encoder e
CROSS JOIN LATERAL (
    SELECT count(*),
           percentile_cont(0.5) WITHIN GROUP (ORDER BY vector_norm(probe_vec)) AS length
    FROM encoder_probe WHERE encoder_id = e.encoder_id
) p
ORDER BY e.name;

-- name: concepts_in_order
-- All concepts of a dataset in corpus order, for export.
SELECT c.cpe_id, c.concept_text, vector_send(c.concept_vec), c.tmd_code
FROM article a
JOIN cpe_entry c USING (article_id)
WHERE a.dataset_source = :dataset
ORDER BY a.ordinal, c.seq;

-- name: pool
-- All concepts of a dataset that have a vector, in corpus order: what a truth is ranked among.
SELECT c.cpe_id, c.article_id, c.seq, vector_send(c.concept_vec)
FROM article a
JOIN cpe_entry c USING (article_id)
WHERE a.dataset_source = :dataset AND c.concept_vec IS NOT NULL
ORDER BY a.ordinal, c.seq;

-- name: allow_native_vectors
-- A cast that gives a vector's bytes as they are stored; see lvmdb/db/native.py.
DO $$
BEGIN
    IF (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
       AND to_regtype('vector') IS NOT NULL
       AND NOT EXISTS (
           SELECT FROM pg_cast
           WHERE castsource = to_regtype('vector') AND casttarget = to_regtype('bytea'))
    THEN
        CREATE CAST (vector AS bytea) WITHOUT FUNCTION;
        ALTER EXTENSION vector ADD CAST (vector AS bytea);
    END IF;
EXCEPTION WHEN unique_violation OR duplicate_object THEN
    NULL;  -- another session was first
END $$;

-- name: native_vectors_allowed
-- Whether vectors can be read as they are stored.
SELECT EXISTS (
    SELECT FROM pg_cast
    WHERE castsource = to_regtype('vector') AND casttarget = to_regtype('bytea')
      AND castmethod = 'b'
);
