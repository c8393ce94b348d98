"""Runs with their metrics, checkpoints, predictions and evaluations.

Revision: 0003
"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

UPGRADE = r"""
CREATE TABLE experiment (
    experiment_id BIGINT GENERATED ALWAYS AS IDENTITY,
    name TEXT NOT NULL,
    description TEXT,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT pk_experiment PRIMARY KEY (experiment_id),
    CONSTRAINT uq_experiment_name UNIQUE (name),
    CONSTRAINT ck_experiment_name CHECK (name ~ '^[a-z0-9_-]+$')
);
COMMENT ON TABLE experiment IS 'Runs that belong together.';

CREATE TABLE experiment_run (
    run_id BIGINT GENERATED ALWAYS AS IDENTITY,
    experiment_id BIGINT,
    kind TEXT NOT NULL,
    architecture TEXT NOT NULL,
    hyperparameters JSONB NOT NULL,
    loss TEXT,
    sequence_set_id BIGINT NOT NULL,
    sequence_fingerprint BYTEA NOT NULL,
    seed BIGINT DEFAULT 0 NOT NULL,
    status TEXT DEFAULT 'planned' NOT NULL,
    stamps TEXT[] DEFAULT '{}' NOT NULL,
    code_version TEXT,
    code_dirty BOOLEAN,
    environment JSONB,
    device TEXT,
    kernel TEXT,
    parameter_count BIGINT,
    heartbeat_at TIMESTAMP WITH TIME ZONE,
    worker TEXT,
    error TEXT,
    traceback TEXT,
    parent_run_id BIGINT,
    schedule_week SMALLINT,
    schedule_slot SMALLINT,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    started_at TIMESTAMP WITH TIME ZONE,
    finished_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_experiment_run PRIMARY KEY (run_id),
    CONSTRAINT fk_experiment_run_sequence_set_id_sequence_fingerprint FOREIGN KEY(sequence_set_id, sequence_fingerprint) REFERENCES sequence_set (sequence_set_id, fingerprint),
    CONSTRAINT ck_experiment_run_kind CHECK (kind IN ('model', 'baseline', 'ensemble')),
    CONSTRAINT ck_experiment_run_status CHECK (status IN ('planned', 'queued', 'running', 'succeeded', 'failed', 'cancelled')),
    CONSTRAINT ck_experiment_run_model_has_loss CHECK ((kind = 'model') = (loss IS NOT NULL)),
    CONSTRAINT ck_experiment_run_failure_has_error CHECK (status <> 'failed' OR error IS NOT NULL),
    CONSTRAINT fk_experiment_run_experiment_id FOREIGN KEY(experiment_id) REFERENCES experiment (experiment_id),
    CONSTRAINT fk_experiment_run_parent_run_id FOREIGN KEY(parent_run_id) REFERENCES experiment_run (run_id)
);
CREATE INDEX ix_experiment_run_sequence_set_id ON experiment_run (sequence_set_id);
COMMENT ON TABLE experiment_run IS 'One training of one configuration on one sequence set with one seed. Baselines and ensembles are runs too.';
COMMENT ON COLUMN experiment_run.hyperparameters IS 'every option, defaults included';
COMMENT ON COLUMN experiment_run.loss IS 'NULL for what is not trained by gradients';
COMMENT ON COLUMN experiment_run.sequence_fingerprint IS 'fingerprint of the data that the run was made for';
COMMENT ON COLUMN experiment_run.stamps IS 'exceptions that anyone who reads its numbers must know, e.g. scope=corpus';
COMMENT ON COLUMN experiment_run.code_dirty IS 'whether the code had changes that are in no commit';
COMMENT ON COLUMN experiment_run.environment IS 'versions, processor, threads';
COMMENT ON COLUMN experiment_run.kernel IS 'the implementation that ran';
COMMENT ON COLUMN experiment_run.worker IS 'host and process that run it';

CREATE TABLE run_metric (
    run_id BIGINT NOT NULL,
    name TEXT NOT NULL,
    split TEXT NOT NULL,
    step BIGINT NOT NULL,
    epoch INTEGER NOT NULL,
    value DOUBLE PRECISION NOT NULL,
    recorded_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT pk_run_metric PRIMARY KEY (run_id, name, split, step),
    CONSTRAINT ck_run_metric_split CHECK (split IN ('train', 'val', 'test')),
    CONSTRAINT fk_run_metric_run_id FOREIGN KEY(run_id) REFERENCES experiment_run (run_id) ON DELETE CASCADE
);
COMMENT ON TABLE run_metric IS 'What training measured, epoch by epoch.';

