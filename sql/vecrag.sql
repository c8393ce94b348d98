-- lvmdb bench vecrag: concepts as PostgreSQL's full-text search has them, for one session.

-- name: make_documents
-- A table that the session has to itself: full-text search is a contender here, and no part of the
-- product pays for its index.
CREATE TEMPORARY TABLE vecrag_document (
    cpe_id uuid PRIMARY KEY,
    words tsvector NOT NULL
);

-- name: fill_documents
-- Every concept of a dataset that a vector search could find.
INSERT INTO vecrag_document (cpe_id, words)
SELECT cpe_id, to_tsvector(CAST(:config AS regconfig), concept_text)
FROM cpe_entry
WHERE dataset_source = :dataset AND concept_vec IS NOT NULL;

-- name: index_documents
-- What is asked for a word is asked of this.
CREATE INDEX vecrag_words ON vecrag_document USING gin (words);

-- name: settle_documents
-- How common each word is, for the planner.
ANALYZE vecrag_document;

-- name: make_word_counts
-- In how many concepts each word stands: PostgreSQL's ranking does not know.
CREATE TEMPORARY TABLE vecrag_word AS
SELECT word, ndoc FROM ts_stat('SELECT words FROM vecrag_document');

-- name: make_rarest_words
-- A query for any of the words of a text, its rarest ones: one of all of them at once (plainto_tsquery)
-- finds the text itself and nothing else. Words that stand in one concept alone find no other.
CREATE FUNCTION pg_temp.rarest_words(config regconfig, asked text, most integer) RETURNS tsquery
LANGUAGE sql STABLE AS $$
    SELECT string_agg(quote_literal(word), ' | ')::tsquery
    FROM (
        SELECT w.word
        FROM unnest(to_tsvector(config, asked)) AS t (word, positions, weights)
        JOIN pg_temp.vecrag_word w USING (word)
        WHERE w.ndoc > 1
        ORDER BY w.ndoc, w.word
        LIMIT most
    ) AS rarest
$$;

-- name: search_words
-- The best concepts by any of the rarest words of a text. The longer a concept, the less a word in it
-- says.
WITH asked AS MATERIALIZED (
    SELECT pg_temp.rarest_words(CAST(:config AS regconfig), :asked, :most_words) AS words
)
SELECT d.cpe_id
FROM vecrag_document d, asked
WHERE d.words @@ asked.words AND d.cpe_id <> ALL (:without ::uuid[])
ORDER BY ts_rank(d.words, asked.words, 1) DESC, d.cpe_id
LIMIT :k;

-- name: search_words_unindexed
-- The same without a table: the words of every concept are found while it is asked.
WITH asked AS MATERIALIZED (
    SELECT pg_temp.rarest_words(CAST(:config AS regconfig), :asked, :most_words) AS words
)
SELECT c.cpe_id
FROM cpe_entry c, asked
WHERE c.dataset_source = :dataset AND c.concept_vec IS NOT NULL
  AND to_tsvector(CAST(:config AS regconfig), c.concept_text) @@ asked.words
  AND c.cpe_id <> ALL (:without ::uuid[])
ORDER BY ts_rank(to_tsvector(CAST(:config AS regconfig), c.concept_text), asked.words, 1) DESC,
         c.cpe_id
LIMIT :k;
