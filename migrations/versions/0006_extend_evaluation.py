"""Evaluation that can be doubted: leaks, intervals by article, differences, pools, targets.

Revision: 0006
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

UPGRADE = r"""
ALTER TABLE sequence_set ADD COLUMN allowed_leaks INTEGER DEFAULT 0 NOT NULL;
ALTER TABLE sequence_set ADD COLUMN leaks INTEGER;
ALTER TABLE sequence_set ADD CONSTRAINT ck_sequence_set_allowed_leaks CHECK (allowed_leaks >= 0);
ALTER TABLE sequence_set ADD CONSTRAINT ck_sequence_set_leaks
    CHECK (leaks BETWEEN 0 AND allowed_leaks OR scope = 'corpus');
COMMENT ON COLUMN sequence_set.allowed_leaks IS 'pairs of concepts across splits that were admitted';
COMMENT ON COLUMN sequence_set.leaks IS 'pairs that were found on freezing; NULL: not looked for';

ALTER TABLE evaluation ADD COLUMN direction SMALLINT;
ALTER TABLE evaluation ADD COLUMN articles INTEGER;
ALTER TABLE evaluation ADD COLUMN code_dirty BOOLEAN;
UPDATE evaluation
SET direction = CASE metric WHEN 'mse' THEN -1 WHEN 'margin' THEN 0 ELSE 1 END;
ALTER TABLE evaluation ALTER COLUMN direction SET NOT NULL;
ALTER TABLE evaluation ADD CONSTRAINT ck_evaluation_direction CHECK (direction IN (-1, 0, 1));
ALTER TABLE evaluation ADD CONSTRAINT ck_evaluation_interval CHECK (low <= high);
COMMENT ON COLUMN evaluation.direction IS '1: higher is better, -1: lower is, 0: a gauge that decides nothing';
COMMENT ON COLUMN evaluation.code_dirty IS 'whether the code had changes that are in no commit';
COMMENT ON COLUMN evaluation.articles IS 'articles that the queries come from';

-- Until now no program drew pools; one left by a downgrade cannot be held against what was drawn.
DELETE FROM candidate_pool;
ALTER TABLE candidate_pool ADD COLUMN fingerprint BYTEA NOT NULL;
COMMENT ON COLUMN candidate_pool.fingerprint IS 'SHA-256 over targets and candidates';

CREATE TABLE sequence_leak (
    sequence_set_id BIGINT NOT NULL,
    cpe_id UUID NOT NULL,
    other_cpe_id UUID NOT NULL,
    split TEXT NOT NULL,
    other_split TEXT NOT NULL,
    cosine REAL NOT NULL,
    CONSTRAINT pk_sequence_leak PRIMARY KEY (sequence_set_id, cpe_id, other_cpe_id),
    CONSTRAINT ck_sequence_leak_split CHECK (split IN ('train', 'val', 'test')),
    CONSTRAINT ck_sequence_leak_other_split CHECK (other_split IN ('train', 'val', 'test')),
    CONSTRAINT ck_sequence_leak_across_splits CHECK (split <> other_split),
    CONSTRAINT fk_sequence_leak_sequence_set_id FOREIGN KEY(sequence_set_id) REFERENCES sequence_set (sequence_set_id) ON DELETE CASCADE,
    CONSTRAINT fk_sequence_leak_cpe_id FOREIGN KEY(cpe_id) REFERENCES cpe_entry (cpe_id),
    CONSTRAINT fk_sequence_leak_other_cpe_id FOREIGN KEY(other_cpe_id) REFERENCES cpe_entry (cpe_id)
);
CREATE INDEX ix_sequence_leak_cpe_id ON sequence_leak (cpe_id);
CREATE INDEX ix_sequence_leak_other_cpe_id ON sequence_leak (other_cpe_id);
COMMENT ON TABLE sequence_leak IS 'Concepts in different splits of a frozen set that are nearly the same vector.';

CREATE TABLE evaluation_article (
    evaluation_id BIGINT NOT NULL,
    article_id BIGINT NOT NULL,
    total DOUBLE PRECISION NOT NULL,
    weight DOUBLE PRECISION NOT NULL,
    CONSTRAINT pk_evaluation_article PRIMARY KEY (evaluation_id, article_id),
    CONSTRAINT fk_evaluation_article_evaluation_id FOREIGN KEY(evaluation_id) REFERENCES evaluation (evaluation_id) ON DELETE CASCADE,
    CONSTRAINT fk_evaluation_article_article_id FOREIGN KEY(article_id) REFERENCES article (article_id)
);
CREATE INDEX ix_evaluation_article_article_id ON evaluation_article (article_id);
COMMENT ON TABLE evaluation_article IS 'An evaluation by article: its value is sum(total) / sum(weight), and its interval comes from drawing articles with replacement.';
COMMENT ON COLUMN evaluation_article.total IS 'of the metric over the article''s queries';
COMMENT ON COLUMN evaluation_article.weight IS 'what the total is divided by: queries, or for a ratio the sum of denominators';

