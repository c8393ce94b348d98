-- Sequence sets: choosing their articles, freezing them, reading them.

-- name: choose_articles
-- The articles of a set, in the order of sha256(seed, source_key), cut at the fractions.
-- With max_concepts, a sample of whole articles, drawn by another hash of the same seed. In scope
-- corpus the order is the corpus's own and no article has a split.
INSERT INTO sequence_article
    (sequence_set_id, article_id, dataset_source, position, split, concepts)
WITH sized AS (
    SELECT s.sequence_set_id, s.dataset_source, s.scope, s.seed, s.max_concepts,
           s.train_fraction, s.val_fraction, a.article_id, a.source_key, a.ordinal, c.concepts
    FROM sequence_set s
    JOIN article a ON a.dataset_source = s.dataset_source
    CROSS JOIN LATERAL (SELECT count(*) AS concepts FROM cpe_entry WHERE article_id = a.article_id) c
    WHERE s.sequence_set_id = :sequence_set_id AND c.concepts > 0
), sampled AS (
    SELECT *, sum(concepts) OVER (
        ORDER BY sha256(convert_to('sample:' || seed || ':' || source_key, 'UTF8'))
    ) AS running
    FROM sized
), placed AS (
    SELECT *, count(*) OVER () AS articles_chosen,
           row_number() OVER (
               ORDER BY CASE WHEN scope = 'article'
                             THEN sha256(convert_to(seed || ':' || source_key, 'UTF8')) END, ordinal
           ) - 1 AS place
    FROM sampled
    WHERE max_concepts IS NULL OR running <= max_concepts
)
SELECT sequence_set_id, article_id, dataset_source, place,
       CASE WHEN scope = 'corpus' THEN NULL
            WHEN place < floor(train_fraction * articles_chosen) THEN 'train'
            WHEN place < floor((train_fraction + val_fraction) * articles_chosen) THEN 'val'
            ELSE 'test' END,
       concepts
FROM placed;

-- name: choose_articles_within
-- The articles of a set within another: in that one's order, each with its split there. With
-- max_concepts, a sample of whole articles that has of each split the share that it has there; of
-- two samples of one seed the larger holds the smaller.
INSERT INTO sequence_article
    (sequence_set_id, article_id, dataset_source, position, split, concepts)
WITH outside AS (
    SELECT s.sequence_set_id, s.seed, s.max_concepts, sa.article_id, sa.dataset_source, sa.position,
           sa.split, sa.concepts, a.source_key,
           sum(sa.concepts) OVER (PARTITION BY sa.split) AS of_split,
           sum(sa.concepts) OVER () AS of_all
    FROM sequence_set s
    JOIN sequence_article sa ON sa.sequence_set_id = s.within_set_id
    JOIN article a USING (article_id)
    WHERE s.sequence_set_id = :sequence_set_id
), sampled AS (
    SELECT *, sum(concepts) OVER (
        PARTITION BY split
        ORDER BY sha256(convert_to('sample:' || seed || ':' || source_key, 'UTF8'))
    ) AS running
    FROM outside
)
SELECT sequence_set_id, article_id, dataset_source, row_number() OVER (ORDER BY position) - 1,
       split, concepts
FROM sampled
WHERE max_concepts IS NULL OR running * of_all <= max_concepts::bigint * of_split;

-- name: strays
-- Articles of a set within another that are not in that one, or in another split.
SELECT count(*)
FROM sequence_set s
JOIN sequence_article sa USING (sequence_set_id)
LEFT JOIN sequence_article o
    ON o.sequence_set_id = s.within_set_id AND o.article_id = sa.article_id
WHERE s.sequence_set_id = :sequence_set_id AND s.within_set_id IS NOT NULL
  AND o.split IS DISTINCT FROM sa.split;

-- name: lock_content
-- Until the freeze has ended nobody writes what it rests on: what is counted is what is frozen.
LOCK TABLE article, cpe_entry, sequence_article IN SHARE ROW EXCLUSIVE MODE;

-- name: count_concepts
-- What the articles of a draft have by now: a look into the index for each article, because no
-- statistics know rows that were written just now, and a join planned without them may take hours.
UPDATE sequence_article sa
SET concepts = (SELECT count(*) FROM cpe_entry c WHERE c.article_id = sa.article_id)
WHERE sa.sequence_set_id = :sequence_set_id
  AND sa.concepts <> (SELECT count(*) FROM cpe_entry c WHERE c.article_id = sa.article_id);

