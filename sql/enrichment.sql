-- Codes, probes and negatives for concepts that are there.

-- name: articles_to_tag
-- Articles with concepts that have no code; with :every, with any but given ones. In corpus order.
SELECT a.article_id, a.source_key, count(*) AS concepts
FROM article a JOIN cpe_entry c USING (article_id)
WHERE a.dataset_source = :dataset
  AND (c.tmd_source IS NULL OR (:every AND c.tmd_source <> 'given'))
GROUP BY a.article_id
ORDER BY a.ordinal;

-- name: concepts_to_tag
-- Their concepts, in the order of the articles given.
SELECT c.cpe_id, listed.place, c.seq, c.concept_text, vector_send(c.concept_vec) AS vector
FROM unnest(:article_ids ::bigint[]) WITH ORDINALITY AS listed (article_id, place)
JOIN cpe_entry c USING (article_id)
WHERE c.tmd_source IS NULL OR (:every AND c.tmd_source <> 'given')
ORDER BY listed.place, c.seq;

-- name: set_codes
-- Codes of concepts; what came with its source stays, and what is right already is not written.
UPDATE cpe_entry c
SET domain_code = n.domain, task_code = n.task, modifier_code = n.modifier,
    tmd_source = n.source, tmd_vec = n.dense::vector
FROM unnest(:cpe_ids ::uuid[], :domains ::smallint[], :tasks ::smallint[],
            :modifiers ::smallint[], :sources ::text[], :dense ::text[])
     AS n (cpe_id, domain, task, modifier, source, dense)
WHERE c.cpe_id = n.cpe_id AND c.tmd_source IS DISTINCT FROM 'given'
  AND (c.domain_code, c.task_code, c.modifier_code, c.tmd_source)
      IS DISTINCT FROM (n.domain, n.task, n.modifier, n.source);

-- name: runs_that_read_codes
-- Runs that would be refused if the codes of a dataset changed: those that read them, to be
-- evaluated as well; and those that are to be trained on its probes, beside which domains lie.
SELECT r.run_id
FROM experiment_run r JOIN sequence_set s USING (sequence_set_id)
WHERE s.dataset_source = :dataset
  AND ((r.hyperparameters->>'tmd_fingerprint' <> '' AND r.status NOT IN ('failed', 'cancelled'))
       OR (r.hyperparameters->>'probe_fingerprint' <> '' AND r.status IN ('planned', 'queued', 'running')))
ORDER BY r.run_id;

-- name: runs_that_read_probes
-- Runs that would be refused if the probes of a dataset changed: those yet to be trained on them.
SELECT r.run_id
FROM experiment_run r JOIN sequence_set s USING (sequence_set_id)
WHERE s.dataset_source = :dataset AND r.hyperparameters->>'probe_fingerprint' <> ''
  AND r.status IN ('planned', 'queued', 'running')
ORDER BY r.run_id;

-- name: concepts_to_question
-- Concepts without a probe question behind a place in the corpus, in its order, with the articles
-- that they are from. Articles are gone through one by one, and no further than is needed.
SELECT c.cpe_id, a.source_key, a.ordinal, c.seq, a.title, c.concept_text
FROM (
    SELECT article_id, source_key, ordinal, title FROM article
    WHERE dataset_source = :dataset AND ordinal >= :ordinal
    ORDER BY ordinal
    OFFSET 0
) AS a
CROSS JOIN LATERAL (
    SELECT c.cpe_id, c.seq, c.concept_text FROM cpe_entry c
    WHERE c.article_id = a.article_id AND c.probe_question IS NULL
      AND (a.ordinal > :ordinal OR c.seq > :seq)
) AS c
ORDER BY a.ordinal, c.seq
LIMIT :most;

-- name: concepts_without_probe
-- How many concepts of a dataset have no probe question.
SELECT count(*) FROM cpe_entry WHERE dataset_source = :dataset AND probe_question IS NULL;

-- name: set_probes
-- Questions and answers of concepts with their vectors; negatives where they were written too.
UPDATE cpe_entry c
SET probe_question = n.question, expected_answer = n.answer, probe_vec = n.probe::vector,
    soft_negatives = coalesce(
        (SELECT array_agg(text) FROM jsonb_array_elements_text(n.soft) AS text), c.soft_negatives),
    hard_negatives = coalesce(
        (SELECT array_agg(text) FROM jsonb_array_elements_text(n.hard) AS text), c.hard_negatives)