CREATE TABLE evaluation_difference (
    evaluation_id BIGINT NOT NULL,
    baseline_evaluation_id BIGINT NOT NULL,
    difference DOUBLE PRECISION NOT NULL,
    low DOUBLE PRECISION,
    high DOUBLE PRECISION,
    verdict TEXT,
    CONSTRAINT pk_evaluation_difference PRIMARY KEY (evaluation_id, baseline_evaluation_id),
    CONSTRAINT ck_evaluation_difference_verdict CHECK (verdict IN ('better', 'not distinguishable', 'worse', 'too few articles')),
    CONSTRAINT ck_evaluation_difference_not_itself CHECK (evaluation_id <> baseline_evaluation_id),
    CONSTRAINT ck_evaluation_difference_interval CHECK (low <= high),
    CONSTRAINT fk_evaluation_difference_evaluation_id FOREIGN KEY(evaluation_id) REFERENCES evaluation (evaluation_id) ON DELETE CASCADE,
    CONSTRAINT fk_evaluation_difference_baseline_evaluation_id FOREIGN KEY(baseline_evaluation_id) REFERENCES evaluation (evaluation_id) ON DELETE CASCADE
);
CREATE INDEX ix_evaluation_difference_baseline_evaluation_id ON evaluation_difference (baseline_evaluation_id);
COMMENT ON TABLE evaluation_difference IS 'How far an evaluation is from a baseline''s, of the same metric on the same windows among the same candidates; both are drawn by the same articles.';
COMMENT ON COLUMN evaluation_difference.difference IS 'value less the baseline''s';
COMMENT ON COLUMN evaluation_difference.low IS 'lower end of the 95 % interval; NULL with too few articles';
COMMENT ON COLUMN evaluation_difference.high IS 'upper end of the 95 % interval; NULL with too few articles';
COMMENT ON COLUMN evaluation_difference.verdict IS 'NULL for a gauge';

CREATE TABLE success_target (
    name TEXT NOT NULL,
    metric TEXT NOT NULL,
    comparison TEXT NOT NULL,
    value DOUBLE PRECISION NOT NULL,
    unit TEXT NOT NULL,
    description TEXT NOT NULL,
    CONSTRAINT pk_success_target PRIMARY KEY (name),
    CONSTRAINT ck_success_target_name CHECK (name ~ '^[a-z0-9_-]+$'),
    CONSTRAINT ck_success_target_comparison CHECK (comparison IN ('>', '>=', '<', '<='))
);
COMMENT ON TABLE success_target IS 'What a run is wanted to reach. Rows may be added and changed.';
COMMENT ON COLUMN success_target.metric IS 'of the report, e.g. cosine';

INSERT INTO success_target (name, metric, comparison, value, unit, description) VALUES
    ('cosine-minimum', 'cosine', '>', 0.70, '', 'mean cosine of prediction and truth, at least'),
    ('cosine', 'cosine', '>', 0.85, '', 'mean cosine of prediction and truth, wanted'),
    ('mse', 'mse_sum', '<', 0.20, '', 'squared error summed over the dimensions'),
    ('training-time', 'training_hours', '<', 1, 'h', 'time from start to end of training'),
    ('decoded-minimum', 'decoded_accuracy', '>', 0.50, '', 'share of decoded concepts that are the truth, at least'),
    ('decoded', 'decoded_accuracy', '>', 0.75, '', 'share of decoded concepts that are the truth, wanted'),
    ('latency', 'latency_ms', '<', 100, 'ms', 'one prediction, median');

-- A pool is drawn once: it takes candidates in the transaction that makes it, and never changes.
CREATE FUNCTION lvmdb_refuse_drawn_pool() RETURNS trigger
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    IF EXISTS (
        SELECT FROM touched t JOIN candidate_pool p USING (candidate_pool_id)
        WHERE TG_OP <> 'INSERT' OR p.created_at <> now()
    ) THEN
        RAISE EXCEPTION 'candidates of a pool are drawn once and never change'
            USING ERRCODE = 'integrity_constraint_violation', HINT = 'draw another pool';
    END IF;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION lvmdb_refuse_drawn_pool() IS 'Refuses any change of a candidate pool after it was drawn.';

