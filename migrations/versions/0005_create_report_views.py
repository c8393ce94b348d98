"""Views for people: leaderboard, curves, predictions as text, corpus health.

Revision: 0005
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

UPGRADE = r"""
CREATE VIEW run_leaderboard AS
WITH latest AS (
    -- One version of each metric, the newest: values of different formulas are not compared.
    SELECT *
    FROM (SELECT *, max(version) OVER (PARTITION BY metric) AS newest FROM evaluation) versioned
    WHERE version = newest
), scores AS (
    SELECT s.sequence_set_id, s.name AS sequence_set, e.split, e.pool,
           r.run_id, r.kind, r.architecture, r.loss, r.seed, r.parameter_count, r.stamps,
           max(e.value) FILTER (WHERE e.metric = 'cosine') AS cosine,
           max(e.value) FILTER (WHERE e.metric = 'mse') AS mse,
           max(e.value) FILTER (WHERE e.metric = 'margin') AS margin,
           max(e.value) FILTER (WHERE e.metric = 'recall@1') AS recall_1,
           max(e.value) FILTER (WHERE e.metric = 'recall@5') AS recall_5,
           max(e.value) FILTER (WHERE e.metric = 'recall@10') AS recall_10,
           max(e.value) FILTER (WHERE e.metric = 'mrr@10') AS mrr_10,
           max(e.chance) FILTER (WHERE e.metric = 'recall@10') AS chance_recall_10,
           e.pool_fingerprint, max(e.pool_size) AS pool_size, max(e.queries) AS queries,
           max(e.distinct_truths) AS distinct_truths
    FROM latest e
    JOIN experiment_run r USING (run_id)
    JOIN sequence_set s ON s.sequence_set_id = r.sequence_set_id
    GROUP BY s.sequence_set_id, e.split, e.pool, e.pool_fingerprint, r.run_id
), best AS (
    -- A pool grows with its dataset: what was ranked among other concepts is no baseline.
    -- The margin never decides a best baseline: that of random vectors is the best there is.
    SELECT sequence_set_id, split, pool, pool_fingerprint, count(*) AS baselines,
           max(cosine) AS cosine, min(mse) AS mse, max(recall_5) AS recall_5, max(mrr_10) AS mrr_10,
           (array_agg(architecture ORDER BY cosine DESC))[1] AS by_cosine,
           (array_agg(architecture ORDER BY mrr_10 DESC))[1] AS by_mrr
    FROM scores
    WHERE kind = 'baseline'
    GROUP BY sequence_set_id, split, pool, pool_fingerprint
)
SELECT scores.*,
       scores.cosine - best.cosine AS cosine_gain,
       scores.mse - best.mse AS mse_gain,
       scores.recall_5 - best.recall_5 AS recall_5_gain,
       scores.mrr_10 - best.mrr_10 AS mrr_10_gain,
       best.by_cosine AS best_baseline_by_cosine,
       best.by_mrr AS best_baseline_by_mrr,
       coalesce(best.baselines, 0) AS baselines
FROM scores
LEFT JOIN best USING (sequence_set_id, split, pool, pool_fingerprint);
COMMENT ON VIEW run_leaderboard IS 'What each run is worth, and how far it is from the best baseline of the same set, split and pool. A gain below zero in mse is an improvement; elsewhere one above zero.';

CREATE VIEW run_curve AS
SELECT m.run_id, r.architecture, r.loss, r.seed, m.name, m.split, m.epoch, m.step, m.value,
       m.split = 'val' AND m.name = 'loss'
           AND m.value = min(m.value) OVER (PARTITION BY m.run_id, m.name, m.split) AS best
FROM run_metric m
JOIN experiment_run r USING (run_id);
COMMENT ON VIEW run_curve IS 'What training measured, epoch by epoch, and which epoch was the best.';

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

CREATE VIEW corpus_health AS
WITH concepts AS (
    SELECT dataset_source, count(*) AS concepts, count(concept_vec) AS vectors,
           count(tmd_code) AS tmd_codes,
           count(*) - count(DISTINCT md5(concept_text)) AS repeated_texts,
           min(vector_norm(concept_vec)) AS min_norm, max(vector_norm(concept_vec)) AS max_norm
    FROM cpe_entry
    GROUP BY dataset_source
), orders AS (
    SELECT a.dataset_source, count(*) AS articles,
           max(a.ordinal) + 1 - count(*) AS article_gaps,
           count(*) FILTER (WHERE n.concepts <> coalesce(n.last_seq, -1) + 1) AS articles_with_gaps,
           count(*) FILTER (WHERE n.concepts = 0) AS empty_articles,
           count(*) - count(DISTINCT a.text_hash) AS repeated_articles
    FROM article a
    CROSS JOIN LATERAL (
        SELECT count(*) AS concepts, max(seq) AS last_seq FROM cpe_entry c
        WHERE c.article_id = a.article_id
    ) n
    GROUP BY a.dataset_source
)
SELECT d.dataset_source, e.name AS encoder,
       NOT d.unverified
           AND EXISTS (SELECT FROM encoder_probe p WHERE p.encoder_id = d.encoder_id)
           AS encoder_verified,
       coalesce(o.articles, 0) AS articles, coalesce(c.concepts, 0) AS concepts,
       coalesce(c.vectors, 0) AS vectors, coalesce(c.tmd_codes, 0) AS tmd_codes,
       coalesce(o.article_gaps, 0) AS article_gaps,
       coalesce(o.articles_with_gaps, 0) AS articles_with_gaps,
       coalesce(o.empty_articles, 0) AS empty_articles,
       coalesce(o.repeated_articles, 0) AS repeated_articles,
       coalesce(c.repeated_texts, 0) AS repeated_texts,
       c.min_norm, c.max_norm
FROM dataset d
LEFT JOIN encoder e USING (encoder_id)
LEFT JOIN orders o USING (dataset_source)
LEFT JOIN concepts c USING (dataset_source);
COMMENT ON VIEW corpus_health IS 'Counts, order, norms and repetitions of each dataset.';
"""

DOWNGRADE = """
DROP VIEW corpus_health;
DROP VIEW prediction_detail;
DROP VIEW run_curve;
DROP VIEW run_leaderboard;
"""


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute(DOWNGRADE)
