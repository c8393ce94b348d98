-- Vector indexes and what is found. The statements that ask an index are in lvmdb/db/nearest.py.

-- name: concepts_found
-- Concepts by id, in the order asked for.
SELECT c.cpe_id, a.title, c.article_id, c.seq, c.concept_text
FROM unnest(:cpe_ids ::uuid[]) WITH ORDINALITY AS asked (cpe_id, place)
JOIN cpe_entry c USING (cpe_id)
JOIN article a USING (article_id)
ORDER BY asked.place;

-- name: concept_vector
-- Where a concept is.
SELECT dataset_source, vector_send(concept_vec) AS sent
FROM cpe_entry
WHERE cpe_id = CAST(:cpe_id AS uuid);

-- name: concept_vectors
-- Vectors and TMD codes of concepts, in the order asked for.
SELECT c.cpe_id, vector_send(c.concept_vec) AS sent,
       vector_send(coalesce(c.tmd_vec, array_fill(0, ARRAY[16])::vector)) AS code
FROM unnest(:cpe_ids ::uuid[]) WITH ORDINALITY AS asked (cpe_id, place)
JOIN cpe_entry c USING (cpe_id)
WHERE c.concept_vec IS NOT NULL
ORDER BY asked.place;

-- name: article_dataset
-- Whose article it is.
SELECT dataset_source FROM article WHERE article_id = :article_id;

-- name: corpus_fingerprint
-- The vectors of a dataset as one hash, in corpus order, and their number.
SELECT count(*) AS vectors,
       sha256(coalesce(string_agg(
           sha256(uuid_send(c.cpe_id) || vector_send(c.concept_vec)), ''::bytea
           ORDER BY a.ordinal, c.seq), ''::bytea)) AS fingerprint
FROM article a JOIN cpe_entry c USING (article_id)
WHERE a.dataset_source = :dataset AND c.concept_vec IS NOT NULL;

-- name: corpus_mark
-- Which versions of rows a dataset has now. The same mark, the same vectors; another mark says only
-- that a row was written: its vector may be as it was.
SELECT count(*) || ' ' || coalesce(sum(uuid_hash_extended(cpe_id, xmin::text::bigint)), 0) AS mark
FROM cpe_entry
WHERE dataset_source = :dataset AND concept_vec IS NOT NULL;

-- name: usable_indexes
-- Indexes of a dataset that the database has, by what is preferred.
SELECT i.name, i.kind, i.storage, i.metric, i.vectors, i.parameters, i.query_parameters, i.tuning
FROM ann_index i
JOIN pg_class c ON c.relname = i.name
JOIN pg_index x ON x.indexrelid = c.oid AND x.indrelid = 'cpe_entry'::regclass AND x.indisvalid
WHERE i.dataset_source = :dataset AND i.engine = 'pgvector'
ORDER BY array_position(ARRAY['ip', 'cosine'], i.metric),
         array_position(ARRAY['halfvec', 'vector', 'bit'], i.storage),
         array_position(ARRAY['hnsw', 'ivfflat'], i.kind);

-- name: list_indexes
-- Vector indexes as they were built and tuned, and whether the database still has them.
SELECT i.name, i.dataset_source AS dataset, i.engine, i.kind, i.storage, i.metric, i.parameters,
       i.query_parameters, i.tuning, i.vectors, i.seconds, i.bytes, i.workers, i.memory,
       i.corpus_mark, i.corpus_fingerprint, i.tuned_fingerprint,
       CASE WHEN i.engine = 'pgvector'
            THEN EXISTS (SELECT FROM pg_class c JOIN pg_index x ON x.indexrelid = c.oid
                         WHERE c.relname = i.name AND x.indrelid = 'cpe_entry'::regclass
                           AND x.indisvalid) END AS usable,
       i.created_at
FROM ann_index i
ORDER BY i.ann_index_id;

-- name: lock_indexes
-- One session at a time builds or drops indexes of a dataset; false while another does.
SELECT pg_try_advisory_lock(hashtextextended('ann_index ' || CAST(:dataset AS text), 0));

-- name: build_with
-- What building may use, for the session.
SELECT set_config('maintenance_work_mem', CAST(:memory AS text), false) AS memory,
       set_config('max_parallel_maintenance_workers', CAST(:workers AS text), false) AS workers;

