"""Vector indexes and benchmarks."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.dialects.postgresql import JSONB, UUID

from lvmdb.db.schema.base import created_at, identity, metadata, one_of

ann_index = Table(
    "ann_index",
    metadata,
    identity("ann_index_id"),
    Column("name", Text, nullable=False, comment="the index's name in the database, or its file"),
    Column("dataset_source", Text, ForeignKey("dataset.dataset_source"), nullable=False),
    Column("engine", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("storage", Text, nullable=False),
    Column("parameters", JSONB, nullable=False),
    Column("vectors", BigInteger, nullable=False, comment="how many it held when built"),
    Column("seconds", Double, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("corpus_fingerprint", LargeBinary, nullable=False),
    created_at(),
    Column("metric", Text, nullable=False, comment="what is nearest: inner product or cosine"),
    Column("workers", Integer, comment="processes that building asked for beside its own"),
    Column("memory", BigInteger, comment="bytes that building might use"),
    Column(
        "corpus_mark",
        Text,
        comment="which versions of rows it was built over: while the mark is the same, the "
        "fingerprint is",
    ),
    Column(
        "query_parameters",
        JSONB,
        comment="what its searches use, ef_search or probes; NULL for the program's default",
    ),
    Column(
        "tuning", JSONB, comment="how query_parameters were found: queries, k, recall, percentile"
    ),
    Column("tuned_fingerprint", LargeBinary, comment="of the corpus that it was tuned on"),
    UniqueConstraint("name"),
    one_of("engine", ("pgvector", "faiss")),
    one_of("kind", ("hnsw", "ivfflat", "flat")),
    one_of("metric", ("ip", "cosine")),
    one_of("storage", ("vector", "halfvec", "bit")),
    comment="A vector index as it was built: parameters, time, size, and over which vectors.",
)

ann_benchmark = Table(
    "ann_benchmark",
    metadata,
    identity("ann_benchmark_id"),
    Column("session_id", UUID, nullable=False, comment="rows of one call, measured side by side"),
    Column(
        "dataset_source",
        Text,
        ForeignKey("dataset.dataset_source"),
        comment="NULL: vectors that were made for the benchmark",
    ),
    Column("corpus_vectors", BigInteger, nullable=False, comment="how many were searched"),
    Column(
        "corpus_fingerprint",
        LargeBinary,
        nullable=False,
        comment="SHA-256 over ids and vectors of the dataset",
    ),
    Column("engine", Text, nullable=False),
    Column("build_parameters", JSONB, nullable=False),
    Column("build_threads", Integer, nullable=False),
    Column("build_seconds", Double, nullable=False),
    Column("build_memory", BigInteger, comment="bytes: FAISS measured, pgvector by its layout"),
    Column("index_bytes", BigInteger, nullable=False, comment="on disk, beside the rows"),
    Column("query_parameters", JSONB, nullable=False),
    Column("query_kind", Text, nullable=False),
    Column(
        "query_run_id",
        BigInteger,
        ForeignKey("experiment_run.run_id", ondelete="SET NULL"),
        comment="whose predictions were asked for",
    ),
    Column("queries", Integer, nullable=False),
    Column("threads", Integer, nullable=False, comment="that ask at the same time"),
    Column("k", Integer, nullable=False, comment="asked for where time was taken"),
    Column("recall", Double, nullable=False, comment="of the first k, against exact search"),
    Column("recall_p5", Double, nullable=False),
    Column("recall_min", Double, nullable=False),
    Column("recall_1", Double, nullable=False),
    Column("recall_1_p5", Double, nullable=False),
    Column("recall_1_min", Double, nullable=False),
    Column("recall_50", Double, comment="NULL: this setting cannot find 50"),
    Column("recall_50_p5", Double),
    Column("recall_50_min", Double),
    Column("parity", Double, comment="share of queries as good as by FAISS with the same graph"),
    Column("queries_per_second", Double, nullable=False, comment="one query a call"),
    Column("batch_queries_per_second", Double, nullable=False, comment="all queries in one call"),
    Column("latency_p50", Double, nullable=False, comment="seconds"),
    Column("latency_p95", Double, nullable=False, comment="seconds"),
    Column("latency_p99", Double, nullable=False, comment="seconds"),
    Column("round_trip_p50", Double, comment="seconds of an empty statement beside it"),
    Column("environment", JSONB, nullable=False),
    created_at(),
    one_of("query_kind", ("held-out", "neighbours", "predictions")),
    CheckConstraint("recall BETWEEN 0 AND 1", name="recall"),
    CheckConstraint(
        "num_nulls(recall_50, recall_50_p5, recall_50_min) IN (0, 3)", name="recall_50"
    ),
    CheckConstraint("parity BETWEEN 0 AND 1", name="parity"),
    CheckConstraint("query_run_id IS NULL OR query_kind = 'predictions'", name="query_run_id"),
    comment="Recall against speed of one engine with one setting.",
)

benchmark = Table(
    "benchmark",
    metadata,
    identity("benchmark_id"),
    Column("session_id", UUID, nullable=False, comment="rows of one call, measured side by side"),
    Column("name", Text, nullable=False),
    Column("subject", Text, nullable=False, comment="what was measured on, e.g. a sequence set"),
    Column("contender", Text, nullable=False),
    Column("value", Double, nullable=False, comment="median of the repetitions"),
    Column("unit", Text, nullable=False),
    Column("samples", JSONB, nullable=False, comment="the repetitions, in order"),
    Column("parameters", JSONB, nullable=False),
    Column("environment", JSONB, nullable=False),
    created_at(),
    comment="One contender of a benchmark, measured beside its peers.",
)