-- name: count_windows
-- Articles, concepts and windows of a set, by split; the same numbers as counting the view.
WITH counted AS (
    SELECT s.context_len, s.stride, sa.split, sa.concepts AS n
    FROM sequence_set s JOIN sequence_article sa USING (sequence_set_id)
    WHERE s.sequence_set_id = :sequence_set_id
), whole AS (
    SELECT count(*) AS article_count, coalesce(sum(n), 0) AS concept_count,
           coalesce(max(n), 0) AS longest,
           (greatest(0, coalesce(sum(n), 0) - max(context_len)) + max(stride) - 1) / max(stride)
               AS windows
    FROM counted
), by_article AS (
    SELECT split, sum((greatest(0, n - context_len) + stride - 1) / stride) AS windows
    FROM counted GROUP BY split
)
SELECT whole.article_count, whole.concept_count, whole.longest,
       CASE s.scope WHEN 'corpus' THEN floor(s.train_fraction * whole.windows)
            ELSE coalesce((SELECT windows FROM by_article WHERE split = 'train'), 0)
       END::integer AS train_windows,
       CASE s.scope WHEN 'corpus' THEN floor((s.train_fraction + s.val_fraction) * whole.windows)
                                       - floor(s.train_fraction * whole.windows)
            ELSE coalesce((SELECT windows FROM by_article WHERE split = 'val'), 0)
       END::integer AS val_windows,
       CASE s.scope WHEN 'corpus' THEN whole.windows
                                       - floor((s.train_fraction + s.val_fraction) * whole.windows)
            ELSE coalesce((SELECT windows FROM by_article WHERE split = 'test'), 0)
       END::integer AS test_windows
FROM sequence_set s, whole
WHERE s.sequence_set_id = :sequence_set_id;

-- name: count_missing_vectors
-- Concepts of a set that have no vector.
SELECT count(*)
FROM sequence_article sa JOIN cpe_entry c USING (article_id)
WHERE sa.sequence_set_id = :sequence_set_id AND c.concept_vec IS NULL;

-- name: fingerprint
-- What a set is made of, as one hash: its definition, and in order each article's key, split,
-- seq, texts and vectors. No surrogate key enters, so a dump restored elsewhere has the same one.
WITH digests AS (
    SELECT sa.position, sa.split,
           sha256(
               sha256(convert_to(a.source_key, 'UTF8'))
               || string_agg(
                   int4send(c.seq)
                   || sha256(convert_to(c.concept_text, 'UTF8') || vector_send(c.concept_vec)),
                   ''::bytea ORDER BY c.seq)
           ) AS digest
    FROM sequence_article sa
    JOIN article a USING (article_id)
    JOIN cpe_entry c USING (article_id)
    WHERE sa.sequence_set_id = :sequence_set_id
    GROUP BY sa.position, sa.split, a.source_key
)
SELECT sha256(
    convert_to(concat_ws('|', s.context_len, s.stride, s.scope,
                         s.train_fraction, s.val_fraction, s.test_fraction), 'UTF8')
    || (SELECT string_agg(digest || convert_to('|' || coalesce(split, ''), 'UTF8'),
                          ''::bytea ORDER BY position) FROM digests))
FROM sequence_set s
WHERE s.sequence_set_id = :sequence_set_id;

-- name: tmd_fingerprint
-- The TMD codes of a set in its order, as one hash; the set's own fingerprint does not cover them.
WITH digests AS (
    SELECT sa.position,
           sha256(string_agg(
               convert_to(coalesce(c.tmd_code, '') || '|', 'UTF8')
               || coalesce(vector_send(c.tmd_vec), ''::bytea),
               ''::bytea ORDER BY c.seq)) AS digest
    FROM sequence_article sa
    JOIN cpe_entry c USING (article_id)
    WHERE sa.sequence_set_id = :sequence_set_id
    GROUP BY sa.position
)
SELECT encode(sha256(string_agg(digest, ''::bytea ORDER BY position)), 'hex')
FROM digests;

-- name: count_codes
-- Concepts of a set that have a TMD code.
SELECT count(*)
FROM sequence_article sa JOIN cpe_entry c USING (article_id)
WHERE sa.sequence_set_id = :sequence_set_id AND c.tmd_vec IS NOT NULL;

