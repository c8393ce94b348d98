"""Experiments: runs, their metrics and checkpoints, the members of ensembles."""

from __future__ import annotations

from sqlalchemy import (
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
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from lvmdb.db.schema.base import created_at, identity, metadata, named, one_of, primary_key
from lvmdb.db.types import SPLITS

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
    Column(
        "seen_fingerprint",
        LargeBinary,
        comment="fingerprint of the rows that training read, computed again when it began",
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
    CheckConstraint("seen_fingerprint = sequence_fingerprint", name="seen_fingerprint"),
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
    Column("epoch", Integer, nullable=False, comment="epochs that were done"),
    Column(
        "batch",
        Integer,
        nullable=False,
        server_default=text("0"),
        comment="global batches of the epoch after those that were done",
    ),
    Column("step", BigInteger, nullable=False),
    Column("architecture", Text, nullable=False),
    Column("config", JSONB, nullable=False),
    Column("progress", JSONB, nullable=False, comment="the training loop's own state"),
    Column("bytes", BigInteger, nullable=False),
    Column("sha256", LargeBinary, nullable=False, comment="of the safetensors bytes"),
    created_at(),
    UniqueConstraint("run_id", "kind"),
    one_of("kind", ("best", "last")),
    CheckConstraint("batch >= 0", name="batch"),
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
