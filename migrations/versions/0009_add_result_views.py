"""Views that reports rest on: how long runs trained, what validation chose, what counts of a run.

Revision: 0009
"""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

UPGRADE = """
CREATE VIEW run_time AS
WITH ended AS (
    -- A step that an epoch ended with, and when that was written.
    SELECT m.run_id, m.step, m.recorded_at
    FROM run_metric m
    WHERE m.name = 'loss' AND m.split = 'val'
), lasted AS (
    SELECT e.run_id, e.recorded_at,
           greatest(e.step - lag(e.step, 1, 0::bigint) OVER epochs, 1) AS steps,
           greatest(extract(epoch FROM e.recorded_at
                            - lag(e.recorded_at, 1, r.started_at) OVER epochs), 0)::float8
               AS seconds
    FROM ended e
    JOIN experiment_run r USING (run_id)
    WINDOW epochs AS (PARTITION BY e.run_id ORDER BY e.step)
), pace AS (
    SELECT run_id, count(*) AS epochs,
           percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds / steps) AS seconds_a_step
    FROM lasted
    GROUP BY run_id
), counted AS (
    SELECT l.run_id, p.epochs, sum(k.seconds) AS seconds, max(k.seconds) AS longest,
           max(l.recorded_at) AS last_at
    FROM lasted l
    JOIN pace p USING (run_id)
    CROSS JOIN LATERAL (
        SELECT CASE WHEN p.epochs >= 3 AND l.seconds > 3 * l.steps * p.seconds_a_step
                    THEN l.steps * p.seconds_a_step
                    ELSE l.seconds END AS seconds
    ) k
    GROUP BY l.run_id, p.epochs
)
SELECT r.run_id, coalesce(c.epochs, 0) AS epochs,
       coalesce(c.seconds, 0)
           -- What came after the last epoch, or of what has none.
           + CASE WHEN c.epochs >= 3 THEN least(t.tail, c.longest) ELSE t.tail END AS seconds,
       extract(epoch FROM e.ended_at - r.started_at)::float8 AS wall_seconds
FROM experiment_run r
LEFT JOIN counted c USING (run_id)
CROSS JOIN LATERAL (
    SELECT coalesce(r.finished_at, r.heartbeat_at, r.started_at) AS ended_at
) e
CROSS JOIN LATERAL (
    SELECT greatest(extract(epoch FROM e.ended_at - coalesce(c.last_at, r.started_at)), 0)::float8
               AS tail
) t
WHERE r.started_at IS NOT NULL;
COMMENT ON VIEW run_time IS 'How long each run trained. An interruption is not counted, nor a slow start: an epoch that took more than three times the run''s median time a step counts as if it had gone at the median pace, from three epochs on. Other work on the same machine is not known, and is counted.';
COMMENT ON COLUMN run_time.seconds IS 'of training and validation, without interruptions and slow starts';
COMMENT ON COLUMN run_time.wall_seconds IS 'from the first start to the end, or to the last sign of life';

CREATE VIEW run_validation AS
SELECT r.run_id, best.epoch, best.loss, coalesce(evaluated.value, trained.value) AS cosine
FROM experiment_run r
LEFT JOIN LATERAL (
    SELECT m.epoch, m.step, m.value AS loss
    FROM run_metric m
    WHERE m.run_id = r.run_id AND m.name = 'loss' AND m.split = 'val'
    ORDER BY m.value, m.epoch
    LIMIT 1
) best ON true
LEFT JOIN LATERAL (
    SELECT e.value
    FROM evaluation e
    LEFT JOIN checkpoint k ON k.run_id = e.run_id AND k.kind = 'best'
    WHERE e.run_id = r.run_id AND e.split = 'val' AND e.pool = 'corpus' AND e.metric = 'cosine'
      AND e.checkpoint_sha256 IS NOT DISTINCT FROM k.sha256
    ORDER BY e.version DESC
    LIMIT 1
) evaluated ON true
LEFT JOIN LATERAL (
    -- What is not trained by gradients has a cosine and no loss.
    SELECT m.value
    FROM run_metric m
    WHERE m.run_id = r.run_id AND m.name = 'cosine' AND m.split = 'val'
      AND m.step = coalesce(best.step, m.step)
    ORDER BY m.step DESC
    LIMIT 1
) trained ON true;
COMMENT ON VIEW run_validation IS 'Each run''s best epoch, by validation loss, and its cosine on the validation windows: that of the evaluation of its present weights, or of what was never evaluated there, that of training in its best epoch.';

CREATE VIEW run_result AS
WITH trained AS MATERIALIZED (
    SELECT * FROM run_time
), validated AS MATERIALIZED (
    SELECT * FROM run_validation
)
SELECT DISTINCT ON (l.sequence_set_id, l.split, l.pool_fingerprint, l.architecture, l.loss,
                    r.hyperparameters, r.parent_run_id, m.members, l.seed)
       l.sequence_set_id, l.sequence_set, l.split, l.pool, l.pool_fingerprint, l.pool_size,
       l.queries, l.articles, l.run_id, l.kind, l.architecture, l.loss, l.seed,
       r.hyperparameters, r.parent_run_id, m.members, l.parameter_count, r.device, r.kernel,
       t.epochs, t.seconds, t.wall_seconds, v.epoch AS best_epoch, v.cosine AS val_cosine,
       l.cosine, l.cosine_low, l.cosine_high, l.cosine_gain, l.cosine_gain_low,
       l.cosine_gain_high, l.cosine_verdict, l.best_baseline_by_cosine,
       l.mrr_10, l.mrr_10_gain, l.mrr_10_verdict, l.best_baseline_by_mrr,
       l.recall_1, l.recall_5, l.recall_10, l.recall_5_gain, l.flags
FROM run_leaderboard l
JOIN experiment_run r USING (run_id)
LEFT JOIN trained t USING (run_id)
LEFT JOIN validated v USING (run_id)
CROSS JOIN LATERAL (
    SELECT array_agg(member_run_id ORDER BY member_run_id) AS members
    FROM ensemble_member
    WHERE ensemble_run_id = l.run_id
) m
WHERE r.status = 'succeeded'
  AND l.cosine IS NOT NULL
  AND NOT 'other-weights' = ANY (l.flags)
  AND NOT EXISTS (SELECT FROM unnest(r.stamps) AS stamp WHERE stamp LIKE 'reproduces=%')
ORDER BY l.sequence_set_id, l.split, l.pool_fingerprint, l.architecture, l.loss,
         r.hyperparameters, r.parent_run_id, m.members, l.seed, l.run_id DESC;
COMMENT ON VIEW run_result IS 'Evaluated runs that count when runs are compared: succeeded, measured with the weights that they have now, one of each configuration and seed (the newest), none that only trained another one again.';
"""

DOWNGRADE = """
DROP VIEW run_result;
DROP VIEW run_validation;
DROP VIEW run_time;
"""


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute(DOWNGRADE)
