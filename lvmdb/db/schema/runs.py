"""Experiments: runs, their metrics and checkpoints, predictions and evaluations."""

from __future__ import annotations

from pgvector.sqlalchemy import VECTOR
from sqlalchemy import (
    REAL,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Double,
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
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, UUID

from lvmdb.db.schema.base import created_at, identity, metadata, named, one_of, primary_key
from lvmdb.db.types import DIMENSION, SPLITS

STATUSES = ("planned", "queued", "running", "succeeded", "failed", "cancelled")
KINDS = ("model", "baseline", "ensemble")

experiment = Table(
    "experiment",
    metadata,
    identity("experiment_id"),
    Column("name", Text, nullable=False),
    Column("description", Text),
    created_at(),
    UniqueConstraint("name"),
    named(),
    comment="Runs that belong together.",
)

experiment_run = Table(
    "experiment_run",
    metadata,
    identity("run_id"),
    Column("experiment_id", BigInteger, ForeignKey("experiment.experiment_id")),
    Column("kind", Text, nullable=False),
    Column("architecture", Text, nullable=False),
    Column("hyperparameters", JSONB, nullable=False, comment="every option, defaults included"),
    Column("loss", Text, comment="NULL for what is not trained by gradients"),
    Column("sequence_set_id", BigInteger, nullable=False),
    Column(
        "sequence_fingerprint",
        LargeBinary,
        nullable=False,
        comment="fingerprint of the data that the run was made for",
    ),
    Column("seed", BigInteger, nullable=False, server_default=text("0")),
    Column("status", Text, nullable=False, server_default=text("'planned'")),
    Column(
        "stamps",
        ARRAY(Text),
        nullable=False,
        server_default=text("'{}'"),
        comment="exceptions that anyone who reads its numbers must know, e.g. scope=corpus",
    ),
    Column("code_version", Text),
    Column("code_dirty", Boolean, comment="whether the code had changes that are in no commit"),
    Column("environment", JSONB, comment="versions, processor, threads"),
    Column("device", Text),
    Column("kernel", Text, comment="the implementation that ran"),
    Column("parameter_count", BigInteger),
    Column("heartbeat_at", DateTime(timezone=True)),
    Column("worker", Text, comment="host and process that run it"),
    Column("error", Text),
    Column("traceback", Text),
    Column("parent_run_id", BigInteger, ForeignKey("experiment_run.run_id")),
    Column("schedule_week", SmallInteger),
    Column("schedule_slot", SmallInteger),
    created_at(),
    Column("started_at", DateTime(timezone=True)),
    Column("finished_at", DateTime(timezone=True)),
    # A draft has no fingerprint, so that only a frozen set can have runs.
    ForeignKeyConstraint(
        ["sequence_set_id", "sequence_fingerprint"],
        ["sequence_set.sequence_set_id", "sequence_set.fingerprint"],
    ),
    one_of("kind", KINDS),
    one_of("status", STATUSES),
    CheckConstraint("(kind = 'model') = (loss IS NOT NULL)", name="model_has_loss"),
    CheckConstraint("status <> 'failed' OR error IS NOT NULL", name="failure_has_error"),
    Index(None, "sequence_set_id"),
    comment="One training of one configuration on one sequence set with one seed. Baselines and "
    "ensembles are runs too.",
)

run_metric = Table(
    "run_metric",
    metadata,
    Column("run_id", BigInteger, ForeignKey("experiment_run.run_id", ondelete="CASCADE")),
    Column("name", Text),
    Column("split", Text),
    Column("step", BigInteger),
    Column("epoch", Integer, nullable=False),
    Column("value", Double, nullable=False),
    created_at("recorded_at"),
    primary_key("run_id", "name", "split", "step"),
    one_of("split", SPLITS),
    comment="What training measured, epoch by epoch.",
)

checkpoint = Table(
    "checkpoint",
    metadata,
    identity("checkpoint_id"),
    Column(
        "run_id",
        BigInteger,
        ForeignKey("experiment_run.run_id", ondelete="CASCADE"),
        nullable=False,
    ),
    Column("kind", Text, nullable=False, comment="best on validation, or last: where to go on"),
    Column("epoch", Integer, nullable=False),
    Column("step", BigInteger, nullable=False),
    Column("architecture", Text, nullable=False),
    Column("config", JSONB, nullable=False),
    Column("progress", JSONB, nullable=False, comment="the training loop's own state"),
    Column("bytes", BigInteger, nullable=False),
    Column("sha256", LargeBinary, nullable=False, comment="of the safetensors bytes"),
    created_at(),
    UniqueConstraint("run_id", "kind"),
    one_of("kind", ("best", "last")),
    comment="A model's weights as safetensors, with an input and the output that they gave for "
    "it: loading computes the output again and refuses a difference.",
)

checkpoint_chunk = Table(
    "checkpoint_chunk",
    metadata,
    Column("checkpoint_id", BigInteger, ForeignKey("checkpoint.checkpoint_id", ondelete="CASCADE")),
    Column("ordinal", Integer),
    Column("data", LargeBinary, nullable=False),
    primary_key("checkpoint_id", "ordinal"),
    comment="The bytes of a checkpoint, in order.",
)

prediction = Table(
    "prediction",
    metadata,
    Column("run_id", BigInteger, ForeignKey("experiment_run.run_id", ondelete="CASCADE")),
    Column("target_cpe_id", UUID, ForeignKey("cpe_entry.cpe_id")),
    Column("split", Text, nullable=False),
    Column("predicted_vec", VECTOR(DIMENSION), nullable=False),
    Column("cosine", REAL, nullable=False, comment="of prediction and truth"),
    Column("margin", REAL, nullable=False, comment="cosine less that to the last context vector"),
    Column("mse", REAL, nullable=False, comment="mean over the dimensions"),
    Column("better", Integer, nullable=False, comment="candidates nearer than the truth"),
    Column("tied", Integer, nullable=False, comment="candidates as near as the truth"),
    Column(
        "candidates",
        Integer,
        nullable=False,
        comment="pool less the context and the truth's duplicates",
    ),
    primary_key("run_id", "target_cpe_id"),
    one_of("split", SPLITS),
    Index(None, "target_cpe_id"),
    comment="The vector that a run predicts for each window, and where its truth ranks among "
    "all concepts of the dataset.",
)

evaluation = Table(
    "evaluation",
    metadata,
    identity("evaluation_id"),
    Column(
        "run_id",
        BigInteger,
        ForeignKey("experiment_run.run_id", ondelete="CASCADE"),
        nullable=False,
    ),
    Column("split", Text, nullable=False),
    Column("pool", Text, nullable=False, comment="what the truth was ranked among"),
    Column("metric", Text, nullable=False),
    Column("version", Integer, nullable=False, comment="of the metric's definition"),
    Column("value", Double, nullable=False),
    Column("low", Double, comment="lower end of the 95 % interval; NULL if not computed"),
    Column("high", Double, comment="upper end of the 95 % interval; NULL if not computed"),
    Column("pool_size", Integer, nullable=False),
    Column(
        "pool_fingerprint",
        LargeBinary,
        nullable=False,
        comment="SHA-256 over the pool's ids and vectors: only values of one pool are compared",
    ),
    Column("queries", Integer, nullable=False),
    Column("distinct_truths", Integer, nullable=False),
    Column("chance", Double, nullable=False, comment="value of a concept drawn at random"),
    Column("checkpoint_sha256", LargeBinary, comment="the weights; NULL for what has none"),
    Column("code_version", Text),
    created_at(),
    UniqueConstraint("run_id", "split", "pool", "metric", "version"),
    one_of("split", SPLITS),
    CheckConstraint("queries > 0", name="queries"),
    CheckConstraint("distinct_truths BETWEEN 1 AND queries", name="distinct_truths"),
    CheckConstraint("pool_size > 1", name="pool_size"),
    comment="What a run is worth on one split, by one metric, among one pool of candidates.",
)

candidate_pool = Table(
    "candidate_pool",
    metadata,
    identity("candidate_pool_id"),
    Column("name", Text, nullable=False),
    Column(
        "sequence_set_id",
        BigInteger,
        ForeignKey("sequence_set.sequence_set_id", ondelete="CASCADE"),
        nullable=False,
    ),
    Column("split", Text, nullable=False),
    Column("seed", BigInteger, nullable=False),
    created_at(),
    UniqueConstraint("name"),
    named(),
    one_of("split", SPLITS),
    comment="Distractors drawn once for the windows of a split, so that every run meets the same.",
)

candidate = Table(
    "candidate",
    metadata,
    Column(
        "candidate_pool_id",
        BigInteger,
        ForeignKey("candidate_pool.candidate_pool_id", ondelete="CASCADE"),
    ),
    Column("target_cpe_id", UUID, ForeignKey("cpe_entry.cpe_id")),
    Column("candidate_cpe_id", UUID, ForeignKey("cpe_entry.cpe_id")),
    Column("stratum", Text, nullable=False),
    primary_key("candidate_pool_id", "target_cpe_id", "candidate_cpe_id"),
    one_of("stratum", ("same_article", "other_article")),
    CheckConstraint("target_cpe_id <> candidate_cpe_id", name="not_the_truth"),
    comment="One distractor of a candidate pool.",
)

ensemble_member = Table(
    "ensemble_member",
    metadata,
    Column("ensemble_run_id", BigInteger, ForeignKey("experiment_run.run_id", ondelete="CASCADE")),
    Column("member_run_id", BigInteger, ForeignKey("experiment_run.run_id")),
    Column("weight", Double, nullable=False),
    primary_key("ensemble_run_id", "member_run_id"),
    CheckConstraint("ensemble_run_id <> member_run_id", name="not_itself"),
    CheckConstraint("weight >= 0", name="weight"),
    comment="The runs that an ensemble is made of.",
)