-- name: build_limits
-- What the server has for building: bytes that it may take, and processes.
SELECT pg_size_bytes(current_setting('effective_cache_size')) AS memory,
       current_setting('max_parallel_workers')::integer AS workers;

-- name: writers
-- Sessions that hold, or wait for, a lock on the concepts that writers take.
SELECT count(DISTINCT pid)
FROM pg_locks
WHERE locktype = 'relation' AND relation = 'cpe_entry'::regclass
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND pid <> pg_backend_pid()
  AND mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock');

-- name: build_progress
-- How far a session's CREATE INDEX is: in what phase, vectors done, whom it waits for.
SELECT phase, tuples_done, current_locker_pid
FROM pg_stat_progress_create_index
WHERE pid = :pid;

-- name: index_size
-- What an index takes on disk.
SELECT pg_relation_size(CAST(quote_ident(:name) AS regclass)) AS bytes;

-- name: replace_indexes
-- The rows of indexes whose place a new one takes: of a dataset, storage and metric there is one,
-- so that the planner has no choice; bits have no metric.
DELETE FROM ann_index
WHERE dataset_source = :dataset AND engine = 'pgvector' AND storage = :storage
  AND (metric = :metric OR storage = 'bit')
RETURNING name;

-- name: add_index
-- An index that was built in the database.
INSERT INTO ann_index (name, dataset_source, engine, kind, storage, metric, parameters, vectors,
                       seconds, bytes, corpus_fingerprint, corpus_mark, workers, memory)
VALUES (:name, :dataset, 'pgvector', :kind, :storage, :metric, :parameters, :vectors,
        :seconds, :bytes, :fingerprint, :mark, :workers, :memory);

-- name: dataset_vectors
-- All vectors of a dataset, with the bytes of their ids, in no order.
SELECT uuid_send(cpe_id), vector_send(concept_vec)
FROM cpe_entry
WHERE dataset_source = :dataset AND concept_vec IS NOT NULL;

-- name: dataset_vectors_native
-- The same in the server's own byte order: see lvmdb/db/native.py.
SELECT uuid_send(cpe_id), concept_vec::bytea
FROM cpe_entry
WHERE dataset_source = :dataset AND concept_vec IS NOT NULL;

-- name: neighbours_of_concepts
-- Pairs of concepts that follow one another, the same at each call: their sums are like predictions.
SELECT vector_send(c.concept_vec), vector_send(d.concept_vec)
FROM cpe_entry c
JOIN cpe_entry d ON d.article_id = c.article_id AND d.seq = c.seq + 1
WHERE c.dataset_source = :dataset AND c.concept_vec IS NOT NULL AND d.concept_vec IS NOT NULL
ORDER BY uuid_hash_extended(c.cpe_id, CAST(:seed AS bigint)), c.cpe_id
LIMIT :queries;

-- name: predictions_of_run
-- Predictions of a run, the same at each call; zero vectors have no direction.
SELECT vector_send(p.predicted_vec)
FROM prediction p
JOIN experiment_run r USING (run_id)
JOIN sequence_set s USING (sequence_set_id)
WHERE p.run_id = :run_id AND s.dataset_source = :dataset AND vector_norm(p.predicted_vec) > 0
ORDER BY uuid_hash_extended(p.target_cpe_id, CAST(:seed AS bigint)), p.target_cpe_id
LIMIT :queries;

-- name: full_text
-- Concepts of a dataset by PostgreSQL's full-text search, for any of the words of a text. It has no
-- index: words are found in every text while it is asked.
WITH asked AS MATERIALIZED (
    SELECT string_agg(quote_literal(lexeme), ' | ')::tsquery AS words
    FROM unnest(to_tsvector('english', :text))
)
SELECT c.cpe_id, a.title, c.article_id, c.seq, c.concept_text,
       ts_rank(to_tsvector('english', c.concept_text), asked.words, 1)::double precision AS rank
FROM asked, cpe_entry c
JOIN article a USING (article_id)
WHERE c.dataset_source = :dataset AND c.concept_vec IS NOT NULL
  AND to_tsvector('english', c.concept_text) @@ asked.words
ORDER BY rank DESC, c.cpe_id
LIMIT :k;