CREATE TABLE checkpoint (
    checkpoint_id BIGINT GENERATED ALWAYS AS IDENTITY,
    run_id BIGINT NOT NULL,
    kind TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    step BIGINT NOT NULL,
    architecture TEXT NOT NULL,
    config JSONB NOT NULL,
    progress JSONB NOT NULL,
    bytes BIGINT NOT NULL,
    sha256 BYTEA NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT pk_checkpoint PRIMARY KEY (checkpoint_id),
    CONSTRAINT uq_checkpoint_run_id_kind UNIQUE (run_id, kind),
    CONSTRAINT ck_checkpoint_kind CHECK (kind IN ('best', 'last')),
    CONSTRAINT fk_checkpoint_run_id FOREIGN KEY(run_id) REFERENCES experiment_run (run_id) ON DELETE CASCADE
);
COMMENT ON TABLE checkpoint IS 'A model''s weights as safetensors, with an input and the output that they gave for it: loading computes the output again and refuses a difference.';
COMMENT ON COLUMN checkpoint.kind IS 'best on validation, or last: where to go on';
COMMENT ON COLUMN checkpoint.progress IS 'the training loop''s own state';
COMMENT ON COLUMN checkpoint.sha256 IS 'of the safetensors bytes';

CREATE TABLE checkpoint_chunk (
    checkpoint_id BIGINT NOT NULL,
    ordinal INTEGER NOT NULL,
    data BYTEA STORAGE EXTERNAL NOT NULL,
    CONSTRAINT pk_checkpoint_chunk PRIMARY KEY (checkpoint_id, ordinal),
    CONSTRAINT fk_checkpoint_chunk_checkpoint_id FOREIGN KEY(checkpoint_id) REFERENCES checkpoint (checkpoint_id) ON DELETE CASCADE
);
COMMENT ON TABLE checkpoint_chunk IS 'The bytes of a checkpoint, in order.';

CREATE TABLE prediction (
    run_id BIGINT NOT NULL,
    target_cpe_id UUID NOT NULL,
    split TEXT NOT NULL,
    predicted_vec VECTOR(768) STORAGE PLAIN NOT NULL,
    cosine REAL NOT NULL,
    margin REAL NOT NULL,
    mse REAL NOT NULL,
    better INTEGER NOT NULL,
    tied INTEGER NOT NULL,
    candidates INTEGER NOT NULL,
    CONSTRAINT pk_prediction PRIMARY KEY (run_id, target_cpe_id),
    CONSTRAINT ck_prediction_split CHECK (split IN ('train', 'val', 'test')),
    CONSTRAINT fk_prediction_run_id FOREIGN KEY(run_id) REFERENCES experiment_run (run_id) ON DELETE CASCADE,
    CONSTRAINT fk_prediction_target_cpe_id FOREIGN KEY(target_cpe_id) REFERENCES cpe_entry (cpe_id)
);
CREATE INDEX ix_prediction_target_cpe_id ON prediction (target_cpe_id);
COMMENT ON TABLE prediction IS 'The vector that a run predicts for each window, and where its truth ranks among all concepts of the dataset.';
COMMENT ON COLUMN prediction.cosine IS 'of prediction and truth';
COMMENT ON COLUMN prediction.margin IS 'cosine less that to the last context vector';
COMMENT ON COLUMN prediction.mse IS 'mean over the dimensions';
COMMENT ON COLUMN prediction.better IS 'candidates nearer than the truth';
COMMENT ON COLUMN prediction.tied IS 'candidates as near as the truth';
COMMENT ON COLUMN prediction.candidates IS 'pool less the context and the truth''s duplicates';

