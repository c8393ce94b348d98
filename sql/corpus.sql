-- Articles and their concepts.

-- name: lock_dataset
-- Whoever adds articles to a dataset waits for his turn, so that ordinals have no gap.
SELECT encoder_id FROM dataset WHERE dataset_source = :dataset FOR UPDATE;

-- name: begin_import
-- Plans that were made when the tables were small are made anew.
DISCARD PLANS;

-- name: known_articles
-- Which of these articles are there, with what content, and in which frozen set.
SELECT a.source_key, a.article_id, a.content_hash,
       (SELECT s.name FROM sequence_article sa JOIN sequence_set s USING (sequence_set_id)
        WHERE sa.article_id = a.article_id AND s.frozen_at IS NOT NULL LIMIT 1) AS frozen_in
FROM article a
WHERE a.dataset_source = :dataset AND a.source_key = ANY (:source_keys ::text[]);

-- name: add_articles
-- New articles at the end of the dataset, in the order given.
INSERT INTO article (dataset_source, source_key, ordinal, title, url, content_hash, text_hash)
SELECT :dataset, n.source_key, n.place - 1 + (
           SELECT coalesce(max(ordinal) + 1, 0) FROM article WHERE dataset_source = :dataset
       ), n.title, n.url, n.content_hash, n.text_hash
FROM unnest(:source_keys ::text[], :titles ::text[], :urls ::text[],
            :content_hashes ::bytea[], :text_hashes ::bytea[])
     WITH ORDINALITY AS n (source_key, title, url, content_hash, text_hash, place)
RETURNING source_key, article_id;

-- name: clear_articles
-- The concepts of articles that changed, before the new ones are written.
DELETE FROM cpe_entry WHERE article_id = ANY (:article_ids ::bigint[]);

-- name: update_articles
-- What the changed articles are now.
UPDATE article a
SET title = n.title, url = n.url, content_hash = n.content_hash, text_hash = n.text_hash
FROM unnest(:article_ids ::bigint[], :titles ::text[], :urls ::text[],
            :content_hashes ::bytea[], :text_hashes ::bytea[])
     AS n (article_id, title, url, content_hash, text_hash)
WHERE a.article_id = n.article_id;

-- name: add_timing
-- Time spent in one step of a job, added to what is there.
INSERT INTO pipeline_timing (job_id, step, items, seconds)
VALUES (:job_id, :step, :items, :seconds)
ON CONFLICT (job_id, step) DO UPDATE
SET items = pipeline_timing.items + excluded.items,
    seconds = pipeline_timing.seconds + excluded.seconds;

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

-- name: ingest_status
-- Jobs, newest first, with the time that each step took.
SELECT j.job_id AS job, j.dataset_source AS dataset, j.reader, j.source, j.status, j.articles,
       j.concepts, (SELECT count(*) FROM ingest_error e WHERE e.job_id = j.job_id) AS errors,
       round(extract(epoch FROM coalesce(j.finished_at, now()) - j.started_at)::numeric, 1)
           AS seconds,
       (SELECT string_agg(format('%s %ss', t.step, round(t.seconds::numeric, 1)), ', '
                          ORDER BY t.seconds DESC)
        FROM pipeline_timing t WHERE t.job_id = j.job_id) AS steps,
       j.started_at
FROM ingest_job j
ORDER BY j.job_id DESC;

-- name: ingest_errors
-- What could not be ingested, newest first.
SELECT e.job_id AS job, j.dataset_source AS dataset, e.source_key AS article, e.step, e.message,
       e.created_at
FROM ingest_error e JOIN ingest_job j USING (job_id)
ORDER BY e.error_id DESC;

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
