"""Streaming in one order for any world: virtual shards, positions within an epoch, what was seen.

Revision: 0007
"""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

UPGRADE = """
ALTER TABLE sequence_set ADD COLUMN shards SMALLINT DEFAULT 16 NOT NULL;
ALTER TABLE sequence_set ADD CONSTRAINT ck_sequence_set_shards
    CHECK (shards BETWEEN 1 AND 1024 AND shards & (shards - 1) = 0);
COMMENT ON COLUMN sequence_set.shards IS 'virtual shards among which its articles are dealt out: a power of two, and the most processes that can train on it together';

ALTER TABLE experiment_run ADD COLUMN seen_fingerprint BYTEA;
ALTER TABLE experiment_run ADD CONSTRAINT ck_experiment_run_seen_fingerprint
    CHECK (seen_fingerprint = sequence_fingerprint);
COMMENT ON COLUMN experiment_run.seen_fingerprint IS 'fingerprint of the rows that training read, computed again when it began';

ALTER TABLE checkpoint ADD COLUMN batch INTEGER DEFAULT 0 NOT NULL;
ALTER TABLE checkpoint ADD CONSTRAINT ck_checkpoint_batch CHECK (batch >= 0);
COMMENT ON COLUMN checkpoint.epoch IS 'epochs that were done';
COMMENT ON COLUMN checkpoint.batch IS 'global batches of the epoch after those that were done';
"""

DOWNGRADE = """
-- A position within an epoch says nothing to the program before: it would train the rest twice.
DELETE FROM checkpoint WHERE batch > 0;
ALTER TABLE checkpoint DROP COLUMN batch;
COMMENT ON COLUMN checkpoint.epoch IS NULL;
ALTER TABLE experiment_run DROP COLUMN seen_fingerprint;
ALTER TABLE sequence_set DROP COLUMN shards;
"""


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute(DOWNGRADE)