CREATE TRIGGER trg_candidate_insert AFTER INSERT ON candidate
    REFERENCING NEW TABLE AS touched
    FOR EACH STATEMENT EXECUTE FUNCTION lvmdb_refuse_drawn_pool();
CREATE TRIGGER trg_candidate_update AFTER UPDATE ON candidate
    REFERENCING OLD TABLE AS touched
    FOR EACH STATEMENT EXECUTE FUNCTION lvmdb_refuse_drawn_pool();
CREATE TRIGGER trg_candidate_delete AFTER DELETE ON candidate
    REFERENCING OLD TABLE AS touched
    FOR EACH STATEMENT EXECUTE FUNCTION lvmdb_refuse_drawn_pool();
CREATE TRIGGER trg_candidate_pool_update AFTER UPDATE ON candidate_pool
    REFERENCING OLD TABLE AS touched
    FOR EACH STATEMENT EXECUTE FUNCTION lvmdb_refuse_drawn_pool();

-- What was found on freezing stays with the frozen set.
CREATE TRIGGER trg_sequence_leak_insert AFTER INSERT ON sequence_leak
    REFERENCING NEW TABLE AS touched
    FOR EACH STATEMENT EXECUTE FUNCTION lvmdb_refuse_frozen_split();
CREATE TRIGGER trg_sequence_leak_update AFTER UPDATE ON sequence_leak
    REFERENCING OLD TABLE AS touched
    FOR EACH STATEMENT EXECUTE FUNCTION lvmdb_refuse_frozen_split();
CREATE TRIGGER trg_sequence_leak_delete AFTER DELETE ON sequence_leak
    REFERENCING OLD TABLE AS touched
    FOR EACH STATEMENT EXECUTE FUNCTION lvmdb_refuse_frozen_split();

DROP VIEW run_leaderboard;

CREATE VIEW evaluation_verdict AS
WITH latest AS (
    -- One version of each metric, the newest: values of different formulas are not compared.
    SELECT *
    FROM (SELECT *, max(version) OVER (PARTITION BY pool, metric) AS newest
          FROM evaluation) versioned
    WHERE version = newest
), placed AS (
    SELECT e.*, r.sequence_set_id, r.kind, r.architecture
    FROM latest e JOIN experiment_run r USING (run_id)
), best AS (
    -- A pool grows with its dataset: what was ranked among other concepts is no baseline.
    SELECT DISTINCT ON (sequence_set_id, split, pool, pool_fingerprint, metric) *
    FROM placed
    WHERE kind = 'baseline' AND direction <> 0
    ORDER BY sequence_set_id, split, pool, pool_fingerprint, metric, direction * value DESC, run_id
), reference AS (
    SELECT * FROM best
    UNION ALL
    -- A gauge decides nothing: its reference is the baseline of the best cosine. The margin is one,
    -- for that of random vectors is the best there is.
    SELECT gauge.*
    FROM placed gauge
    JOIN best b ON b.run_id = gauge.run_id AND b.split = gauge.split
        AND b.pool_fingerprint = gauge.pool_fingerprint AND b.pool = 'corpus' AND b.metric = 'cosine'
    WHERE gauge.direction = 0
)
SELECT e.evaluation_id, e.sequence_set_id, s.name AS sequence_set, e.split, e.pool, e.run_id,
       e.kind, e.architecture, e.metric, e.version, e.direction, e.value, e.low, e.high, e.chance,
       e.queries, e.articles, e.distinct_truths, e.pool_size, e.pool_fingerprint,
       b.run_id AS best_baseline_run_id, b.architecture AS best_baseline,
       e.value - b.value AS difference, d.low AS difference_low, d.high AS difference_high,
       CASE WHEN b.run_id = e.run_id THEN 'best baseline' ELSE d.verdict END AS verdict
FROM placed e
JOIN sequence_set s USING (sequence_set_id)
LEFT JOIN reference b USING (sequence_set_id, split, pool, pool_fingerprint, metric)
LEFT JOIN evaluation_difference d
    ON d.evaluation_id = e.evaluation_id AND d.baseline_evaluation_id = b.evaluation_id;