-- name: probe_fingerprint
-- The probes of a set in its order, with what negatives are chosen by, as one hash.
WITH digests AS (
    SELECT sa.position,
           sha256(string_agg(
               int4send(c.seq) || vector_send(c.probe_vec)
               || convert_to(jsonb_build_array(c.soft_negatives, c.hard_negatives,
                                               c.domain_code)::text, 'UTF8'),
               ''::bytea ORDER BY c.seq)) AS digest
    FROM sequence_article sa
    JOIN cpe_entry c USING (article_id)
    WHERE sa.sequence_set_id = :sequence_set_id AND c.probe_vec IS NOT NULL
    GROUP BY sa.position
)
SELECT encode(sha256(string_agg(int4send(position) || digest, ''::bytea ORDER BY position)), 'hex')
FROM digests;

-- name: freeze
-- From here on nothing of the set may change.
UPDATE sequence_set
SET frozen_at = now(), fingerprint = :fingerprint, articles = :articles, concepts = :concepts,
    train_windows = :train_windows, val_windows = :val_windows, test_windows = :test_windows,
    leaks = :leaks
WHERE sequence_set_id = :sequence_set_id AND frozen_at IS NULL;

-- name: articles
-- The articles that a split reads, in their order; for scope corpus, all of them.
SELECT article_id, concepts
FROM sequence_article
WHERE sequence_set_id = :sequence_set_id AND (split = :split OR split IS NULL)
ORDER BY position;

-- name: stream_spans
-- The vectors of spans of articles, in the order given: a row a span, which costs less than a row a
-- concept. The reader checks place, seqs and length of every row.
SELECT listed.place, found.first_seq, found.last_seq, found.vectors
FROM unnest(:article_ids ::bigint[], :first_seqs ::integer[], :last_seqs ::integer[])
    WITH ORDINALITY AS listed (article_id, first_seq, last_seq, place)
CROSS JOIN LATERAL (
    SELECT min(c.seq) AS first_seq, max(c.seq) AS last_seq,
           string_agg(vector_send(c.concept_vec), ''::bytea ORDER BY c.seq) AS vectors
    FROM cpe_entry c
    WHERE c.article_id = listed.article_id
      AND c.seq BETWEEN listed.first_seq AND listed.last_seq
) AS found;

-- name: stream_spans_native
-- As stream_spans, in the server's own byte order: see lvmdb/db/native.py.
SELECT listed.place, found.first_seq, found.last_seq, found.vectors
FROM unnest(:article_ids ::bigint[], :first_seqs ::integer[], :last_seqs ::integer[])
    WITH ORDINALITY AS listed (article_id, first_seq, last_seq, place)
CROSS JOIN LATERAL (
    SELECT min(c.seq) AS first_seq, max(c.seq) AS last_seq,
           string_agg(c.concept_vec::bytea, ''::bytea ORDER BY c.seq) AS vectors
    FROM cpe_entry c
    WHERE c.article_id = listed.article_id
      AND c.seq BETWEEN listed.first_seq AND listed.last_seq
) AS found;

-- name: stream_spans_half
-- As stream_spans, rounded to half precision: half the bytes on the wire.
SELECT listed.place, found.first_seq, found.last_seq, found.vectors
FROM unnest(:article_ids ::bigint[], :first_seqs ::integer[], :last_seqs ::integer[])
    WITH ORDINALITY AS listed (article_id, first_seq, last_seq, place)
CROSS JOIN LATERAL (
    SELECT min(c.seq) AS first_seq, max(c.seq) AS last_seq,
           string_agg(halfvec_send(c.concept_vec::halfvec(768)), ''::bytea ORDER BY c.seq) AS vectors
    FROM cpe_entry c
    WHERE c.article_id = listed.article_id
      AND c.seq BETWEEN listed.first_seq AND listed.last_seq
) AS found;

-- name: stream_spans_tmd
-- As stream_spans, with the TMD codes beside the vectors; zeros where a concept has none.
SELECT listed.place, found.first_seq, found.last_seq, found.vectors, found.codes
FROM unnest(:article_ids ::bigint[], :first_seqs ::integer[], :last_seqs ::integer[])
    WITH ORDINALITY AS listed (article_id, first_seq, last_seq, place)
CROSS JOIN LATERAL (
    SELECT min(c.seq) AS first_seq, max(c.seq) AS last_seq,
           string_agg(vector_send(c.concept_vec), ''::bytea ORDER BY c.seq) AS vectors,
           string_agg(vector_send(coalesce(c.tmd_vec, array_fill(0, ARRAY[16])::vector)),
                      ''::bytea ORDER BY c.seq) AS codes
    FROM cpe_entry c
    WHERE c.article_id = listed.article_id
      AND c.seq BETWEEN listed.first_seq AND listed.last_seq
) AS found;

