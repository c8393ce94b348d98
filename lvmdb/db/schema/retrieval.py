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
    UniqueConstraint("name"),
    one_of("engine", ("pgvector", "faiss")),
    one_of("storage", ("vector", "halfvec", "bit")),
    comment="A vector index as it was built: parameters, time, size, and over which vectors.",
)

ann_benchmark = Table(
    "ann_benchmark",
    metadata,
    identity("ann_benchmark_id"),
    Column("session_id", UUID, nullable=False, comment="rows of one call, measured side by side"),
    Column("dataset_source", Text, ForeignKey("dataset.dataset_source"), nullable=False),
    Column("engine", Text, nullable=False),
    Column("build_parameters", JSONB, nullable=False),
    Column("query_parameters", JSONB, nullable=False),
    Column("queries", Integer, nullable=False),
    Column("k", Integer, nullable=False),
    Column("recall", Double, nullable=False),
    Column("recall_p5", Double, nullable=False),
    Column("recall_min", Double, nullable=False),
    Column("queries_per_second", Double, nullable=False),
    Column("latency_p50", Double, nullable=False, comment="seconds"),
    Column("latency_p95", Double, nullable=False, comment="seconds"),
    Column("latency_p99", Double, nullable=False, comment="seconds"),
    Column("environment", JSONB, nullable=False),
    created_at(),
    CheckConstraint("recall BETWEEN 0 AND 1", name="recall"),
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
