"""Datasets, articles, concepts, encoders."""

from __future__ import annotations

from pgvector.sqlalchemy import VECTOR
from sqlalchemy import (
    REAL,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Computed,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, UUID

from lvmdb.db.schema.base import created_at, identity, metadata, named, one_of, primary_key
from lvmdb.db.types import DIMENSION, TMD_DIMENSION

encoder = Table(
    "encoder",
    metadata,
    identity("encoder_id"),
    Column("name", Text, nullable=False),
    Column("kind", Text, comment="what runs it; NULL while it is known by name alone"),
    Column("model", Text, comment="name or folder of its model; NULL: as its own name says"),
    Column("endpoint", Text, comment="its address, of kinds behind HTTP; never holds a key"),
    Column("precision", Text, comment="what it computes in; NULL if not known"),
    Column("revision", Text, comment="SHA-256 of the weights, or the revision at their source"),
    Column("pooling", Text, comment="how token states become one vector; NULL if not known"),
    Column("normalised", Boolean, comment="whether the model itself ends in a normalisation"),
    Column("dimension", Integer, nullable=False, server_default=text(str(DIMENSION))),
    Column("max_tokens", Integer, comment="texts are cut after so many tokens"),
    created_at(),
    UniqueConstraint("name"),
    CheckConstraint(f"dimension = {DIMENSION}", name="dimension"),
    one_of("kind", ("sentence-transformers", "vec2text", "openai", "tei")),
    one_of("precision", ("fp32", "bf16", "fp16", "int8")),
    CheckConstraint(
        "(endpoint IS NOT NULL) = (kind IS NOT NULL AND kind IN ('openai', 'tei'))", name="endpoint"
    ),
    comment="A model that turns text into vectors. Without rows in encoder_probe it is known by "
    "name alone, and nothing may be encoded beside its vectors.",
)

encoder_probe = Table(
    "encoder_probe",
    metadata,
    Column("encoder_id", BigInteger, ForeignKey("encoder.encoder_id", ondelete="CASCADE")),
    Column("ordinal", Integer),
    Column("sentence", Text, nullable=False),
    Column(
        "probe_vec",
        VECTOR(DIMENSION),
        nullable=False,
        comment="as the model gives it: its length, which concepts do not keep, is for decoding",
    ),
    primary_key("encoder_id", "ordinal"),
    comment="An encoder's fingerprint: its vectors of fixed sentences. A loaded model must give "
    "these again before it may encode.",
)

dataset = Table(
    "dataset",
    metadata,
    Column("dataset_source", Text, primary_key=True),
    Column(
        "encoder_id",
        BigInteger,
        ForeignKey("encoder.encoder_id"),
        comment="the one encoder of all its vectors; NULL while it has none",
    ),
    Column(
        "unverified",
        Boolean,
        nullable=False,
        server_default=text("false"),
        comment="vectors were imported, and no model has been held against them since",
    ),
    Column("title", Text),
    created_at(),
    UniqueConstraint("dataset_source", "encoder_id"),
    named("dataset_source"),
    comment="A corpus: articles in their order, all of whose vectors come from one encoder.",
)

article = Table(
    "article",
    metadata,
    identity("article_id"),
    Column("dataset_source", Text, ForeignKey("dataset.dataset_source"), nullable=False),
    Column("source_key", Text, nullable=False, comment="what the source calls the article"),
    Column("ordinal", Integer, nullable=False, comment="its place in the corpus, from 0, no gaps"),
    Column("title", Text, nullable=False),
    Column("url", Text),
    Column(
        "content_hash",
        LargeBinary,
        nullable=False,
        comment="SHA-256 of what its concepts were made from: text, chunker, encoder and their "
        "options; for imports, texts and vectors",
    ),
    Column(
        "text_hash",
        LargeBinary,
        nullable=False,
        comment="SHA-256 of its concepts' texts in order: equal for identical articles",
    ),
    Column(
        "options_hash",
        LargeBinary,
        comment="SHA-256 of what was done to its text: chunker, encoder, tagger, episodes and "
        "their options; NULL for imports",
    ),
    Column(
        "job_id",
        BigInteger,
        ForeignKey("ingest_job.job_id", ondelete="SET NULL"),
        comment="the job that wrote it last; says from which source it came",
    ),
    created_at(),
    UniqueConstraint("dataset_source", "source_key"),
    UniqueConstraint("dataset_source", "ordinal"),
    UniqueConstraint("article_id", "dataset_source"),
    CheckConstraint("ordinal >= 0", name="ordinal"),
    Index(None, "job_id"),
    comment="One text of a dataset.",
)

episode = Table(
    "episode",
    metadata,
    identity("episode_id"),
    Column(
        "article_id",
        BigInteger,
        ForeignKey("article.article_id", ondelete="CASCADE", deferrable=True),
        nullable=False,
    ),
    Column("ordinal", Integer, nullable=False),
    Column("first_seq", Integer, nullable=False),
    Column("last_seq", Integer, nullable=False),
    Column("coherence", REAL, comment="mean cosine of adjacent concepts"),
    UniqueConstraint("article_id", "ordinal"),
    CheckConstraint("ordinal >= 0", name="ordinal"),
    CheckConstraint("0 <= first_seq AND first_seq <= last_seq", name="seq"),
    comment="A run of neighbouring concepts of one article that belong together.",
)

tmd_label = Table(
    "tmd_label",
    metadata,
    Column("vocabulary", SmallInteger),
    Column("kind", Text),
    Column("code", SmallInteger),
    Column("label", Text, nullable=False),
    primary_key("vocabulary", "kind", "code"),
    UniqueConstraint("vocabulary", "kind", "label"),
    one_of("kind", ("domain", "task", "modifier")),
    CheckConstraint("code >= 0", name="code"),
    comment="What the numbers of a domain/task/modifier code mean. A vocabulary never changes.",
)

cpe_entry = Table(
    "cpe_entry",
    metadata,
    Column(
        "cpe_id",
        UUID,
        primary_key=True,
        comment="UUIDv5 of dataset, article key, seq and text: the same concept, the same id",
    ),
    Column("article_id", BigInteger, nullable=False),
    Column("episode_id", BigInteger, ForeignKey("episode.episode_id", ondelete="SET NULL")),
    Column("seq", Integer, nullable=False, comment="place within the article, from 0, no gaps"),
    Column("concept_text", Text, nullable=False),
    Column("probe_question", Text),
    Column("probe_vec", VECTOR(DIMENSION)),
    Column("expected_answer", Text),
    Column("soft_negatives", ARRAY(Text)),
    Column("hard_negatives", ARRAY(Text)),
    Column("domain_code", SmallInteger, comment="0 to 15, see tmd_label; NULL means unknown"),
    Column("task_code", SmallInteger, comment="0 to 31, see tmd_label; NULL means unknown"),
    Column("modifier_code", SmallInteger, comment="0 to 63, see tmd_label; NULL means unknown"),
    Column(
        "tmd_code",
        Text,
        Computed(
            "domain_code::text || '.' || task_code::text || '.' || modifier_code::text",
            persisted=True,
        ),
        comment="domain.task.modifier; NULL when any of them is unknown",
    ),
    Column(
        "tmd_source",
        Text,
        comment="who decided the code, or what is known of it: given, embedding or llm",
    ),
    Column("tmd_vec", VECTOR(TMD_DIMENSION), comment="dense form of the code, unit norm"),
    Column(
        "concept_vec",
        VECTOR(DIMENSION),
        comment="unit norm; stored PLAIN, since training reads it whole and in order",
    ),
    Column("encoder_id", BigInteger),
    Column("dataset_source", Text, nullable=False),
    created_at(),
    UniqueConstraint("article_id", "seq"),
    ForeignKeyConstraint(
        ["article_id", "dataset_source"],
        ["article.article_id", "article.dataset_source"],
        ondelete="CASCADE",
        deferrable=True,  # an ingest writes concepts before it is the article's turn
    ),
    ForeignKeyConstraint(
        ["dataset_source", "encoder_id"], ["dataset.dataset_source", "dataset.encoder_id"]
    ),
    CheckConstraint("seq >= 0", name="seq"),
    CheckConstraint("concept_text <> ''", name="concept_text"),
    CheckConstraint("(concept_vec IS NULL) = (encoder_id IS NULL)", name="vector_has_encoder"),
    CheckConstraint("vector_norm(concept_vec) BETWEEN 0.99 AND 1.01", name="concept_vec_norm"),
    CheckConstraint("vector_norm(probe_vec) BETWEEN 0.99 AND 1.01", name="probe_vec_norm"),
    CheckConstraint("vector_norm(tmd_vec) BETWEEN 0.99 AND 1.01", name="tmd_vec_norm"),
    CheckConstraint("domain_code BETWEEN 0 AND 15", name="domain_code"),
    CheckConstraint("task_code BETWEEN 0 AND 31", name="task_code"),
    CheckConstraint("modifier_code BETWEEN 0 AND 63", name="modifier_code"),
    one_of("tmd_source", ("given", "embedding", "llm")),
    CheckConstraint(
        "(num_nonnulls(domain_code, task_code, modifier_code) = 0) = (tmd_source IS NULL)",
        name="tmd_has_source",
    ),
    Index(None, "dataset_source"),
    Index(None, "episode_id"),
    # For searches among concepts of a code; where there are no codes, it is empty.
    Index(
        None,
        *("dataset_source", "domain_code", "task_code", "modifier_code"),
        postgresql_where=text("domain_code IS NOT NULL"),
    ),
    comment="The concept: one passage of an article, its place, its vector and its code.",
)