-- name: stream_spans_tmd_native
-- As stream_spans_tmd, the vectors in the server's own byte order.
SELECT listed.place, found.first_seq, found.last_seq, found.vectors, found.codes
FROM unnest(:article_ids ::bigint[], :first_seqs ::integer[], :last_seqs ::integer[])
    WITH ORDINALITY AS listed (article_id, first_seq, last_seq, place)
CROSS JOIN LATERAL (
    SELECT min(c.seq) AS first_seq, max(c.seq) AS last_seq,
           string_agg(c.concept_vec::bytea, ''::bytea ORDER BY c.seq) AS vectors,
           string_agg(vector_send(coalesce(c.tmd_vec, array_fill(0, ARRAY[16])::vector)),
                      ''::bytea ORDER BY c.seq) AS codes
    FROM cpe_entry c
    WHERE c.article_id = listed.article_id
      AND c.seq BETWEEN listed.first_seq AND listed.last_seq
) AS found;

-- name: stream_spans_tmd_half
-- As stream_spans_tmd, the vectors rounded to half precision; the codes are as they are.
SELECT listed.place, found.first_seq, found.last_seq, found.vectors, found.codes
FROM unnest(:article_ids ::bigint[], :first_seqs ::integer[], :last_seqs ::integer[])
    WITH ORDINALITY AS listed (article_id, first_seq, last_seq, place)
CROSS JOIN LATERAL (
    SELECT min(c.seq) AS first_seq, max(c.seq) AS last_seq,
           string_agg(halfvec_send(c.concept_vec::halfvec(768)), ''::bytea ORDER BY c.seq) AS vectors,
           string_agg(vector_send(coalesce(c.tmd_vec, array_fill(0, ARRAY[16])::vector)),
                      ''::bytea ORDER BY c.seq) AS codes
    FROM cpe_entry c
    WHERE c.article_id = listed.article_id
      AND c.seq BETWEEN listed.first_seq AND listed.last_seq
) AS found;

-- name: probe_articles
-- The articles of a split that have probes, in their order, and how many each has.
SELECT sa.article_id, count(*) AS probes
FROM sequence_article sa JOIN cpe_entry c USING (article_id)
WHERE sa.sequence_set_id = :sequence_set_id AND sa.split = :split AND c.probe_vec IS NOT NULL
GROUP BY sa.position, sa.article_id
ORDER BY sa.position;

-- name: probe_spans
-- Probes in the order given: of each article those from the first to the last number, counted by
-- seq. A negative is stored as a text; its vector is that of the first concept of the split that has
-- this text, and a text that no concept has is left out. Texts are looked up once for all rows.
WITH asked AS MATERIALIZED (
    SELECT row_number() OVER (ORDER BY listed.place, probe.seq) AS place, probe.*
    FROM unnest(:article_ids ::bigint[], :firsts ::integer[], :lasts ::integer[])
        WITH ORDINALITY AS listed (article_id, first, last, place)
    CROSS JOIN LATERAL (
        SELECT c.cpe_id, c.seq, c.concept_text, c.soft_negatives, c.hard_negatives
        FROM cpe_entry c
        WHERE c.article_id = listed.article_id AND c.probe_vec IS NOT NULL
        ORDER BY c.seq
        OFFSET listed.first LIMIT listed.last - listed.first + 1
    ) AS probe
), named AS MATERIALIZED (
    SELECT a.place, n.hard, n.text, n.number
    FROM asked a
    CROSS JOIN LATERAL (
        SELECT false AS hard, text, number
        FROM unnest(a.soft_negatives) WITH ORDINALITY AS soft (text, number)
        UNION ALL
        SELECT true, text, number
        FROM unnest(a.hard_negatives) WITH ORDINALITY AS hard (text, number)
    ) AS n
    WHERE n.text <> a.concept_text
), concept AS (
    SELECT DISTINCT ON (c.concept_text) c.concept_text, c.cpe_id
    FROM sequence_article sa JOIN cpe_entry c USING (article_id)
    WHERE sa.sequence_set_id = :sequence_set_id AND sa.split = :split
      AND c.concept_text IN (SELECT text FROM named)
    ORDER BY c.concept_text, sa.position, c.seq
), found AS (
    SELECT n.place,
           (array_agg(concept.cpe_id ORDER BY n.number) FILTER (WHERE NOT n.hard))
               [1 : CAST(:most AS integer)] AS soft,
           (array_agg(concept.cpe_id ORDER BY n.number) FILTER (WHERE n.hard))
               [1 : CAST(:most AS integer)] AS hard
    FROM named n JOIN concept ON concept.concept_text = n.text
    GROUP BY n.place
), ordered AS (
    SELECT a.place, a.cpe_id, f.soft, f.hard
    FROM asked a LEFT JOIN found f USING (place)
    ORDER BY a.place
    OFFSET 0
)
SELECT o.place, c.article_id, c.seq, c.domain_code, vector_send(c.probe_vec),
       vector_send(c.concept_vec), vector_send(c.tmd_vec), soft.vectors, hard.vectors
