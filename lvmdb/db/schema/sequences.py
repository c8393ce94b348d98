"""Sequence sets: which windows are trained on, validated on and tested on."""

from __future__ import annotations

from sqlalchemy import (
    REAL,
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    Numeric,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import UUID

from lvmdb.db.schema.base import created_at, identity, metadata, named, one_of, primary_key
from lvmdb.db.types import SPLITS

sequence_set = Table(
    "sequence_set",
    metadata,
    identity("sequence_set_id"),
    Column("name", Text, nullable=False),
    Column("dataset_source", Text, nullable=False),
    Column("encoder_id", BigInteger, nullable=False),
    Column("context_len", Integer, nullable=False),
    Column("stride", Integer, nullable=False, server_default=text("1")),
    Column(
        "scope",
        Text,
        nullable=False,
        server_default=text("'article'"),
        comment="article: no window leaves its article. corpus: windows run across articles and "
        "are split in order; it exists only to reproduce old numbers",
    ),
    Column("train_fraction", Numeric(5, 4), nullable=False),
    Column("val_fraction", Numeric(5, 4), nullable=False),
    Column("test_fraction", Numeric(5, 4), nullable=False),
    Column("seed", BigInteger, nullable=False, server_default=text("0")),
    Column(
        "shards",
        SmallInteger,
        nullable=False,
        server_default=text("16"),
        comment="virtual shards among which its articles are dealt out: a power of two, and the "
        "most processes that can train on it together",
    ),
    Column("max_concepts", Integer, comment="at most so many, a seeded sample of whole articles"),
    Column(
        "within_set_id",
        BigInteger,
        ForeignKey("sequence_set.sequence_set_id"),
        comment="the frozen set whose articles it takes its own from, each with its split",
    ),
    Column("frozen_at", DateTime(timezone=True), comment="from then on nothing of it may change"),
    Column(
        "fingerprint",
        LargeBinary,
        comment="SHA-256 over its definition and, in order, source_key, seq, text and vector",
    ),
    Column("articles", Integer),
    Column("concepts", Integer),
    Column("train_windows", Integer),
    Column("val_windows", Integer),
    Column("test_windows", Integer),
    Column(
        "allowed_leaks",
        Integer,
        nullable=False,
        server_default=text("0"),
        comment="pairs of concepts across splits that were admitted",
    ),
    Column("leaks", Integer, comment="pairs that were found on freezing; NULL: not looked for"),
    created_at(),
    UniqueConstraint("name"),
    UniqueConstraint("sequence_set_id", "dataset_source"),
    UniqueConstraint("sequence_set_id", "fingerprint"),
    ForeignKeyConstraint(
        ["dataset_source", "encoder_id"], ["dataset.dataset_source", "dataset.encoder_id"]
    ),
    named(),
    CheckConstraint("context_len >= 1", name="context_len"),
    CheckConstraint("stride >= 1", name="stride"),
    one_of("scope", ("article", "corpus")),
    CheckConstraint(
        "train_fraction > 0 AND val_fraction >= 0 AND test_fraction >= 0 "
        "AND train_fraction + val_fraction + test_fraction = 1",
        name="fractions",
    ),
    CheckConstraint("max_concepts > context_len", name="max_concepts"),
    CheckConstraint("within_set_id IS NULL OR scope = 'article'", name="within_set_id"),
    CheckConstraint("shards BETWEEN 1 AND 1024 AND shards & (shards - 1) = 0", name="shards"),
    CheckConstraint("allowed_leaks >= 0", name="allowed_leaks"),
    # Windows across articles share concepts at the borders of the splits: that is their nature.
    CheckConstraint("leaks BETWEEN 0 AND allowed_leaks OR scope = 'corpus'", name="leaks"),
    CheckConstraint(
        "num_nulls(frozen_at, fingerprint, articles, concepts, train_windows, val_windows, "
        "test_windows) IN (0, 7)",
        name="frozen_is_counted",
    ),
    comment="A definition of training examples over one dataset. Frozen, it never changes: its "
    "counts and fingerprint are checked whenever a run starts.",
)

sequence_article = Table(
    "sequence_article",
    metadata,
    Column("sequence_set_id", BigInteger),
    Column("article_id", BigInteger),
    Column("dataset_source", Text, nullable=False),
    Column("position", Integer, nullable=False, comment="place in the order that was split"),
    Column(
        "split", Text, comment="NULL where scope is corpus: there windows are split, not articles"
    ),
    Column("concepts", Integer, nullable=False, comment="how many the article has"),
    primary_key("sequence_set_id", "article_id"),
    UniqueConstraint("sequence_set_id", "position"),
    ForeignKeyConstraint(
        ["sequence_set_id", "dataset_source"],
        ["sequence_set.sequence_set_id", "sequence_set.dataset_source"],
        ondelete="CASCADE",
    ),
    ForeignKeyConstraint(
        ["article_id", "dataset_source"], ["article.article_id", "article.dataset_source"]
    ),
    one_of("split", SPLITS),
    CheckConstraint("position >= 0", name="position"),
    CheckConstraint("concepts >= 1", name="concepts"),
    Index(None, "article_id"),
    comment="The articles of a sequence set, and the split of each.",
)

sequence_leak = Table(
    "sequence_leak",
    metadata,
    Column(
        "sequence_set_id",
        BigInteger,
        ForeignKey("sequence_set.sequence_set_id", ondelete="CASCADE"),
    ),
    Column("cpe_id", UUID, ForeignKey("cpe_entry.cpe_id")),
    Column("other_cpe_id", UUID, ForeignKey("cpe_entry.cpe_id")),
    Column("split", Text, nullable=False),
    Column("other_split", Text, nullable=False),
    Column("cosine", REAL, nullable=False),
    primary_key("sequence_set_id", "cpe_id", "other_cpe_id"),
    one_of("split", SPLITS),
    one_of("other_split", SPLITS),
    CheckConstraint("split <> other_split", name="across_splits"),
    Index(None, "cpe_id"),
    Index(None, "other_cpe_id"),
    comment="Concepts in different splits of a frozen set that are nearly the same vector.",
)
