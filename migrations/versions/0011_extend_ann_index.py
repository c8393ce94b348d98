"""Indexes of several kinds and metrics, tuned; nearest concepts and ranks through them, in SQL.

Revision: 0011
"""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

UPGRADE = r"""
ALTER TABLE ann_index ADD COLUMN metric TEXT DEFAULT 'ip' NOT NULL;
ALTER TABLE ann_index ALTER COLUMN metric DROP DEFAULT;
ALTER TABLE ann_index ADD COLUMN workers INTEGER;
ALTER TABLE ann_index ADD COLUMN memory BIGINT;
ALTER TABLE ann_index ADD COLUMN corpus_mark TEXT;
ALTER TABLE ann_index ADD COLUMN query_parameters JSONB;
ALTER TABLE ann_index ADD COLUMN tuning JSONB;
ALTER TABLE ann_index ADD COLUMN tuned_fingerprint BYTEA;
ALTER TABLE ann_index ADD CONSTRAINT ck_ann_index_kind CHECK (kind IN ('hnsw', 'ivfflat', 'flat'));
ALTER TABLE ann_index ADD CONSTRAINT ck_ann_index_metric CHECK (metric IN ('ip', 'cosine'));
COMMENT ON COLUMN ann_index.metric IS 'what is nearest: inner product or cosine';
COMMENT ON COLUMN ann_index.workers IS 'processes that building asked for beside its own';
COMMENT ON COLUMN ann_index.memory IS 'bytes that building might use';
COMMENT ON COLUMN ann_index.corpus_mark IS 'which versions of rows it was built over: while the mark is the same, the fingerprint is';
COMMENT ON COLUMN ann_index.query_parameters IS 'what its searches use, ef_search or probes; NULL for the program''s default';
COMMENT ON COLUMN ann_index.tuning IS 'how query_parameters were found: queries, k, recall, percentile';
COMMENT ON COLUMN ann_index.tuned_fingerprint IS 'of the corpus that it was tuned on';

CREATE INDEX ix_cpe_entry_dataset_source_domain_code_task_code_modifier_code
    ON cpe_entry (dataset_source, domain_code, task_code, modifier_code)
    WHERE domain_code IS NOT NULL;

-- So that the settings of the functions below are known: a vector loads pgvector.
SELECT '[1]'::vector;

CREATE FUNCTION nearest_concepts(
    dataset text, query vector, k integer DEFAULT 10, without uuid[] DEFAULT '{}',
    OUT cpe_id uuid, OUT cosine double precision
) RETURNS SETOF record
LANGUAGE plpgsql STABLE
SET enable_sort = off
SET hnsw.iterative_scan = strict_order
SET hnsw.ef_search = 100
SET ivfflat.iterative_scan = relaxed_order
SET ivfflat.probes = 1
AS $$
DECLARE
    found record;
    target vector := l2_normalize(query);
    -- Exactly: no index is in this order.
    ordering text := '-(concept_vec <#> $1) DESC';
BEGIN
    -- Parts of an index are written as they are in the index, or the planner does not know it.
    SELECT i.kind, i.storage, i.query_parameters, i.tuning, i.parameters INTO found
    FROM ann_index i
    JOIN pg_class c ON c.relname = i.name
    JOIN pg_index x ON x.indexrelid = c.oid AND x.indrelid = 'cpe_entry'::regclass AND x.indisvalid
    WHERE i.dataset_source = dataset AND i.engine = 'pgvector' AND i.metric = 'ip'
      AND i.storage IN ('halfvec', 'vector')
    ORDER BY i.storage, i.kind
    LIMIT 1;
    IF found.storage = 'halfvec' THEN
        ordering := '(concept_vec::halfvec(768)) <#> ($1::halfvec(768))';
    ELSIF found.storage = 'vector' THEN
        ordering := 'concept_vec <#> $1';
    END IF;
    IF found.kind = 'hnsw' THEN
        -- For more than it was tuned for, in proportion more: as Usable.effort in the package.
        PERFORM set_config('hnsw.ef_search', least(1000, greatest(k, coalesce(
            ceil((found.query_parameters ->> 'ef_search')::numeric
                 * greatest(1, k / (found.tuning ->> 'k')::numeric))::integer, 100)))::text, true);
    ELSIF found.kind = 'ivfflat' THEN
        PERFORM set_config('ivfflat.probes', coalesce(
            (found.query_parameters ->> 'probes')::integer,
            ceil(sqrt((found.parameters ->> 'nlist')::float))::integer)::text, true);
    END IF;
    RETURN QUERY EXECUTE format(
        'SELECT h.cpe_id, 1 - (h.concept_vec <=> $1) FROM ('
        'SELECT c.cpe_id, c.concept_vec FROM cpe_entry c '
        'WHERE c.dataset_source = %L AND c.concept_vec IS NOT NULL AND c.cpe_id <> ALL ($2) '
        'ORDER BY %s LIMIT %s) h ORDER BY 2 DESC, 1', dataset, ordering, greatest(k, 0))
    USING target, without;
END $$;
COMMENT ON FUNCTION nearest_concepts IS 'The k concepts of a dataset that are nearest to a vector, some left out: through its index by inner product, with what that was tuned to, or exactly where it has none.';

CREATE FUNCTION prediction_ranks(
    run bigint, of_split text, k integer DEFAULT 100,
    OUT target_cpe_id uuid, OUT cosine real, OUT better integer, OUT tied integer,
    OUT candidates integer, OUT found_better integer, OUT found_tied integer
) RETURNS SETOF record
LANGUAGE sql STABLE
AS $$
    SELECT p.target_cpe_id, p.cosine, p.better, p.tied, p.candidates,
           CASE WHEN found.truth IS NOT NULL THEN found.better END,
           CASE WHEN found.truth IS NOT NULL THEN found.tied END
    FROM prediction p
    JOIN experiment_run r USING (run_id)
    JOIN sequence_set s USING (sequence_set_id)
    JOIN training_sequence w ON w.sequence_set_id = s.sequence_set_id AND w.split = p.split
                            AND w.target_cpe_id = p.target_cpe_id
    JOIN cpe_entry t ON t.cpe_id = p.target_cpe_id
    CROSS JOIN LATERAL (
        SELECT max(n.cosine) FILTER (WHERE n.cpe_id = p.target_cpe_id) AS truth,
               count(*) FILTER (WHERE n.cosine > own.cosine + 1e-6)::integer AS better,
               count(*) FILTER (WHERE abs(n.cosine - own.cosine) <= 1e-6
                                  AND c.concept_vec <> t.concept_vec)::integer AS tied
        FROM (SELECT 1 - (t.concept_vec <=> p.predicted_vec) AS cosine) own
        CROSS JOIN nearest_concepts(s.dataset_source, p.predicted_vec, k, w.context_cpe_ids) n
        JOIN cpe_entry c ON c.cpe_id = n.cpe_id
    ) found
    WHERE p.run_id = run AND p.split = of_split
$$;
COMMENT ON FUNCTION prediction_ranks IS 'Of each prediction of a run: how many candidates are nearer than the truth or as near, exactly, as evaluation counted them (better, tied); and among the k nearest that the index finds, the context left out as there (found_better, found_tied; NULL where the truth is not one of them).';

CREATE OR REPLACE VIEW prediction_detail AS
SELECT p.run_id, r.architecture, p.split, a.title, t.article_id, t.seq AS target_seq,
       (SELECT string_agg(c.concept_text, E'\n' ORDER BY c.seq) FROM cpe_entry c
        WHERE c.article_id = t.article_id
          AND c.seq BETWEEN t.seq - s.context_len AND t.seq - 1) AS context_text,
       t.concept_text AS truth_text, nearest.concept_text AS nearest_text,
       p.cosine, nearest.cosine AS nearest_cosine, p.margin, p.better, p.tied, p.candidates,
       p.target_cpe_id, nearest.cpe_id AS nearest_cpe_id,
       ARRAY(SELECT c.concept_text
             FROM nearest_concepts(s.dataset_source, p.predicted_vec, 10, ARRAY(
                      SELECT x.cpe_id FROM cpe_entry x WHERE x.article_id = t.article_id
                      AND x.seq BETWEEN t.seq - s.context_len AND t.seq - 1)) n
             JOIN cpe_entry c USING (cpe_id)
             ORDER BY n.cosine DESC, n.cpe_id) AS nearest_texts
FROM prediction p
JOIN experiment_run r USING (run_id)
JOIN sequence_set s ON s.sequence_set_id = r.sequence_set_id
JOIN cpe_entry t ON t.cpe_id = p.target_cpe_id
JOIN article a ON a.article_id = t.article_id
CROSS JOIN LATERAL (
    SELECT n.cpe_id, n.concept_text, -(n.concept_vec <#> l2_normalize(p.predicted_vec)) AS cosine
    FROM cpe_entry n
    WHERE n.dataset_source = s.dataset_source
      AND NOT (n.article_id = t.article_id AND n.seq BETWEEN t.seq - s.context_len AND t.seq - 1)
    ORDER BY n.concept_vec <#> l2_normalize(p.predicted_vec)
    LIMIT 1
) nearest;
COMMENT ON VIEW prediction_detail IS 'Each prediction as text: its context as far as it lies in the article (in scope corpus it may begin in the one before), the truth, the nearest concept that is not in that context, exactly, and the ten nearest through the index of the dataset, exactly where it has none.';
"""