COMMENT ON VIEW evaluation_verdict IS 'Each metric of each run with its 95 % interval, and whether it is better than the best baseline of the same set, split and pool: better, not distinguishable or worse.';

CREATE VIEW run_leaderboard AS
WITH verdicts AS MATERIALIZED (
    SELECT * FROM evaluation_verdict WHERE pool = 'corpus'
), baselines AS (
    SELECT sequence_set_id, split, pool, pool_fingerprint,
           count(DISTINCT run_id) AS baselines,
           count(DISTINCT architecture) FILTER (
               WHERE architecture IN ('random', 'train-mean', 'copy-last', 'context-mean',
                                      'lag-weights', 'ridge', 'nearest-neighbour')) AS standard
    FROM verdicts WHERE kind = 'baseline'
    GROUP BY sequence_set_id, split, pool, pool_fingerprint
), weights AS (
    SELECT e.run_id, e.split, e.pool,
           bool_or(e.checkpoint_sha256 IS DISTINCT FROM c.sha256) AS others,
           bool_or(e.code_dirty) AS dirty
    FROM evaluation e
    LEFT JOIN checkpoint c ON c.run_id = e.run_id AND c.kind = 'best'
    GROUP BY e.run_id, e.split, e.pool
), scores AS (
    SELECT v.sequence_set_id, v.sequence_set, v.split, v.pool, v.run_id, v.pool_fingerprint,
           max(v.value) FILTER (WHERE v.metric = 'cosine') AS cosine,
           max(v.low) FILTER (WHERE v.metric = 'cosine') AS cosine_low,
           max(v.high) FILTER (WHERE v.metric = 'cosine') AS cosine_high,
           max(v.value) FILTER (WHERE v.metric = 'mse') AS mse,
           max(v.value) FILTER (WHERE v.metric = 'margin') AS margin,
           max(v.value) FILTER (WHERE v.metric = 'recall@1') AS recall_1,
           max(v.value) FILTER (WHERE v.metric = 'recall@5') AS recall_5,
           max(v.value) FILTER (WHERE v.metric = 'recall@10') AS recall_10,
           max(v.value) FILTER (WHERE v.metric = 'recall@50') AS recall_50,
           max(v.value) FILTER (WHERE v.metric = 'mrr@10') AS mrr_10,
           max(v.low) FILTER (WHERE v.metric = 'mrr@10') AS mrr_10_low,
           max(v.high) FILTER (WHERE v.metric = 'mrr@10') AS mrr_10_high,
           max(v.chance) FILTER (WHERE v.metric = 'recall@10') AS chance_recall_10,
           max(v.difference) FILTER (WHERE v.metric = 'cosine') AS cosine_gain,
           max(v.difference_low) FILTER (WHERE v.metric = 'cosine') AS cosine_gain_low,
           max(v.difference_high) FILTER (WHERE v.metric = 'cosine') AS cosine_gain_high,
           max(v.verdict) FILTER (WHERE v.metric = 'cosine') AS cosine_verdict,
           max(v.difference) FILTER (WHERE v.metric = 'mse') AS mse_gain,
           max(v.difference) FILTER (WHERE v.metric = 'recall@5') AS recall_5_gain,
           max(v.verdict) FILTER (WHERE v.metric = 'recall@5') AS recall_5_verdict,
           max(v.difference) FILTER (WHERE v.metric = 'mrr@10') AS mrr_10_gain,
           max(v.difference_low) FILTER (WHERE v.metric = 'mrr@10') AS mrr_10_gain_low,
           max(v.difference_high) FILTER (WHERE v.metric = 'mrr@10') AS mrr_10_gain_high,
           max(v.verdict) FILTER (WHERE v.metric = 'mrr@10') AS mrr_10_verdict,
           max(v.best_baseline) FILTER (WHERE v.metric = 'cosine') AS best_baseline_by_cosine,
           max(v.best_baseline) FILTER (WHERE v.metric = 'mrr@10') AS best_baseline_by_mrr,
           max(v.pool_size) AS pool_size, max(v.queries) AS queries, max(v.articles) AS articles,
           max(v.distinct_truths) AS distinct_truths
    FROM verdicts v
    GROUP BY v.sequence_set_id, v.sequence_set, v.split, v.pool, v.run_id, v.pool_fingerprint
)
SELECT scores.*, r.kind, r.architecture, r.loss, r.seed, r.parameter_count, r.stamps,
       coalesce(baselines.baselines, 0) AS baselines,
       ARRAY(
           SELECT DISTINCT flag FROM unnest(r.stamps || ARRAY[
               CASE WHEN s.scope = 'corpus' THEN 'scope=corpus' END,
               CASE WHEN s.leaks IS NULL THEN 'leaks=unknown'
                    WHEN s.leaks > 0 THEN 'leaks=' || s.leaks END,
               CASE WHEN coalesce(baselines.standard, 0) < 7
                    THEN 'baselines=' || coalesce(baselines.standard, 0) || '/7' END,
               CASE WHEN split <> 'test' THEN 'split=' || split END,
               -- Among fewer than a thousand, guessing finds more than 1 % in the first ten.
               CASE WHEN pool_size < 1000 THEN 'pool=' || pool_size END,
               CASE WHEN distinct_truths < 100 THEN 'truths=' || distinct_truths END,
               CASE WHEN weights.others THEN 'other-weights' END,
               CASE WHEN r.code_dirty OR weights.dirty THEN 'uncommitted-code' END
           ]) AS flag
           WHERE flag IS NOT NULL ORDER BY flag
       ) AS flags