CREATE TABLE evaluation (
    evaluation_id BIGINT GENERATED ALWAYS AS IDENTITY,
    run_id BIGINT NOT NULL,
    split TEXT NOT NULL,
    pool TEXT NOT NULL,
    metric TEXT NOT NULL,
    version INTEGER NOT NULL,
    value DOUBLE PRECISION NOT NULL,
    low DOUBLE PRECISION,
    high DOUBLE PRECISION,
    pool_size INTEGER NOT NULL,
    pool_fingerprint BYTEA NOT NULL,
    queries INTEGER NOT NULL,
    distinct_truths INTEGER NOT NULL,
    chance DOUBLE PRECISION NOT NULL,
    checkpoint_sha256 BYTEA,
    code_version TEXT,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT pk_evaluation PRIMARY KEY (evaluation_id),
    CONSTRAINT uq_evaluation_run_id_split_pool_metric_version UNIQUE (run_id, split, pool, metric, version),
    CONSTRAINT ck_evaluation_split CHECK (split IN ('train', 'val', 'test')),
    CONSTRAINT ck_evaluation_queries CHECK (queries > 0),
    CONSTRAINT ck_evaluation_distinct_truths CHECK (distinct_truths BETWEEN 1 AND queries),
    CONSTRAINT ck_evaluation_pool_size CHECK (pool_size > 1),
    CONSTRAINT fk_evaluation_run_id FOREIGN KEY(run_id) REFERENCES experiment_run (run_id) ON DELETE CASCADE
);
COMMENT ON TABLE evaluation IS 'What a run is worth on one split, by one metric, among one pool of candidates.';
COMMENT ON COLUMN evaluation.pool IS 'what the truth was ranked among';
COMMENT ON COLUMN evaluation.version IS 'of the metric''s definition';
COMMENT ON COLUMN evaluation.low IS 'lower end of the 95 % interval; NULL if not computed';
COMMENT ON COLUMN evaluation.high IS 'upper end of the 95 % interval; NULL if not computed';
COMMENT ON COLUMN evaluation.pool_fingerprint IS 'SHA-256 over the pool''s ids and vectors: only values of one pool are compared';
COMMENT ON COLUMN evaluation.chance IS 'value of a concept drawn at random';
COMMENT ON COLUMN evaluation.checkpoint_sha256 IS 'the weights; NULL for what has none';

CREATE TABLE candidate_pool (
    candidate_pool_id BIGINT GENERATED ALWAYS AS IDENTITY,
    name TEXT NOT NULL,
    sequence_set_id BIGINT NOT NULL,
    split TEXT NOT NULL,
    seed BIGINT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT pk_candidate_pool PRIMARY KEY (candidate_pool_id),
    CONSTRAINT uq_candidate_pool_name UNIQUE (name),
    CONSTRAINT ck_candidate_pool_name CHECK (name ~ '^[a-z0-9_-]+$'),
    CONSTRAINT ck_candidate_pool_split CHECK (split IN ('train', 'val', 'test')),
    CONSTRAINT fk_candidate_pool_sequence_set_id FOREIGN KEY(sequence_set_id) REFERENCES sequence_set (sequence_set_id) ON DELETE CASCADE
);
COMMENT ON TABLE candidate_pool IS 'Distractors drawn once for the windows of a split, so that every run meets the same.';

CREATE TABLE candidate (
    candidate_pool_id BIGINT NOT NULL,
    target_cpe_id UUID NOT NULL,
    candidate_cpe_id UUID NOT NULL,
    stratum TEXT NOT NULL,
    CONSTRAINT pk_candidate PRIMARY KEY (candidate_pool_id, target_cpe_id, candidate_cpe_id),
    CONSTRAINT ck_candidate_stratum CHECK (stratum IN ('same_article', 'other_article')),
    CONSTRAINT ck_candidate_not_the_truth CHECK (target_cpe_id <> candidate_cpe_id),
    CONSTRAINT fk_candidate_candidate_pool_id FOREIGN KEY(candidate_pool_id) REFERENCES candidate_pool (candidate_pool_id) ON DELETE CASCADE,
    CONSTRAINT fk_candidate_target_cpe_id FOREIGN KEY(target_cpe_id) REFERENCES cpe_entry (cpe_id),
    CONSTRAINT fk_candidate_candidate_cpe_id FOREIGN KEY(candidate_cpe_id) REFERENCES cpe_entry (cpe_id)
);
COMMENT ON TABLE candidate IS 'One distractor of a candidate pool.';

CREATE TABLE ensemble_member (
    ensemble_run_id BIGINT NOT NULL,
    member_run_id BIGINT NOT NULL,
    weight DOUBLE PRECISION NOT NULL,
    CONSTRAINT pk_ensemble_member PRIMARY KEY (ensemble_run_id, member_run_id),
    CONSTRAINT ck_ensemble_member_not_itself CHECK (ensemble_run_id <> member_run_id),
    CONSTRAINT ck_ensemble_member_weight CHECK (weight >= 0),
    CONSTRAINT fk_ensemble_member_ensemble_run_id FOREIGN KEY(ensemble_run_id) REFERENCES experiment_run (run_id) ON DELETE CASCADE,
    CONSTRAINT fk_ensemble_member_member_run_id FOREIGN KEY(member_run_id) REFERENCES experiment_run (run_id)
);
COMMENT ON TABLE ensemble_member IS 'The runs that an ensemble is made of.';
"""

DOWNGRADE = """
DROP TABLE ensemble_member, candidate, candidate_pool, evaluation, prediction, checkpoint_chunk,
    checkpoint, run_metric, experiment_run, experiment;
"""


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute(DOWNGRADE)
