"""Benchmarks of retrieval: on what, built how fast, asked what, by how many threads.

Nothing has written rows into the table before.

Revision: 0010
"""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

UPGRADE = """
DROP TABLE ann_benchmark;

CREATE TABLE ann_benchmark (
    ann_benchmark_id BIGINT GENERATED ALWAYS AS IDENTITY,
    session_id UUID NOT NULL,
    dataset_source TEXT,
    corpus_vectors BIGINT NOT NULL,
    corpus_fingerprint BYTEA NOT NULL,
    engine TEXT NOT NULL,
    build_parameters JSONB NOT NULL,
    build_threads INTEGER NOT NULL,
    build_seconds DOUBLE PRECISION NOT NULL,
    build_memory BIGINT,
    index_bytes BIGINT NOT NULL,
    query_parameters JSONB NOT NULL,
    query_kind TEXT NOT NULL,
    query_run_id BIGINT,
    queries INTEGER NOT NULL,
    threads INTEGER NOT NULL,
    k INTEGER NOT NULL,
    recall DOUBLE PRECISION NOT NULL,
    recall_p5 DOUBLE PRECISION NOT NULL,
    recall_min DOUBLE PRECISION NOT NULL,
    recall_1 DOUBLE PRECISION NOT NULL,
    recall_1_p5 DOUBLE PRECISION NOT NULL,
    recall_1_min DOUBLE PRECISION NOT NULL,
    recall_50 DOUBLE PRECISION,
    recall_50_p5 DOUBLE PRECISION,
    recall_50_min DOUBLE PRECISION,
    parity DOUBLE PRECISION,
    queries_per_second DOUBLE PRECISION NOT NULL,
    batch_queries_per_second DOUBLE PRECISION NOT NULL,
    latency_p50 DOUBLE PRECISION NOT NULL,
    latency_p95 DOUBLE PRECISION NOT NULL,
    latency_p99 DOUBLE PRECISION NOT NULL,
    round_trip_p50 DOUBLE PRECISION,
    environment JSONB NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT pk_ann_benchmark PRIMARY KEY (ann_benchmark_id),
    CONSTRAINT ck_ann_benchmark_query_kind CHECK (query_kind IN ('held-out', 'neighbours', 'predictions')),
    CONSTRAINT ck_ann_benchmark_recall CHECK (recall BETWEEN 0 AND 1),
    CONSTRAINT ck_ann_benchmark_recall_50 CHECK (num_nulls(recall_50, recall_50_p5, recall_50_min) IN (0, 3)),
    CONSTRAINT ck_ann_benchmark_parity CHECK (parity BETWEEN 0 AND 1),
    CONSTRAINT ck_ann_benchmark_query_run_id CHECK (query_run_id IS NULL OR query_kind = 'predictions'),
    CONSTRAINT fk_ann_benchmark_dataset_source FOREIGN KEY(dataset_source) REFERENCES dataset (dataset_source),
    CONSTRAINT fk_ann_benchmark_query_run_id FOREIGN KEY(query_run_id) REFERENCES experiment_run (run_id) ON DELETE SET NULL
);
COMMENT ON TABLE ann_benchmark IS 'Recall against speed of one engine with one setting.';
COMMENT ON COLUMN ann_benchmark.session_id IS 'rows of one call, measured side by side';
COMMENT ON COLUMN ann_benchmark.dataset_source IS 'NULL: vectors that were made for the benchmark';
COMMENT ON COLUMN ann_benchmark.corpus_vectors IS 'how many were searched';
COMMENT ON COLUMN ann_benchmark.corpus_fingerprint IS 'SHA-256 over ids and vectors of the dataset';
COMMENT ON COLUMN ann_benchmark.build_memory IS 'bytes: FAISS measured, pgvector by its layout';
COMMENT ON COLUMN ann_benchmark.index_bytes IS 'on disk, beside the rows';
COMMENT ON COLUMN ann_benchmark.query_run_id IS 'whose predictions were asked for';
COMMENT ON COLUMN ann_benchmark.threads IS 'that ask at the same time';
COMMENT ON COLUMN ann_benchmark.k IS 'asked for where time was taken';
COMMENT ON COLUMN ann_benchmark.recall IS 'of the first k, against exact search';
COMMENT ON COLUMN ann_benchmark.recall_50 IS 'NULL: this setting cannot find 50';
COMMENT ON COLUMN ann_benchmark.parity IS 'share of queries as good as by FAISS with the same graph';
COMMENT ON COLUMN ann_benchmark.queries_per_second IS 'one query a call';
COMMENT ON COLUMN ann_benchmark.batch_queries_per_second IS 'all queries in one call';
COMMENT ON COLUMN ann_benchmark.latency_p50 IS 'seconds';
COMMENT ON COLUMN ann_benchmark.latency_p95 IS 'seconds';
COMMENT ON COLUMN ann_benchmark.latency_p99 IS 'seconds';
COMMENT ON COLUMN ann_benchmark.round_trip_p50 IS 'seconds of an empty statement beside it';
"""

DOWNGRADE = """
DROP TABLE ann_benchmark;

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
"""


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute(DOWNGRADE)
