-- What `lvmdb verify` asks.

-- name: corpus_health
-- One row a dataset: counts, order, norms, repetitions.
SELECT * FROM corpus_health
WHERE dataset_source = coalesce(CAST(:dataset AS text), dataset_source)
ORDER BY dataset_source;

-- name: content_health
-- One row a dataset: its texts, codes and probes, and how long the vectors are that it stores.
SELECT d.dataset_source, e.max_tokens,
       count(c.cpe_id) AS concepts,
       count(*) FILTER (WHERE c.concept_text !~ '\S') AS blank_texts,
       min(vector_dims(c.concept_vec)) AS min_dimension,
       max(vector_dims(c.concept_vec)) AS max_dimension,
       count(c.tmd_code) AS tmd_codes,
       count(DISTINCT c.tmd_code) AS distinct_codes,
       mode() WITHIN GROUP (ORDER BY c.tmd_code) AS commonest_code,
       count(c.probe_question) AS probe_questions,
       count(c.probe_vec) AS probe_vectors,
       count(*) FILTER (WHERE c.probe_question IS NOT NULL AND c.probe_vec IS NULL
                          AND c.concept_vec IS NOT NULL) AS probes_without_vector,
       count(*) FILTER (WHERE c.probe_question IS NULL AND c.probe_vec IS NOT NULL)
           AS vectors_without_probe,
       min(w.words) AS min_words, max(w.words) AS max_words, avg(w.words)::float8 AS mean_words,
       percentile_disc(0.5) WITHIN GROUP (ORDER BY w.words) AS median_words,
       min(length(c.concept_text)) AS min_characters,
       max(length(c.concept_text)) AS max_characters,
       percentile_disc(0.5) WITHIN GROUP (ORDER BY length(c.concept_text)) AS median_characters,
       count(*) FILTER (WHERE w.words > e.max_tokens) AS cut_texts
FROM dataset d
LEFT JOIN encoder e USING (encoder_id)
LEFT JOIN cpe_entry c USING (dataset_source)
LEFT JOIN LATERAL (SELECT regexp_count(c.concept_text, '\S+') AS words) w
    ON c.cpe_id IS NOT NULL
WHERE d.dataset_source = coalesce(CAST(:dataset AS text), d.dataset_source)
GROUP BY d.dataset_source, e.max_tokens
ORDER BY d.dataset_source;

-- name: share_of_code
-- How many concepts of a dataset have a code.
SELECT count(*) FROM cpe_entry WHERE dataset_source = :dataset AND tmd_code = :code;

-- name: tmd_codes
-- The commonest domain/task/modifier codes of each dataset, with what they mean.
SELECT dataset_source, tmd_code, d.label AS domain, t.label AS task, m.label AS modifier,
       concepts, share
FROM (
    SELECT dataset_source, tmd_code, domain_code, task_code, modifier_code, count(*) AS concepts,
           count(*)::float8 / sum(count(*)) OVER of_dataset AS share,
           row_number() OVER (of_dataset ORDER BY count(*) DESC, tmd_code) AS place
    FROM cpe_entry
    WHERE dataset_source = coalesce(CAST(:dataset AS text), dataset_source)
    GROUP BY dataset_source, tmd_code, domain_code, task_code, modifier_code
    WINDOW of_dataset AS (PARTITION BY dataset_source)
) counted
LEFT JOIN tmd_label d ON (d.vocabulary, d.kind, d.code) = (1, 'domain', domain_code)
LEFT JOIN tmd_label t ON (t.vocabulary, t.kind, t.code) = (1, 'task', task_code)
LEFT JOIN tmd_label m ON (m.vocabulary, m.kind, m.code) = (1, 'modifier', modifier_code)
WHERE place <= 20
ORDER BY dataset_source, place;

-- name: lengths
-- How many concepts of each dataset have so many words and, on average, characters.
SELECT dataset_source, words / 10 * 10 AS words_from, words / 10 * 10 + 9 AS words_to,
       count(*) AS concepts,
       count(*)::float8 / sum(count(*)) OVER (PARTITION BY dataset_source) AS share,
       avg(characters)::float8 AS mean_characters
FROM cpe_entry
CROSS JOIN LATERAL (
    SELECT regexp_count(concept_text, '\S+') AS words, length(concept_text) AS characters
) l
WHERE dataset_source = coalesce(CAST(:dataset AS text), dataset_source)
GROUP BY dataset_source, words / 10
ORDER BY dataset_source, words / 10;

-- name: sample
-- Some concepts to read, others each time.
SELECT c.dataset_source, a.title, c.seq, c.concept_text, c.tmd_code, c.cpe_id
FROM cpe_entry c JOIN article a USING (article_id)
WHERE c.dataset_source = coalesce(CAST(:dataset AS text), c.dataset_source)
ORDER BY random()
LIMIT 10;

-- name: vectors
-- The concepts of a dataset with their vectors, in corpus order; of a large one, those of every
-- so manyth article.
SELECT c.article_id, c.seq, hashtextextended(c.concept_text, 0) AS text_hash,
       vector_send(c.concept_vec), vector_send(c.probe_vec)
FROM article a
JOIN cpe_entry c USING (article_id)
WHERE a.dataset_source = :dataset AND c.concept_vec IS NOT NULL AND a.ordinal % :step = 0
ORDER BY a.ordinal, c.seq;

-- name: table_sizes
-- The tables that hold most, with their indexes.
SELECT c.relname AS name,
       format('%s, about %s rows', pg_size_pretty(pg_total_relation_size(c.oid)),
              greatest(c.reltuples, 0)::bigint) AS described
FROM pg_class c
WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace
  AND pg_total_relation_size(c.oid) > 128 * 1024
ORDER BY pg_total_relation_size(c.oid) DESC
LIMIT 8;
