"""Ingest: jobs, the processes that share them, what they claim, how long they took, what failed."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Double,
    ForeignKey,
    Index,
    Integer,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from lvmdb.db.schema.base import created_at, identity, metadata, one_of, primary_key


def _counter(name: str, comment: str | None = None) -> Column[int]:
    return Column(name, Integer, nullable=False, server_default=text("0"), comment=comment)


ingest_job = Table(
    "ingest_job",
    metadata,
    identity("job_id"),
    Column("dataset_source", Text, ForeignKey("dataset.dataset_source"), nullable=False),
    Column("reader", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("options", JSONB, nullable=False),
    Column("status", Text, nullable=False, server_default=text("'running'")),
    _counter("articles"),
    _counter("concepts"),
    created_at("started_at"),
    Column("finished_at", DateTime(timezone=True)),
    _counter("read", "articles that its ranges held"),
    _counter("added"),
    _counter("changed"),
    _counter("unchanged"),
    _counter("failed", "articles of which nothing is kept: see ingest_error"),
    Column(
        "vanished",
        Integer,
        comment="articles that came from this source and are not in it any more; NULL: not looked "
        "for",
    ),
    Column("total", Integer, comment="articles of the source, where it was read beforehand"),
    _counter("claimed", "ranges that were claimed so far, from the first on"),
    Column("ranges", Integer, comment="ranges of the source; NULL until its end was read"),
    one_of("status", ("running", "succeeded", "failed")),
    comment="One call of `lvmdb ingest run` or `lvmdb import vectors`.",
)

ingest_error = Table(
    "ingest_error",
    metadata,
    identity("error_id"),
    Column(
        "job_id", BigInteger, ForeignKey("ingest_job.job_id", ondelete="CASCADE"), nullable=False
    ),
    Column("source_key", Text, comment="the article; NULL where it could not be read at all"),
    Column("step", Text, nullable=False),
    Column("message", Text, nullable=False),
    created_at(),
    Column(
        "tries",
        Integer,
        nullable=False,
        server_default=text("1"),
        comment="how often this step of this article failed in a row, this time included",
    ),
    Column("resolved_at", DateTime(timezone=True), comment="when a later job did what had failed"),
    Index(None, "job_id"),
    Index(None, "source_key"),
    comment="What could not be ingested, and why. Nothing of such an article is kept.",
)

pipeline_timing = Table(
    "pipeline_timing",
    metadata,
    Column("job_id", BigInteger, ForeignKey("ingest_job.job_id", ondelete="CASCADE")),
    Column("step", Text),
    Column("items", BigInteger, nullable=False),
    Column("seconds", Double, nullable=False),
    primary_key("job_id", "step"),
    comment="How long each step of an ingest took, and for how many items.",
)

ingest_worker = Table(
    "ingest_worker",
    metadata,
    identity("worker_id"),
    Column(
        "job_id", BigInteger, ForeignKey("ingest_job.job_id", ondelete="CASCADE"), nullable=False
    ),
    Column("name", Text, nullable=False, comment="host and process"),
    _counter("ranges", "ranges that it committed"),
    _counter("articles", "articles that it added or changed"),
    _counter("concepts", "concepts that it wrote"),
    created_at("started_at"),
    created_at("heartbeat_at"),
    Column("ended_at", DateTime(timezone=True)),
    Index(None, "job_id"),
    comment="A process that works on an ingest job.",
)

ingest_range = Table(
    "ingest_range",
    metadata,
    Column("job_id", BigInteger, ForeignKey("ingest_job.job_id", ondelete="CASCADE")),
    Column("ordinal", Integer, comment="its place in the source, from 0"),
    Column(
        "worker_id",
        BigInteger,
        ForeignKey("ingest_worker.worker_id", ondelete="SET NULL"),
        comment="who has it, or did it; free where he is not alive",
    ),
    _counter("read"),
    _counter("added"),
    _counter("changed"),
    _counter("unchanged"),
    _counter("failed"),
    _counter("concepts"),
    Column(
        "seen", ARRAY(BigInteger), comment="ids of the articles that it held and that are there"
    ),
    Column("done_at", DateTime(timezone=True)),
    primary_key("job_id", "ordinal"),
    CheckConstraint("ordinal >= 0", name="ordinal"),
    CheckConstraint("(seen IS NULL) = (done_at IS NULL)", name="done_is_counted"),
    Index(None, "job_id", "ordinal", postgresql_where=text("done_at IS NULL")),
    Index(None, "worker_id"),
    comment="Some articles of a source, one after the other: what a process claims, and commits "
    "as a whole, in the order of the source. Gone when the job has ended.",
)

ingest_vanished = Table(
    "ingest_vanished",
    metadata,
    Column("job_id", BigInteger, ForeignKey("ingest_job.job_id", ondelete="CASCADE")),
    Column("source_key", Text),
    primary_key("job_id", "source_key"),
    comment="Articles that came from a job's source and were not in it any more. They were not "
    "deleted.",
)
