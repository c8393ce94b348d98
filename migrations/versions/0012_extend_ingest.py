"""Ingest by several processes: ranges that are claimed, workers, counts, tries, what vanished.

Revision: 0012
"""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

UPGRADE = """
ALTER TABLE ingest_job
    ADD COLUMN "read" INTEGER DEFAULT 0 NOT NULL,
    ADD COLUMN added INTEGER DEFAULT 0 NOT NULL,
    ADD COLUMN changed INTEGER DEFAULT 0 NOT NULL,
    ADD COLUMN unchanged INTEGER DEFAULT 0 NOT NULL,
    ADD COLUMN failed INTEGER DEFAULT 0 NOT NULL,
    ADD COLUMN vanished INTEGER,
    ADD COLUMN total INTEGER,
    ADD COLUMN claimed INTEGER DEFAULT 0 NOT NULL,
    ADD COLUMN ranges INTEGER;
COMMENT ON COLUMN ingest_job."read" IS 'articles that its ranges held';
COMMENT ON COLUMN ingest_job.failed IS 'articles of which nothing is kept: see ingest_error';
COMMENT ON COLUMN ingest_job.vanished IS
    'articles that came from this source and are not in it any more; NULL: not looked for';
COMMENT ON COLUMN ingest_job.total IS 'articles of the source, where it was read beforehand';
COMMENT ON COLUMN ingest_job.claimed IS 'ranges that were claimed so far, from the first on';
COMMENT ON COLUMN ingest_job.ranges IS 'ranges of the source; NULL until its end was read';
UPDATE ingest_job SET added = articles;

ALTER TABLE ingest_error
    ADD COLUMN tries INTEGER DEFAULT 1 NOT NULL,
    ADD COLUMN resolved_at TIMESTAMP WITH TIME ZONE;
COMMENT ON COLUMN ingest_error.tries IS
    'how often this step of this article failed in a row, this time included';
COMMENT ON COLUMN ingest_error.resolved_at IS 'when a later job did what had failed';
CREATE INDEX ix_ingest_error_source_key ON ingest_error (source_key);

ALTER TABLE article
    ADD COLUMN options_hash BYTEA,
    ADD COLUMN job_id BIGINT,
    ADD CONSTRAINT fk_article_job_id FOREIGN KEY (job_id)
        REFERENCES ingest_job (job_id) ON DELETE SET NULL;
COMMENT ON COLUMN article.options_hash IS
    'SHA-256 of what was done to its text: chunker, encoder, tagger, episodes and their options; '
    'NULL for imports';
COMMENT ON COLUMN article.job_id IS 'the job that wrote it last; says from which source it came';
CREATE INDEX ix_article_job_id ON article (job_id);

-- An ingest writes concepts and episodes before it is an article's turn to get its ordinal.
ALTER TABLE cpe_entry ALTER CONSTRAINT fk_cpe_entry_article_id_dataset_source DEFERRABLE;
ALTER TABLE episode ALTER CONSTRAINT fk_episode_article_id DEFERRABLE;

CREATE TABLE ingest_worker (
    worker_id BIGINT GENERATED ALWAYS AS IDENTITY,
    job_id BIGINT NOT NULL,
    name TEXT NOT NULL,
    ranges INTEGER DEFAULT 0 NOT NULL,
    articles INTEGER DEFAULT 0 NOT NULL,
    concepts INTEGER DEFAULT 0 NOT NULL,
    started_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    heartbeat_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    ended_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_ingest_worker PRIMARY KEY (worker_id),
    CONSTRAINT fk_ingest_worker_job_id FOREIGN KEY (job_id)
        REFERENCES ingest_job (job_id) ON DELETE CASCADE
);
CREATE INDEX ix_ingest_worker_job_id ON ingest_worker (job_id);
COMMENT ON COLUMN ingest_worker.name IS 'host and process';
COMMENT ON COLUMN ingest_worker.ranges IS 'ranges that it committed';
COMMENT ON COLUMN ingest_worker.articles IS 'articles that it added or changed';
COMMENT ON COLUMN ingest_worker.concepts IS 'concepts that it wrote';
COMMENT ON TABLE ingest_worker IS 'A process that works on an ingest job.';

CREATE TABLE ingest_range (
    job_id BIGINT NOT NULL,
    ordinal INTEGER NOT NULL,
    worker_id BIGINT,
    "read" INTEGER DEFAULT 0 NOT NULL,
    added INTEGER DEFAULT 0 NOT NULL,
    changed INTEGER DEFAULT 0 NOT NULL,
    unchanged INTEGER DEFAULT 0 NOT NULL,
    failed INTEGER DEFAULT 0 NOT NULL,
    concepts INTEGER DEFAULT 0 NOT NULL,
    seen BIGINT[],
    done_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_ingest_range PRIMARY KEY (job_id, ordinal),
    CONSTRAINT fk_ingest_range_job_id FOREIGN KEY (job_id)
        REFERENCES ingest_job (job_id) ON DELETE CASCADE,
    CONSTRAINT fk_ingest_range_worker_id FOREIGN KEY (worker_id)
        REFERENCES ingest_worker (worker_id) ON DELETE SET NULL,
    CONSTRAINT ck_ingest_range_ordinal CHECK (ordinal >= 0),
    CONSTRAINT ck_ingest_range_done_is_counted
        CHECK ((seen IS NULL) = (done_at IS NULL))
);
CREATE INDEX ix_ingest_range_job_id_ordinal ON ingest_range (job_id, ordinal)
    WHERE done_at IS NULL;
CREATE INDEX ix_ingest_range_worker_id ON ingest_range (worker_id);
COMMENT ON COLUMN ingest_range.ordinal IS 'its place in the source, from 0';
COMMENT ON COLUMN ingest_range.worker_id IS 'who has it, or did it; free where he is not alive';
COMMENT ON COLUMN ingest_range.seen IS 'ids of the articles that it held and that are there';
COMMENT ON TABLE ingest_range IS
    'Some articles of a source, one after the other: what a process claims, and commits as a '
    'whole, in the order of the source. Gone when the job has ended.';

CREATE TABLE ingest_vanished (
    job_id BIGINT NOT NULL,
    source_key TEXT NOT NULL,
    CONSTRAINT pk_ingest_vanished PRIMARY KEY (job_id, source_key),
    CONSTRAINT fk_ingest_vanished_job_id FOREIGN KEY (job_id)
        REFERENCES ingest_job (job_id) ON DELETE CASCADE
);
COMMENT ON TABLE ingest_vanished IS
    'Articles that came from a job''s source and were not in it any more. They were not deleted.';

CREATE VIEW live_ingest_worker AS
SELECT w.worker_id, w.job_id
FROM ingest_worker w
WHERE w.ended_at IS NULL AND w.heartbeat_at > now() - interval '90 seconds'
  AND EXISTS (
    SELECT FROM pg_locks l
    WHERE l.locktype = 'advisory' AND l.granted AND l.classid = 7108201
      AND l.objid::bigint = w.worker_id
      AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  );
COMMENT ON VIEW live_ingest_worker IS
    'Processes whose session still has its lock, and that were heard of lately.';
"""

DOWNGRADE = """
DROP VIEW live_ingest_worker;
DROP TABLE ingest_vanished, ingest_range, ingest_worker;
ALTER TABLE cpe_entry ALTER CONSTRAINT fk_cpe_entry_article_id_dataset_source NOT DEFERRABLE;
ALTER TABLE episode ALTER CONSTRAINT fk_episode_article_id NOT DEFERRABLE;
ALTER TABLE article DROP COLUMN job_id, DROP COLUMN options_hash;
DROP INDEX ix_ingest_error_source_key;
ALTER TABLE ingest_error DROP COLUMN tries, DROP COLUMN resolved_at;
ALTER TABLE ingest_job DROP COLUMN "read", DROP COLUMN added, DROP COLUMN changed,
    DROP COLUMN unchanged, DROP COLUMN failed, DROP COLUMN vanished, DROP COLUMN total,
    DROP COLUMN claimed, DROP COLUMN ranges;
"""


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute(DOWNGRADE)