FROM unnest(:cpe_ids ::uuid[], :questions ::text[], :answers ::text[], :probes ::text[],
            :soft ::jsonb[], :hard ::jsonb[]) AS n (cpe_id, question, answer, probe, soft, hard)
WHERE c.cpe_id = n.cpe_id AND c.probe_question IS NULL;

-- name: allow_candidates
-- Room for what negatives are chosen from, in this session.
SET temp_buffers = '300MB';

-- name: make_candidates
-- Where this session keeps what negatives are chosen from. A row's vector lies beside it, as in
-- cpe_entry, or every comparison would begin with a look-up.
CREATE TEMPORARY TABLE negative_candidate (
    place BIGINT NOT NULL,
    domain_code SMALLINT,
    domain_place BIGINT NOT NULL,
    article_id BIGINT NOT NULL,
    cpe_id UUID NOT NULL,
    concept_text TEXT NOT NULL,
    concept_vec VECTOR(768) STORAGE PLAIN NOT NULL
) WITH (toast_tuple_target = 8160);

-- name: fill_candidates
-- The concepts of a dataset with vectors, at most so many. Ids are hashes: the first of them are
-- a sample that is the same at every call.
INSERT INTO negative_candidate
SELECT row_number() OVER (ORDER BY sample.cpe_id) - 1, sample.domain_code,
       row_number() OVER (PARTITION BY sample.domain_code ORDER BY sample.cpe_id) - 1,
       c.article_id, sample.cpe_id, c.concept_text, c.concept_vec
FROM (
    SELECT cpe_id, domain_code FROM cpe_entry
    WHERE dataset_source = :dataset AND concept_vec IS NOT NULL
    ORDER BY cpe_id
    LIMIT :most
) AS sample
JOIN cpe_entry c USING (cpe_id);

-- name: index_candidates
-- For windows of candidates of all domains.
CREATE UNIQUE INDEX ON negative_candidate (place);

-- name: index_candidate_domains
-- For windows of candidates of one domain.
CREATE INDEX ON negative_candidate (domain_code, domain_place);

-- name: analyse_candidates
-- How many there are, for the planner.
ANALYZE negative_candidate;

-- name: articles_without_negatives
-- Articles with concepts whose negatives nobody has looked for; with :every, all. In corpus order.
SELECT a.article_id, count(*) AS concepts
FROM article a JOIN cpe_entry c USING (article_id)
WHERE a.dataset_source = :dataset AND c.concept_vec IS NOT NULL
  AND (:every OR (c.soft_negatives IS NULL AND c.hard_negatives IS NULL))
GROUP BY a.article_id
ORDER BY a.ordinal;