DOWNGRADE = r"""
DROP VIEW prediction_detail;
CREATE VIEW prediction_detail AS
SELECT p.run_id, r.architecture, p.split, a.title, t.article_id, t.seq AS target_seq,
       (SELECT string_agg(c.concept_text, E'\n' ORDER BY c.seq) FROM cpe_entry c
        WHERE c.article_id = t.article_id
          AND c.seq BETWEEN t.seq - s.context_len AND t.seq - 1) AS context_text,
       t.concept_text AS truth_text, nearest.concept_text AS nearest_text,
       p.cosine, nearest.cosine AS nearest_cosine, p.margin, p.better, p.tied, p.candidates,
       p.target_cpe_id, nearest.cpe_id AS nearest_cpe_id
FROM prediction p
JOIN experiment_run r USING (run_id)
JOIN sequence_set s ON s.sequence_set_id = r.sequence_set_id
JOIN cpe_entry t ON t.cpe_id = p.target_cpe_id
JOIN article a ON a.article_id = t.article_id
CROSS JOIN LATERAL (
    SELECT n.cpe_id, n.concept_text, -(n.concept_vec <#> l2_normalize(p.predicted_vec)) AS cosine
    FROM cpe_entry n
    WHERE n.dataset_source = s.dataset_source
      AND NOT (n.article_id = t.article_id AND n.seq BETWEEN t.seq - s.context_len AND t.seq - 1)
    ORDER BY n.concept_vec <#> l2_normalize(p.predicted_vec)
    LIMIT 1
) nearest;
COMMENT ON VIEW prediction_detail IS 'Each prediction as text: its context as far as it lies in the article (in scope corpus it may begin in the one before), the truth, and the nearest concept that is not in that context.';
DROP FUNCTION prediction_ranks;
DROP FUNCTION nearest_concepts;
DROP INDEX ix_cpe_entry_dataset_source_domain_code_task_code_modifier_code;

ALTER TABLE ann_index DROP CONSTRAINT ck_ann_index_metric;
ALTER TABLE ann_index DROP CONSTRAINT ck_ann_index_kind;
ALTER TABLE ann_index DROP COLUMN tuned_fingerprint;
ALTER TABLE ann_index DROP COLUMN tuning;
ALTER TABLE ann_index DROP COLUMN query_parameters;
ALTER TABLE ann_index DROP COLUMN corpus_mark;
ALTER TABLE ann_index DROP COLUMN memory;
ALTER TABLE ann_index DROP COLUMN workers;
ALTER TABLE ann_index DROP COLUMN metric;
"""


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute(DOWNGRADE)
