-- Nearest concepts. Vectors are of unit norm, so that inner product and cosine agree, and <#> is
-- the negative inner product.

-- name: nearest_halfvec
-- The nearest concepts of a dataset, through an index on halfvec; cosines are of the full vectors.
SELECT h.cpe_id, a.title, h.article_id, h.seq, h.concept_text, h.cosine
FROM (
    SELECT cpe_id, article_id, seq, concept_text,
           -(concept_vec <#> CAST(:query AS vector(768))) AS cosine
    FROM cpe_entry
    WHERE dataset_source = :dataset AND concept_vec IS NOT NULL
    ORDER BY (concept_vec::halfvec(768)) <#> CAST(:query AS halfvec(768))
    LIMIT :k
) h
JOIN article a USING (article_id)
ORDER BY h.cosine DESC, h.cpe_id;

-- name: nearest_vector
-- The same through an index on vector; without one, or with index scans off, exactly.
SELECT h.cpe_id, a.title, h.article_id, h.seq, h.concept_text, h.cosine
FROM (
    SELECT cpe_id, article_id, seq, concept_text,
           -(concept_vec <#> CAST(:query AS vector(768))) AS cosine
    FROM cpe_entry
    WHERE dataset_source = :dataset AND concept_vec IS NOT NULL
    ORDER BY concept_vec <#> CAST(:query AS vector(768))
    LIMIT :k
) h
JOIN article a USING (article_id)
ORDER BY h.cosine DESC, h.cpe_id;

-- name: concept_vector
-- Where a concept is.
SELECT dataset_source, concept_vec FROM cpe_entry WHERE cpe_id = CAST(:cpe_id AS uuid);

-- name: corpus_fingerprint
-- The vectors of a dataset as one hash, in corpus order, and their number.
SELECT count(*) AS vectors,
       sha256(coalesce(string_agg(
           sha256(uuid_send(c.cpe_id) || vector_send(c.concept_vec)), ''::bytea
           ORDER BY a.ordinal, c.seq), ''::bytea)) AS fingerprint
FROM article a JOIN cpe_entry c USING (article_id)
WHERE a.dataset_source = :dataset AND c.concept_vec IS NOT NULL;

-- name: list_indexes
-- Vector indexes as they were built, and whether the database still has them.
SELECT i.name, i.dataset_source AS dataset, i.engine, i.kind, i.storage, i.parameters, i.vectors,
       round(i.seconds::numeric, 1) AS seconds, pg_size_pretty(i.bytes) AS size,
       CASE WHEN i.engine <> 'pgvector' THEN NULL
            ELSE EXISTS (SELECT FROM pg_class c JOIN pg_index x ON x.indexrelid = c.oid
                         WHERE c.relname = i.name AND x.indisvalid) END AS usable,
       i.created_at
FROM ann_index i
ORDER BY i.ann_index_id;