-- name: choose_negatives
-- Soft and hard negatives of the concepts of some articles. Each concept looks at a window of
-- candidates that begins where its id, which is a hash, says: of its domain, those of its own
-- article besides, for soft ones; of all for hard ones. Of those at the cosines wanted, the nearest.
-- A text counts once. A concept of unknown domain has no domain in common with any.
WITH total AS (
    SELECT count(*) AS concepts FROM negative_candidate
), of_domain AS (
    SELECT domain_code, count(*) AS concepts FROM negative_candidate
    WHERE domain_code IS NOT NULL GROUP BY domain_code
), asked AS MATERIALIZED (
    SELECT c.cpe_id, c.article_id, c.domain_code, c.concept_text, c.concept_vec,
           ('x' || right(c.cpe_id::text, 8))::bit(32)::bigint AS number
    FROM cpe_entry c
    WHERE c.article_id = ANY (:article_ids ::bigint[]) AND c.concept_vec IS NOT NULL
      AND (:every OR (c.soft_negatives IS NULL AND c.hard_negatives IS NULL))
), chosen AS (
    SELECT a.cpe_id, soft.texts AS soft, hard.texts AS hard
    FROM asked a
    CROSS JOIN total t
    LEFT JOIN of_domain d USING (domain_code)
    CROSS JOIN LATERAL (
        SELECT array_agg(best.concept_text ORDER BY best.distance, best.concept_text) AS texts
        FROM (
            SELECT near.concept_text, min(near.distance) AS distance
            FROM (
                SELECT n.concept_text, n.concept_vec <=> a.concept_vec AS distance
                FROM negative_candidate n
                WHERE n.domain_code = a.domain_code
                  AND n.domain_place BETWEEN mod(a.number, d.concepts)
                                         AND mod(a.number, d.concepts) + :soft_window - 1
                UNION ALL
                SELECT n.concept_text, n.concept_vec <=> a.concept_vec
                FROM negative_candidate n
                WHERE n.domain_code = a.domain_code
                  AND n.domain_place < mod(a.number, d.concepts) + :soft_window - d.concepts
                  AND n.domain_place < mod(a.number, d.concepts)
                UNION ALL
                SELECT n.concept_text, n.concept_vec <=> a.concept_vec
                FROM cpe_entry n
                WHERE n.article_id = a.article_id AND n.domain_code = a.domain_code
            ) AS near
            WHERE near.distance BETWEEN 1 - :soft_to AND 1 - :soft_from
              AND near.concept_text <> a.concept_text
            GROUP BY near.concept_text
            ORDER BY distance, near.concept_text
            LIMIT :negatives
        ) AS best
    ) AS soft
    CROSS JOIN LATERAL (
        SELECT array_agg(best.concept_text ORDER BY best.distance, best.concept_text) AS texts
        FROM (
            SELECT near.concept_text, min(near.distance) AS distance
            FROM (
                SELECT n.concept_text, n.concept_vec <=> a.concept_vec AS distance
                FROM negative_candidate n
                WHERE n.place BETWEEN mod(a.number, t.concepts)
                                  AND mod(a.number, t.concepts) + :hard_window - 1
                UNION ALL
                SELECT n.concept_text, n.concept_vec <=> a.concept_vec
                FROM negative_candidate n
                WHERE n.place < mod(a.number, t.concepts) + :hard_window - t.concepts
                  AND n.place < mod(a.number, t.concepts)
            ) AS near
            WHERE near.distance > 1 - :hard_below AND near.concept_text <> a.concept_text
            GROUP BY near.concept_text
            ORDER BY distance, near.concept_text
            LIMIT :negatives
        ) AS best
    ) AS hard
)
UPDATE cpe_entry c
SET soft_negatives = coalesce(chosen.soft, '{}'), hard_negatives = coalesce(chosen.hard, '{}')
FROM chosen
WHERE c.cpe_id = chosen.cpe_id
  AND (c.soft_negatives, c.hard_negatives)
      IS DISTINCT FROM (coalesce(chosen.soft, '{}'), coalesce(chosen.hard, '{}'));

-- name: probe_health
-- Of a dataset's probes: the echo score (mean cosine of probe and concept, wanted above .82), how
-- many lie below what is wanted, and P@1, the share of probes whose own concept is the nearest of
-- all. P@1 is of at most so many probes, those with the first ids, which is a sample that is the
-- same at every call. Concepts of the same text count as one; a concept that is as near as the own
-- one does not count against it.
WITH probe AS (
    SELECT count(*) AS probes, avg(1 - (probe_vec <=> concept_vec)) AS echo,
           count(*) FILTER (WHERE 1 - (probe_vec <=> concept_vec) <= :wanted) AS below
    FROM cpe_entry
    WHERE dataset_source = :dataset AND probe_vec IS NOT NULL AND concept_vec IS NOT NULL
), asked AS MATERIALIZED (
    SELECT cpe_id, concept_text, probe_vec, probe_vec <=> concept_vec AS distance
    FROM cpe_entry
    WHERE dataset_source = :dataset AND probe_vec IS NOT NULL AND concept_vec IS NOT NULL
    ORDER BY cpe_id
    LIMIT :most
), answered AS (
    SELECT a.cpe_id, NOT EXISTS (
               SELECT FROM cpe_entry c
               WHERE c.dataset_source = :dataset AND c.concept_text <> a.concept_text
                 AND c.concept_vec <=> a.probe_vec < a.distance) AS first
    FROM asked a
)
SELECT p.probes, p.echo, p.below, count(answered.cpe_id) AS sampled,
       avg(first::integer)::double precision AS precision_at_1
FROM probe p LEFT JOIN answered ON true
GROUP BY p.probes, p.echo, p.below;

-- name: has_vectors
-- Whether a dataset has any.
SELECT EXISTS (SELECT FROM cpe_entry WHERE dataset_source = :dataset AND concept_vec IS NOT NULL);
