"""Evaluation: predictions, candidate pools, metrics with their intervals, targets of success."""

from __future__ import annotations

from pgvector.sqlalchemy import VECTOR
from sqlalchemy import (
    REAL,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.dialects.postgresql import UUID

from lvmdb.db.schema.base import created_at, identity, metadata, named, one_of, primary_key
from lvmdb.db.types import DIMENSION, SPLITS

VERDICTS = ("better", "not distinguishable", "worse", "too few articles")

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
    Column(
        "direction",
        SmallInteger,
        nullable=False,
        comment="1: higher is better, -1: lower is, 0: a gauge that decides nothing",
    ),
    Column("articles", Integer, comment="articles that the queries come from"),
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
    Column("code_dirty", Boolean, comment="whether the code had changes that are in no commit"),
    created_at(),
    UniqueConstraint("run_id", "split", "pool", "metric", "version"),
    one_of("split", SPLITS),
    CheckConstraint("direction IN (-1, 0, 1)", name="direction"),
    CheckConstraint("low <= high", name="interval"),
    CheckConstraint("queries > 0", name="queries"),
    CheckConstraint("distinct_truths BETWEEN 1 AND queries", name="distinct_truths"),
    CheckConstraint("pool_size > 1", name="pool_size"),
    comment="What a run is worth on one split, by one metric, among one pool of candidates.",
)

evaluation_article = Table(
    "evaluation_article",
    metadata,
    Column("evaluation_id", BigInteger, ForeignKey("evaluation.evaluation_id", ondelete="CASCADE")),
    Column("article_id", BigInteger, ForeignKey("article.article_id")),
    Column("total", Double, nullable=False, comment="of the metric over the article's queries"),
    Column(
        "weight",
        Double,
        nullable=False,
        comment="what the total is divided by: queries, or for a ratio the sum of denominators",
    ),
    primary_key("evaluation_id", "article_id"),
    Index(None, "article_id"),
    comment="An evaluation by article: its value is sum(total) / sum(weight), and its interval "
    "comes from drawing articles with replacement.",
)

evaluation_difference = Table(
    "evaluation_difference",
    metadata,
    Column("evaluation_id", BigInteger, ForeignKey("evaluation.evaluation_id", ondelete="CASCADE")),
    Column(
        "baseline_evaluation_id",
        BigInteger,
        ForeignKey("evaluation.evaluation_id", ondelete="CASCADE"),
    ),
    Column("difference", Double, nullable=False, comment="value less the baseline's"),
    Column("low", Double, comment="lower end of the 95 % interval; NULL with too few articles"),
    Column("high", Double, comment="upper end of the 95 % interval; NULL with too few articles"),
    Column("verdict", Text, comment="NULL for a gauge"),
    primary_key("evaluation_id", "baseline_evaluation_id"),
    Index(None, "baseline_evaluation_id"),
    one_of("verdict", VERDICTS),
    CheckConstraint("evaluation_id <> baseline_evaluation_id", name="not_itself"),
    CheckConstraint("low <= high", name="interval"),
    comment="How far an evaluation is from a baseline's, of the same metric on the same windows "
    "among the same candidates; both are drawn by the same articles.",
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
    Column(
        "fingerprint", LargeBinary, nullable=False, comment="SHA-256 over targets and candidates"
    ),
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

success_target = Table(
    "success_target",
    metadata,
    Column("name", Text),
    Column("metric", Text, nullable=False, comment="of the report, e.g. cosine"),
    Column("comparison", Text, nullable=False),
    Column("value", Double, nullable=False),
    Column("unit", Text, nullable=False),
    Column("description", Text, nullable=False),
    primary_key("name"),
    named(),
    one_of("comparison", (">", ">=", "<", "<=")),
    comment="What a run is wanted to reach. Rows may be added and changed.",
)
