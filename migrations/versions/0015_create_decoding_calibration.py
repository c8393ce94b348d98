"""How near a concept must be to be taken for what a vector says: measured, and chosen.

Revision: 0015
"""

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

UPGRADE = """
CREATE TABLE decoding_calibration (
    decoding_calibration_id BIGINT GENERATED ALWAYS AS IDENTITY,
    session_id UUID NOT NULL,
    dataset_source TEXT NOT NULL,
    encoder_id BIGINT NOT NULL,
    vectors BIGINT NOT NULL,
    sequence_set_id BIGINT NOT NULL,
    split TEXT NOT NULL,
    calibrated_on TEXT NOT NULL,
    run_id BIGINT,
    threshold DOUBLE PRECISION NOT NULL,
    queries INTEGER NOT NULL,
    hits INTEGER NOT NULL,
    accuracy DOUBLE PRECISION,
    same_article DOUBLE PRECISION,
    latency_p50 DOUBLE PRECISION NOT NULL,
    latency_p95 DOUBLE PRECISION NOT NULL,
    chosen BOOLEAN DEFAULT false NOT NULL,
    environment JSONB NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT pk_decoding_calibration PRIMARY KEY (decoding_calibration_id),
    CONSTRAINT ck_decoding_calibration_split CHECK (split IN ('train', 'val', 'test')),
    CONSTRAINT ck_decoding_calibration_calibrated_on
        CHECK (calibrated_on IN ('predictions', 'truths', 'held-out')),
    CONSTRAINT ck_decoding_calibration_run_id
        CHECK ((calibrated_on = 'predictions') = (run_id IS NOT NULL)),
    CONSTRAINT ck_decoding_calibration_hits CHECK (hits BETWEEN 0 AND queries AND queries > 0),
    CONSTRAINT ck_decoding_calibration_threshold CHECK (threshold BETWEEN -1 AND 1),
    CONSTRAINT fk_decoding_calibration_dataset_source FOREIGN KEY(dataset_source) REFERENCES dataset (dataset_source),
    CONSTRAINT fk_decoding_calibration_encoder_id FOREIGN KEY(encoder_id) REFERENCES encoder (encoder_id),
    CONSTRAINT fk_decoding_calibration_sequence_set_id FOREIGN KEY(sequence_set_id)
        REFERENCES sequence_set (sequence_set_id) ON DELETE CASCADE,
    CONSTRAINT fk_decoding_calibration_run_id FOREIGN KEY(run_id)
        REFERENCES experiment_run (run_id) ON DELETE CASCADE
);
CREATE UNIQUE INDEX uq_decoding_calibration_chosen ON decoding_calibration (session_id) WHERE chosen;
COMMENT ON TABLE decoding_calibration IS 'How often the nearest concept is near enough, and right, by how near that is.';
COMMENT ON COLUMN decoding_calibration.session_id IS 'rows of one call, over the same windows';
COMMENT ON COLUMN decoding_calibration.dataset_source IS 'whose concepts were searched';
COMMENT ON COLUMN decoding_calibration.vectors IS 'how many were searched';
COMMENT ON COLUMN decoding_calibration.sequence_set_id IS 'whose windows were asked for';
COMMENT ON COLUMN decoding_calibration.calibrated_on IS 'predictions: of a run; truths: the vectors that it should have predicted; held-out: those, their own concept not to be found, as of a text that the corpus lacks';
COMMENT ON COLUMN decoding_calibration.run_id IS 'whose predictions';
COMMENT ON COLUMN decoding_calibration.threshold IS 'least cosine of a nearest concept';
COMMENT ON COLUMN decoding_calibration.hits IS 'queries whose nearest concept is as near';
COMMENT ON COLUMN decoding_calibration.accuracy IS 'share of hits whose text is the truth''s; NULL without hits, or where the truth was not to be found';
COMMENT ON COLUMN decoding_calibration.same_article IS 'share of hits that are of the truth''s article; NULL without hits';
COMMENT ON COLUMN decoding_calibration.latency_p50 IS 'seconds of one search with its text';
COMMENT ON COLUMN decoding_calibration.latency_p95 IS 'seconds';
COMMENT ON COLUMN decoding_calibration.chosen IS 'the best of its session: the newest one decides';
"""

DOWNGRADE = """
DROP TABLE decoding_calibration;
"""


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute(DOWNGRADE)