FROM scores
LEFT JOIN baselines USING (sequence_set_id, split, pool, pool_fingerprint)
LEFT JOIN weights USING (run_id, split, pool)
JOIN experiment_run r USING (run_id)
JOIN sequence_set s ON s.sequence_set_id = scores.sequence_set_id;
COMMENT ON VIEW run_leaderboard IS 'What each run is worth, and how far it is from the best baseline of the same set, split and pool, with 95 % intervals. A gain below zero in mse is an improvement; elsewhere one above zero.';
COMMENT ON COLUMN run_leaderboard.flags IS 'what anyone who reads the numbers must know';

CREATE VIEW run_group AS
WITH counted AS (
    -- One run of each seed, the newest. One trained again to be compared with its original is none.
    SELECT DISTINCT ON (l.sequence_set, l.split, l.pool_fingerprint, l.architecture, l.loss,
                        r.hyperparameters, l.seed) l.*, r.hyperparameters
    FROM run_leaderboard l
    JOIN experiment_run r USING (run_id)
    WHERE NOT EXISTS (SELECT FROM unnest(r.stamps) AS stamp WHERE stamp LIKE 'reproduces=%')
    ORDER BY l.sequence_set, l.split, l.pool_fingerprint, l.architecture, l.loss,
             r.hyperparameters, l.seed, l.run_id DESC
)
SELECT sequence_set, split, architecture, loss, hyperparameters, kind,
       count(*) AS seeds, array_agg(run_id ORDER BY seed) AS run_ids,
       avg(cosine) AS cosine, stddev_samp(cosine) AS cosine_spread,
       min(cosine) AS cosine_min, max(cosine) AS cosine_max,
       avg(mrr_10) AS mrr_10, stddev_samp(mrr_10) AS mrr_10_spread,
       min(mrr_10) AS mrr_10_min, max(mrr_10) AS mrr_10_max,
       avg(recall_5) AS recall_5, stddev_samp(recall_5) AS recall_5_spread,
       avg(cosine_gain) AS cosine_gain, avg(mrr_10_gain) AS mrr_10_gain
FROM counted
GROUP BY sequence_set, split, pool_fingerprint, architecture, loss, hyperparameters, kind;
COMMENT ON VIEW run_group IS 'Runs of one configuration with several seeds, and their spread (standard deviation over seeds; NULL with one).';
"""

DOWNGRADE = """
DROP VIEW run_group;
DROP VIEW run_leaderboard;
DROP VIEW evaluation_verdict;
DROP TABLE evaluation_difference, evaluation_article, sequence_leak, success_target;
DROP TRIGGER trg_candidate_pool_update ON candidate_pool;
DROP TRIGGER trg_candidate_delete ON candidate;
DROP TRIGGER trg_candidate_update ON candidate;
DROP TRIGGER trg_candidate_insert ON candidate;
DROP FUNCTION lvmdb_refuse_drawn_pool();
ALTER TABLE candidate_pool DROP COLUMN fingerprint;
ALTER TABLE evaluation DROP CONSTRAINT ck_evaluation_interval;
ALTER TABLE evaluation DROP COLUMN code_dirty, DROP COLUMN articles, DROP COLUMN direction;
ALTER TABLE sequence_set DROP CONSTRAINT ck_sequence_set_leaks;
ALTER TABLE sequence_set DROP COLUMN leaks, DROP COLUMN allowed_leaks;

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
"""


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute(DOWNGRADE)
