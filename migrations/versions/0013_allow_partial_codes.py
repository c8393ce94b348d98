"""Codes of which a part is known: each of the three parts may be NULL by itself.

Revision: 0013
"""

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

UPGRADE = """
ALTER TABLE cpe_entry DROP CONSTRAINT ck_cpe_entry_tmd_has_source;
ALTER TABLE cpe_entry ADD CONSTRAINT ck_cpe_entry_tmd_has_source
    CHECK ((num_nonnulls(domain_code, task_code, modifier_code) = 0) = (tmd_source IS NULL));
COMMENT ON COLUMN cpe_entry.tmd_source IS 'who decided the code, or what is known of it: given, embedding or llm';
"""

# What was known without a domain has no place in the older schema.
DOWNGRADE = """
ALTER TABLE cpe_entry DROP CONSTRAINT ck_cpe_entry_tmd_has_source;
UPDATE cpe_entry SET task_code = NULL, modifier_code = NULL, tmd_source = NULL
WHERE domain_code IS NULL AND tmd_source IS NOT NULL;
ALTER TABLE cpe_entry ADD CONSTRAINT ck_cpe_entry_tmd_has_source
    CHECK ((domain_code IS NULL) = (tmd_source IS NULL));
COMMENT ON COLUMN cpe_entry.tmd_source IS 'who decided the code: given, embedding or llm';
"""


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute(DOWNGRADE)
