"""Vector indexes and benchmarks.

Revision: 0004
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

UPGRADE = r"""
CREATE TABLE ann_index (
    ann_index_id BIGINT GENERATED ALWAYS AS IDENTITY,
    name TEXT NOT NULL,
    dataset_source TEXT NOT NULL,
    engine TEXT NOT NULL,
    kind TEXT NOT NULL,
    storage TEXT NOT NULL,
    parameters JSONB NOT NULL,
    vectors BIGINT NOT NULL,
    seconds DOUBLE PRECISION NOT NULL,
    bytes BIGINT NOT NULL,
    corpus_fingerprint BYTEA NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT pk_ann_index PRIMARY KEY (ann_index_id),
    CONSTRAINT uq_ann_index_name UNIQUE (name),
    CONSTRAINT ck_ann_index_engine CHECK (engine IN ('pgvector', 'faiss')),
    CONSTRAINT ck_ann_index_storage CHECK (storage IN ('vector', 'halfvec', 'bit')),
    CONSTRAINT fk_ann_index_dataset_source FOREIGN KEY(dataset_source) REFERENCES dataset (dataset_source)
);
COMMENT ON TABLE ann_index IS 'A vector index as it was built: parameters, time, size, and over which vectors.';
COMMENT ON COLUMN ann_index.name IS 'the index''s name in the database, or its file';
COMMENT ON COLUMN ann_index.vectors IS 'how many it held when built';

CREATE TABLE ann_benchmark (
    ann_benchmark_id BIGINT GENERATED ALWAYS AS IDENTITY,
    session_id UUID NOT NULL,
    dataset_source TEXT NOT NULL,
    engine TEXT NOT NULL,
    build_parameters JSONB NOT NULL,
    query_parameters JSONB NOT NULL,
    queries INTEGER NOT NULL,
    k INTEGER NOT NULL,
    recall DOUBLE PRECISION NOT NULL,
    recall_p5 DOUBLE PRECISION NOT NULL,
    recall_min DOUBLE PRECISION NOT NULL,
    queries_per_second DOUBLE PRECISION NOT NULL,
    latency_p50 DOUBLE PRECISION NOT NULL,
    latency_p95 DOUBLE PRECISION NOT NULL,
    latency_p99 DOUBLE PRECISION NOT NULL,
    environment JSONB NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT pk_ann_benchmark PRIMARY KEY (ann_benchmark_id),
    CONSTRAINT ck_ann_benchmark_recall CHECK (recall BETWEEN 0 AND 1),
    CONSTRAINT fk_ann_benchmark_dataset_source FOREIGN KEY(dataset_source) REFERENCES dataset (dataset_source)
);
COMMENT ON TABLE ann_benchmark IS 'Recall against speed of one engine with one setting.';
COMMENT ON COLUMN ann_benchmark.session_id IS 'rows of one call, measured side by side';
COMMENT ON COLUMN ann_benchmark.latency_p50 IS 'seconds';
COMMENT ON COLUMN ann_benchmark.latency_p95 IS 'seconds';
COMMENT ON COLUMN ann_benchmark.latency_p99 IS 'seconds';

CREATE TABLE benchmark (
    benchmark_id BIGINT GENERATED ALWAYS AS IDENTITY,
    session_id UUID NOT NULL,
    name TEXT NOT NULL,
    subject TEXT NOT NULL,
    contender TEXT NOT NULL,
    value DOUBLE PRECISION NOT NULL,
    unit TEXT NOT NULL,
    samples JSONB NOT NULL,
    parameters JSONB NOT NULL,
    environment JSONB NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT pk_benchmark PRIMARY KEY (benchmark_id)
);
COMMENT ON TABLE benchmark IS 'One contender of a benchmark, measured beside its peers.';
COMMENT ON COLUMN benchmark.session_id IS 'rows of one call, measured side by side';
COMMENT ON COLUMN benchmark.subject IS 'what was measured on, e.g. a sequence set';
COMMENT ON COLUMN benchmark.value IS 'median of the repetitions';
COMMENT ON COLUMN benchmark.samples IS 'the repetitions, in order';
"""

DOWNGRADE = """
DROP TABLE benchmark, ann_benchmark, ann_index;
"""


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute(DOWNGRADE)
