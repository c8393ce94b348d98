"""Schedules of runs, names of promoted runs, sequence sets within others, forks are no seeds.

Revision: 0008
"""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

UPGRADE = """
CREATE TABLE schedule_entry (
    experiment_id BIGINT NOT NULL,
    week SMALLINT NOT NULL,
    slot SMALLINT NOT NULL,
    stage SMALLINT NOT NULL,
    title TEXT NOT NULL,
    rule JSONB,
    run_id BIGINT,
    reason TEXT,
    CONSTRAINT pk_schedule_entry PRIMARY KEY (experiment_id, week, slot),
    CONSTRAINT uq_schedule_entry_run_id UNIQUE (run_id),
    CONSTRAINT ck_schedule_entry_week CHECK (week >= 1),
    CONSTRAINT ck_schedule_entry_slot CHECK (slot >= 1),
    CONSTRAINT ck_schedule_entry_stage CHECK ((stage = 0) = (rule IS NULL) AND stage >= 0),
    CONSTRAINT ck_schedule_entry_run_or_reason CHECK (num_nonnulls(run_id, reason) <= 1),
    CONSTRAINT ck_schedule_entry_fixed_has_run CHECK (stage > 0 OR num_nonnulls(run_id, reason) = 1),
    CONSTRAINT fk_schedule_entry_experiment_id FOREIGN KEY(experiment_id) REFERENCES experiment (experiment_id) ON DELETE CASCADE,
    CONSTRAINT fk_schedule_entry_run_id FOREIGN KEY(run_id) REFERENCES experiment_run (run_id)
);
COMMENT ON TABLE schedule_entry IS 'The runs of a schedule, week by week, those included that are yet to be chosen.';
COMMENT ON COLUMN schedule_entry.slot IS 'place within the week, from 1';
COMMENT ON COLUMN schedule_entry.stage IS '0: fixed from the beginning. Runs of a later stage are chosen when those of all stages before it are settled';
COMMENT ON COLUMN schedule_entry.rule IS 'how its run is chosen and, once it is, from what; NULL: fixed from the beginning';
COMMENT ON COLUMN schedule_entry.run_id IS 'NULL until its turn has come';
COMMENT ON COLUMN schedule_entry.reason IS 'why there is no run and will be none';

CREATE TABLE run_alias (
    name TEXT NOT NULL,
    run_id BIGINT NOT NULL,
    moved_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT pk_run_alias PRIMARY KEY (name),
    CONSTRAINT ck_run_alias_name CHECK (name ~ '^[a-z0-9_-]+$'),
    CONSTRAINT fk_run_alias_run_id FOREIGN KEY(run_id) REFERENCES experiment_run (run_id)
);
COMMENT ON TABLE run_alias IS 'Names under which runs are promoted: whoever asks for one gets the run that it stands for now.';

ALTER TABLE sequence_set ADD COLUMN within_set_id BIGINT;
ALTER TABLE sequence_set ADD CONSTRAINT fk_sequence_set_within_set_id
    FOREIGN KEY(within_set_id) REFERENCES sequence_set (sequence_set_id);
ALTER TABLE sequence_set ADD CONSTRAINT ck_sequence_set_within_set_id
    CHECK (within_set_id IS NULL OR scope = 'article');
COMMENT ON COLUMN sequence_set.within_set_id IS 'the frozen set whose articles it takes its own from, each with its split';

DROP VIEW run_group;

CREATE VIEW run_group AS
WITH counted AS (
    -- One run of each seed, the newest. One trained again to be compared with its original is none,
    -- nor is a fork, which began elsewhere.
    SELECT DISTINCT ON (l.sequence_set, l.split, l.pool_fingerprint, l.architecture, l.loss,
                        r.hyperparameters, l.seed) l.*, r.hyperparameters
    FROM run_leaderboard l
    JOIN experiment_run r USING (run_id)
    WHERE r.parent_run_id IS NULL
      AND NOT EXISTS (SELECT FROM unnest(r.stamps) AS stamp WHERE stamp LIKE 'reproduces=%')
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

ALTER TABLE sequence_set DROP COLUMN within_set_id;
DROP TABLE run_alias, schedule_entry;
"""


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute(DOWNGRADE)
