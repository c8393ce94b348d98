"""What runs are for: their places in a schedule, the names under which they are promoted."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from lvmdb.db.schema.base import metadata, named, primary_key

schedule_entry = Table(
    "schedule_entry",
    metadata,
    Column("experiment_id", BigInteger, ForeignKey("experiment.experiment_id", ondelete="CASCADE")),
    Column("week", SmallInteger),
    Column("slot", SmallInteger, comment="place within the week, from 1"),
    Column(
        "stage",
        SmallInteger,
        nullable=False,
        comment="0: fixed from the beginning. Runs of a later stage are chosen when those of all "
        "stages before it are settled",
    ),
    Column("title", Text, nullable=False),
    Column(
        "rule",
        JSONB(none_as_null=True),
        comment="how its run is chosen and, once it is, from what; NULL: fixed from the beginning",
    ),
    Column(
        "run_id",
        BigInteger,
        ForeignKey("experiment_run.run_id"),
        comment="NULL until its turn has come",
    ),
    Column("reason", Text, comment="why there is no run and will be none"),
    primary_key("experiment_id", "week", "slot"),
    UniqueConstraint("run_id"),
    CheckConstraint("week >= 1", name="week"),
    CheckConstraint("slot >= 1", name="slot"),
    CheckConstraint("(stage = 0) = (rule IS NULL) AND stage >= 0", name="stage"),
    CheckConstraint("num_nonnulls(run_id, reason) <= 1", name="run_or_reason"),
    CheckConstraint("stage > 0 OR num_nonnulls(run_id, reason) = 1", name="fixed_has_run"),
    comment="The runs of a schedule, week by week, those included that are yet to be chosen.",
)

run_alias = Table(
    "run_alias",
    metadata,
    Column("name", Text),
    Column("run_id", BigInteger, ForeignKey("experiment_run.run_id"), nullable=False),
    Column("moved_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    primary_key("name"),
    named(),
    comment="Names under which runs are promoted: whoever asks for one gets the run that it "
    "stands for now.",
)