FROM ordered o
CROSS JOIN LATERAL (SELECT * FROM cpe_entry e WHERE e.cpe_id = o.cpe_id OFFSET 0) AS c
CROSS JOIN LATERAL (
    SELECT string_agg(vector_send(e.concept_vec), ''::bytea ORDER BY i.number) AS vectors
    FROM unnest(o.soft) WITH ORDINALITY AS i (cpe_id, number) JOIN cpe_entry e USING (cpe_id)
) AS soft
CROSS JOIN LATERAL (
    SELECT string_agg(vector_send(e.concept_vec), ''::bytea ORDER BY i.number) AS vectors
    FROM unnest(o.hard) WITH ORDINALITY AS i (cpe_id, number) JOIN cpe_entry e USING (cpe_id)
) AS hard;

-- name: leak_articles
-- The articles of a set in its order, with the split and the text of each.
SELECT sa.article_id, a.ordinal, a.title, a.text_hash, sa.split, sa.concepts
FROM sequence_article sa JOIN article a USING (article_id)
WHERE sa.sequence_set_id = :sequence_set_id
ORDER BY sa.position;

-- name: leak_concepts
-- The vectors of the articles given, in the order given, those that there are.
SELECT listed.place, concept.seq, vector_send(concept.concept_vec)
FROM unnest(:article_ids ::bigint[]) WITH ORDINALITY AS listed (article_id, place)
CROSS JOIN LATERAL (
    SELECT c.seq, c.concept_vec
    FROM cpe_entry c
    WHERE c.article_id = listed.article_id AND c.concept_vec IS NOT NULL
    ORDER BY c.seq
    OFFSET 0
) AS concept;

-- name: follow_articles
-- Articles go to the split of another, each to that of its leader.
UPDATE sequence_article sa
SET split = leader.split
FROM unnest(:article_ids ::bigint[], :leader_ids ::bigint[]) AS n (article_id, leader_id)
JOIN sequence_article leader
    ON leader.sequence_set_id = :sequence_set_id AND leader.article_id = n.leader_id
WHERE sa.sequence_set_id = :sequence_set_id AND sa.article_id = n.article_id
  AND sa.split <> leader.split;

-- name: add_leaks
-- Near-duplicate concepts in different splits, of a set that is about to be frozen.
INSERT INTO sequence_leak
    (sequence_set_id, cpe_id, other_cpe_id, split, other_split, cosine)
SELECT :sequence_set_id, c.cpe_id, o.cpe_id, n.split, n.other_split, n.cosine
FROM unnest(:article_ids ::bigint[], :seqs ::integer[], :other_article_ids ::bigint[],
            :other_seqs ::integer[], :splits ::text[], :other_splits ::text[], :cosines ::real[])
     AS n (article_id, seq, other_article_id, other_seq, split, other_split, cosine)
JOIN cpe_entry c ON c.article_id = n.article_id AND c.seq = n.seq
JOIN cpe_entry o ON o.article_id = n.other_article_id AND o.seq = n.other_seq;

-- name: list_sets
-- All sequence sets with their counts.
SELECT s.name, s.dataset_source AS dataset, o.name AS within, s.context_len AS context, s.stride,
       s.scope, s.seed, s.shards, s.articles, s.concepts, s.train_windows, s.val_windows,
       s.test_windows, s.leaks, s.allowed_leaks, s.frozen_at,
       encode(substring(s.fingerprint FOR 8), 'hex') AS fingerprint
FROM sequence_set s
LEFT JOIN sequence_set o ON o.sequence_set_id = s.within_set_id
ORDER BY s.sequence_set_id;
