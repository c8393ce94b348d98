"""Decoding: how near a concept must be to be taken for what a vector says."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, UUID

from lvmdb.db.schema.base import created_at, identity, metadata, one_of
from lvmdb.db.types import SPLITS

CALIBRATED_ON = ("predictions", "truths", "held-out")

decoding_calibration = Table(
    "decoding_calibration",
    metadata,
    identity("decoding_calibration_id"),
    Column("session_id", UUID, nullable=False, comment="rows of one call, over the same windows"),
    Column(
        "dataset_source",
        Text,
        ForeignKey("dataset.dataset_source"),
        nullable=False,
        comment="whose concepts were searched",
    ),
    Column("encoder_id", BigInteger, ForeignKey("encoder.encoder_id"), nullable=False),
    Column("vectors", BigInteger, nullable=False, comment="how many were searched"),
    Column(
        "sequence_set_id",
        BigInteger,
        ForeignKey("sequence_set.sequence_set_id", ondelete="CASCADE"),
        nullable=False,
        comment="whose windows were asked for",
    ),
    Column("split", Text, nullable=False),
    Column(
        "calibrated_on",
        Text,
        nullable=False,
        comment="predictions: of a run; truths: the vectors that it should have predicted; "
        "held-out: those, their own concept not to be found, as of a text that the corpus lacks",
    ),
    Column(
        "run_id",
        BigInteger,
        ForeignKey("experiment_run.run_id", ondelete="CASCADE"),
        comment="whose predictions",
    ),
    Column("threshold", Double, nullable=False, comment="least cosine of a nearest concept"),
    Column("queries", Integer, nullable=False),
    Column("hits", Integer, nullable=False, comment="queries whose nearest concept is as near"),
    Column(
        "accuracy",
        Double,
        comment="share of hits whose text is the truth's; NULL without hits, or where the truth "
        "was not to be found",
    ),
    Column(
        "same_article",
        Double,
        comment="share of hits that are of the truth's article; NULL without hits",
    ),
    Column("latency_p50", Double, nullable=False, comment="seconds of one search with its text"),
    Column("latency_p95", Double, nullable=False, comment="seconds"),
    Column(
        "chosen",
        Boolean,
        nullable=False,
        server_default=text("false"),
        comment="the best of its session: the newest one decides",
    ),
    Column("environment", JSONB, nullable=False),
    created_at(),
    one_of("split", SPLITS),
    one_of("calibrated_on", CALIBRATED_ON),
    CheckConstraint("(calibrated_on = 'predictions') = (run_id IS NOT NULL)", name="run_id"),
    CheckConstraint("hits BETWEEN 0 AND queries AND queries > 0", name="hits"),
    CheckConstraint("threshold BETWEEN -1 AND 1", name="threshold"),
    Index(
        "uq_decoding_calibration_chosen",
        "session_id",
        unique=True,
        postgresql_where=text("chosen"),
    ),
    comment="How often the nearest concept is near enough, and right, by how near that is.",
)
