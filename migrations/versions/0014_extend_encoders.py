"""How an encoder is loaded: by what, from where, at which precision.

Revision: 0014
"""

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

UPGRADE = """
ALTER TABLE encoder
    ADD COLUMN kind text,
    ADD COLUMN model text,
    ADD COLUMN endpoint text,
    ADD COLUMN precision text;
-- What had a fingerprint was loaded by sentence-transformers, in float32.
UPDATE encoder e SET kind = 'sentence-transformers', precision = 'fp32'
WHERE EXISTS (SELECT FROM encoder_probe p WHERE p.encoder_id = e.encoder_id);
ALTER TABLE encoder
    ADD CONSTRAINT ck_encoder_kind
        CHECK (kind IN ('sentence-transformers', 'vec2text', 'openai', 'tei')),
    ADD CONSTRAINT ck_encoder_precision CHECK (precision IN ('fp32', 'bf16', 'fp16', 'int8')),
    ADD CONSTRAINT ck_encoder_endpoint
        CHECK ((endpoint IS NOT NULL) = (kind IS NOT NULL AND kind IN ('openai', 'tei')));
COMMENT ON COLUMN encoder.kind IS 'what runs it; NULL while it is known by name alone';
COMMENT ON COLUMN encoder.model IS 'name or folder of its model; NULL: as its own name says';
COMMENT ON COLUMN encoder.endpoint IS 'its address, of kinds behind HTTP; never holds a key';
COMMENT ON COLUMN encoder.precision IS 'what it computes in; NULL if not known';
COMMENT ON COLUMN encoder_probe.probe_vec IS 'as the model gives it: its length, which concepts do not keep, is for decoding';
"""

DOWNGRADE = """
COMMENT ON COLUMN encoder_probe.probe_vec IS NULL;
ALTER TABLE encoder
    DROP COLUMN precision,
    DROP COLUMN endpoint,
    DROP COLUMN model,
    DROP COLUMN kind;
"""


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute(DOWNGRADE)
